"""The net in OpenVINO, and quantised for it by NNCF."""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.compare.contender import Call
from benchmarks.compare.peer_torch import Bind
from verydeep.errors import UserError
from verydeep.speed.openvino_backend import import_nncf, import_openvino


def openvino_net(twin: nn.Module, example: Tensor, threads: int, *, precision: str, calibrate: Tensor | None) -> Bind:
    """A net converted from torch and compiled for the processor.

    Args:
        twin: in evaluation mode.
        example: normalised images of the shape to come.
        threads: of its own.
        precision: fp32, bf16 or int8.
        calibrate: normalised images that fix the ranges of int8.
    """
    openvino = _imported(import_openvino, "openvino")
    model = openvino.convert_model(twin, example_input=example, input=[example.shape])
    if precision == "int8":
        assert calibrate is not None
        model = _quantised(model, calibrate, len(example))
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    settings["INFERENCE_PRECISION_HINT"] = "bf16" if precision == "bf16" else "f32"
    compiled = openvino.compile_model(model, "CPU", settings)

    def bind(x: Tensor) -> Call:
        array = x.numpy()
        return lambda: torch.from_numpy(compiled(array)[0].copy())

    return bind


def _quantised(model: Any, images: Tensor, batch: int) -> Any:  # noqa: ANN401 - openvino ships no types
    nncf = _imported(import_nncf, "nncf")
    parts = [part.numpy() for part in images.split(batch) if len(part) == batch]
    with contextlib.redirect_stdout(io.StringIO()):  # its bars
        return nncf.quantize(model, nncf.Dataset(parts), subset_size=len(parts))


def _imported(how: Callable[[], Any], name: str) -> Any:  # noqa: ANN401
    """Imports a library as ours does, without its telemetry; the bench knows a missing one by its ImportError."""
    try:
        return how()
    except UserError as error:
        raise ImportError(str(error), name=name) from error
