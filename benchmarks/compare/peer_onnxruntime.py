"""The net in ONNX Runtime."""

import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.compare.contender import Call
from benchmarks.compare.peer_torch import Bind


def onnx_runtime(twin: nn.Module, example: Tensor, threads: int) -> Bind:
    """A net exported by torch, with all of ONNX Runtime's optimisations.

    Args:
        twin: in evaluation mode.
        example: normalised images of the shape to come.
        threads: of its own.
    """
    import onnxruntime
    import onnxscript  # noqa: F401 - torch's exporter needs it and says so less clearly

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vgg.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own
            torch.onnx.export(twin, (example,), file, dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def bind(x: Tensor) -> Call:
        array = x.numpy()
        return lambda: torch.from_numpy(session.run(None, {name: array})[0])

    return bind
