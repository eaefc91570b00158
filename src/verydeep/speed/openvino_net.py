"""A net computed by OpenVINO, in bfloat16 or, quantised by NNCF, in int8: the one file that knows both libraries."""

import io
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Num
from numpy import ndarray
from torch import Tensor

from verydeep.errors import UserError
from verydeep.nets.graph import Backend, Folded, folded, fully_connected, over_positions, windows_by_parts
from verydeep.nets.net import VeryDeep
from verydeep.paper import constants

INSTALL = 'pip install "verydeep[openvino]"'
"""What gets the libraries."""


def openvino_version() -> str | None:
    """The version of OpenVINO, such as 2026.4.1; None where it is not installed."""
    return _installed("openvino")


def nncf_version() -> str | None:
    """The version of NNCF, which quantises; None where it is not installed."""
    return _installed("nncf")


class OpenVinoNet(Backend):
    """The layers of a net as graphs of OpenVINO's: the convolutions, the fully connected layers, and both in one.

    The graphs are built here, layer by layer. Crops take the one of all layers, images of any size one after the other;
    each is compiled when it is first used. The mean is subtracted before, in float32. Not to be called by two threads
    at once: what ``features`` gives is a view of OpenVINO's memory.

    Args:
        net: in float32, on the processor.
        precision: of the products: fp32, bf16 or int8.
        calibrate: for int8, batches of images, n,3,h,w, such as the net will see: what they reach fixes the scales.

    Raises:
        UserError: OpenVINO, or for int8 NNCF, is not installed.
    """

    def __init__(self, net: VeryDeep, precision: str, calibrate: Sequence[Tensor] = ()) -> None:
        ov = import_openvino()
        self._mean, self._divisor = (each.detach().numpy()[:, None, None].copy() for each in (net.mean, net.divisor))
        self._has_divisor = bool((self._divisor != 1).any())
        self._input = np.empty(0, np.float32)
        self._crop = net.geometry.crop
        layers, connected = folded(net), fully_connected(net)
        self._channels = len(layers[-1].bias)
        graphs = [_convolutions(ov, layers)]
        if connected:
            self._fc6, self._classes = connected[0][0].shape[2], len(connected[-1][1])
            graphs.append(_products(ov, connected))
        if precision == "int8":
            graphs = self._quantised(graphs, calibrate)
        if connected:
            graphs.append(_joined(ov, graphs[0], graphs[1], net.geometry.crop))
        self._graphs = {graph.get_friendly_name(): graph for graph in graphs}
        self._hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # two processes would be pinned to the same cores
        }
        self._requests: dict[str, Any] = {}

    def score_map(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n k i j"]:
        """Computes the class score map.

        Args:
            images: RGB in 0..255, uint8 or float32; the net has fully connected layers.
        """
        if not len(images) or images.shape[2:] != (self._crop, self._crop):
            return super().score_map(images)
        scores = self._run("all-layers", self._normalised(images))
        return torch.from_numpy(scores.copy())[..., None, None]  # the next call overwrites what it gives

    def features(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Computes the map after the last pooling.

        Args:
            images: RGB in 0..255, uint8 or float32.
        """
        if not len(images):
            height, width = (side // constants.TOTAL_STRIDE for side in images.shape[2:])
            return torch.empty(0, self._channels, height, width)
        return torch.from_numpy(self._run("convolutions", self._normalised(images)))

    def head(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k i j"]:
        """Computes the class score map from the map after the last pooling.

        Args:
            map_: of any memory layout; the net has fully connected layers.
        """
        return over_positions(map_, self._fc6, self._classes, self._scores)

    def _scores(self, windows: Float[Tensor, "n i j c s s"]) -> Float[Tensor, "r k"]:
        return torch.from_numpy(self._run("fully-connected", _rows(windows)))

    def _run(self, name: str, values: Float[ndarray, "..."]) -> Float[ndarray, "..."]:
        if name not in self._requests:
            compiled = _core().compile_model(self._graphs[name], "CPU", self._hints)
            self._requests[name] = compiled.create_infer_request()
        # by default both would be copied
        given: ndarray = self._requests[name].infer([values], share_inputs=True, share_outputs=True)[0]
        return given

    def _normalised(self, images: Num[Tensor, "n 3 h w"]) -> Float[ndarray, "n 3 h w"]:
        # by numpy: torch's threads go on waiting for work for a while, on the cores that OpenVINO's need next
        if images.numel() > self._input.size:
            self._input = np.empty(images.numel(), np.float32)
        to = self._input[: images.numel()].reshape(images.shape)
        np.subtract(images.numpy(), self._mean, out=to)
        if self._has_divisor:
            np.divide(to, self._divisor, out=to)
        return to

    def _quantised(self, graphs: list[Any], calibrate: Sequence[Tensor]) -> list[Any]:
        """Quantises each graph by what the images give it; the fully connected layers see the maps in float32."""
        nncf = import_nncf()
        maps = _core().compile_model(graphs[0], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        seen: list[list[ndarray]] = [[], []]
        for batch in calibrate:
            for image in batch.split(1):
                normalised = self._normalised(image).copy()
                seen[0].append(normalised)
                if len(graphs) > 1:
                    map_ = torch.from_numpy(maps(normalised)[0])
                    seen[1] += [_rows(part).copy() for part in windows_by_parts(map_, self._fc6)]
        with redirect_stdout(io.StringIO()):  # its progress bars would stand before a JSON answer
            return [
                nncf.quantize(
                    graph,
                    nncf.Dataset(items),
                    subset_size=len(items),
                    advanced_parameters=_whole_range(),
                )
                for graph, items in zip(graphs, seen, strict=False)
            ]


def _rows(windows: Tensor) -> ndarray:
    return windows.reshape(windows.shape[:3].numel(), -1).numpy()


def _convolutions(ov: Any, layers: Sequence[Folded]) -> Any:  # noqa: ANN401
    """Builds the graph of the convolutions, from normalised images to the map after the last pooling."""
    op = ov.opset13
    given = value = op.parameter([-1, 3, -1, -1], ov.Type.f32, name="images")
    for layer in layers:
        side = layer.weight.shape[2] // 2
        weight = op.constant(layer.scaled_weight().numpy(), shared_memory=True)
        value = op.convolution(value, weight, [1, 1], [side, side], [side, side], [1, 1], name=layer.name)
        value = op.relu(op.add(value, op.constant(layer.bias.float().numpy().reshape(1, -1, 1, 1))))
        if layer.normalise:
            alpha = constants.LRN_ALPHA * constants.LRN_SIZE  # it divides by the size, as PyTorch does
            axes = op.constant(np.array([1]))
            value = op.lrn(value, axes, alpha, constants.LRN_BETA, constants.LRN_K, constants.LRN_SIZE)
        if layer.pool:
            value = op.max_pool(value, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2], "floor").output(0)
    return ov.Model([value], [given], "convolutions")


def _products(ov: Any, connected: Sequence[tuple[Tensor, Tensor]]) -> Any:  # noqa: ANN401
    """Builds the graph of the fully connected layers, from the windows of fc6 as rows to rows of scores."""
    op = ov.opset13
    given = value = op.parameter([-1, connected[0][0][0].numel()], ov.Type.f32, name="windows")
    for number, (weight, bias) in enumerate(connected, start=6):
        rows = op.constant(weight.reshape(len(weight), -1).numpy(), shared_memory=True)
        value = op.matmul(value, rows, False, True, name=f"fc{number}")
        value = op.add(value, op.constant(bias.numpy().reshape(1, -1)))
        value = op.relu(value) if number < 8 else value
    return ov.Model([value], [given], "fully-connected")


def _joined(ov: Any, convolutions: Any, products: Any, crop: int) -> Any:  # noqa: ANN401
    """Joins the graphs, for images of the crop's size; they stay as they are."""
    op = ov.opset13
    first, last = convolutions.clone(), products.clone()
    first.reshape([-1, 3, crop, crop])
    map_ = first.outputs[0].get_node().input_value(0)
    rows = op.reshape(map_, op.constant(np.array([0, -1])), special_zero=True)  # 0: as many as there are images
    for target in last.inputs[0].get_target_inputs():
        target.replace_source_output(rows.output(0))
    return ov.Model([last.outputs[0].get_node().input_value(0)], first.get_parameters(), "all-layers")


@cache
def _core() -> Any:  # noqa: ANN401
    return import_openvino().Core()


def import_openvino() -> Any:  # noqa: ANN401
    """Imports OpenVINO, which then tells nobody that it is used.

    Raises:
        UserError: it is not installed.
    """
    if openvino_version() is None:
        raise UserError(f"OpenVINO is not installed: {INSTALL}")
    with _no_telemetry():
        import openvino
    return openvino


def import_nncf() -> Any:  # noqa: ANN401
    """Imports NNCF, which then tells nobody that it is used.

    Raises:
        UserError: it or OpenVINO is not installed.
    """
    if nncf_version() is None:
        raise UserError(f"int8 needs OpenVINO and NNCF, which are not both installed: {INSTALL}")
    with _no_telemetry():
        import nncf
    nncf.set_log_level(logging.ERROR)
    return nncf


def _whole_range() -> Any:  # noqa: ANN401
    """Scales that reach to the largest activation seen, and biases left alone.

    By default NNCF cuts the range to the mean of the images' and shifts the biases for it. On 341 photographs of
    clothing (D with batch norm, crop 64) that gave 98.0% of fp32's top-1 classes and an error of 8% of the scores;
    this gives 99.4% and 1.6%.
    """
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    return AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX, disable_bias_correction=True
    )


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """Imports without the package that tells the makers of both libraries, over the network, that they are used.

    It does so unless the user has forbidden it, and nobody has asked this one. Without it they use a stub.
    """
    name = "openvino_telemetry"
    if name in sys.modules:  # imported by somebody else, who has decided
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def _installed(name: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(name).split("-")[0] if find_spec(name) else None
    return None
