"""The same net in the libraries that are installed, each at its best settings: what the engine is measured against."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from verydeep.convnets.net import VeryDeep
from verydeep.speed.accelerate import accelerate

Forward = Callable[[], Tensor]


def torchvision_twin(net: VeryDeep) -> nn.Module:
    """A VGG-16 of torchvision with the weights of a D; it takes images whose mean has been subtracted."""
    twin: nn.Module = torchvision.models.vgg16(weights=None, init_weights=False).eval()
    kinds = (nn.Conv2d, nn.Linear)
    theirs = [module for module in twin.modules() if isinstance(module, kinds)]
    ours = [module for module in net.children() if isinstance(module, kinds)]
    for their, our in zip(theirs, ours, strict=True):
        state = {name: value.reshape(their.state_dict()[name].shape) for name, value in our.state_dict().items()}
        their.load_state_dict(state)
    return twin


def contenders(net: VeryDeep, images: Tensor, threads: int) -> dict[str, Forward]:
    """The engine and every peer there is, ready to compute the scores of the same images.

    Args:
        net: a D.
        images: uint8; the peers get them with the mean subtracted, in the layout they like, for nothing.
        threads: for all alike.
    """
    twin = torchvision_twin(net)
    x = (images.float() - net.mean[:, None, None]).contiguous()
    last, x_last = torchvision_twin(net).to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    fast = accelerate(net)
    found: dict[str, Forward] = {
        fast.engine: lambda: fast(images),
        "torchvision": lambda: twin(x),
        "torchvision, channels last": lambda: last(x_last),
    }
    for make in (_onnx_runtime, _openvino, _ncnn):
        try:
            name, forward = make(twin, x, threads)
        except ImportError:
            continue
        found[name] = forward
    return found


def _onnx_runtime(twin: nn.Module, x: Tensor, threads: int) -> tuple[str, Forward]:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vgg.onnx"
        torch.onnx.export(twin, (x,), file, dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name, array = session.get_inputs()[0].name, x.numpy()
    return f"ONNX Runtime {onnxruntime.__version__}", lambda: torch.from_numpy(session.run(None, {name: array})[0])


def _openvino(twin: nn.Module, x: Tensor, threads: int) -> tuple[str, Forward]:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.convert_model(twin, example_input=x, input=[x.shape])
    compiled, array = openvino.compile_model(model, "CPU", settings), x.numpy()
    return f"OpenVINO {openvino.__version__.split('-')[0]}", lambda: torch.from_numpy(compiled(array)[0].copy())


def _ncnn(twin: nn.Module, x: Tensor, threads: int) -> tuple[str, Forward]:
    import ncnn

    runner = ncnn.Net()
    runner.opt.num_threads = threads
    runner.opt.use_fp16_packed = runner.opt.use_fp16_storage = runner.opt.use_fp16_arithmetic = False
    runner.opt.use_bf16_storage = False
    with tempfile.TemporaryDirectory() as folder:
        graph, weights = Path(folder) / "vgg.param", Path(folder) / "vgg.bin"
        _write_ncnn(twin, graph, weights)
        runner.load_param(str(graph))
        runner.load_model(str(weights))
    arrays = [ncnn.Mat(image.numpy()) for image in x]

    def forward() -> Tensor:  # it takes one image at a time
        scores = []
        for array in arrays:
            extractor = runner.create_extractor()
            extractor.input("data", array)
            scores.append(torch.from_numpy(np.array(extractor.extract("scores")[1])))
        return torch.stack(scores)

    return f"ncnn {ncnn.__version__}", forward


def _write_ncnn(twin: nn.Module, graph: Path, weights: Path) -> None:
    """Writes ncnn's own format: its Winograd, its fused ReLU, its packed fc, nothing converted for it."""
    lines, blob = ["Input data 0 1 data"], "data"
    modules = [module for module in twin.modules() if isinstance(module, nn.Conv2d | nn.Linear | nn.MaxPool2d)]
    with weights.open("wb") as file:
        for number, module in enumerate(modules, start=1):
            name = "scores" if number == len(modules) else f"b{number}"
            if isinstance(module, nn.MaxPool2d):
                lines.append(f"Pooling p{number} 1 1 {blob} {name} 0=0 1=2 2=2")
            elif isinstance(module, nn.Conv2d):
                count = module.weight.numel()
                lines.append(
                    f"Convolution c{number} 1 1 {blob} {name} 0={module.out_channels} 1=3 4=1 5=1 6={count} 9=1"
                )
            else:
                rectified = int(number < len(modules))
                sizes = f"0={module.out_features} 1=1 2={module.weight.numel()} 9={rectified}"
                lines.append(f"InnerProduct i{number} 1 1 {blob} {name} {sizes}")
            if isinstance(module, nn.Conv2d | nn.Linear):
                file.write(np.zeros(1, dtype=np.uint32).tobytes())
                file.write(module.weight.detach().numpy().tobytes())
                assert module.bias is not None
                file.write(module.bias.detach().numpy().tobytes())
            blob = name
    graph.write_text(f"7767517\n{len(lines)} {len(lines)}\n" + "\n".join(lines) + "\n")
