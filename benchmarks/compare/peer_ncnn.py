"""The net in ncnn, written in its own format: its Winograd, its fused ReLU, its packed fc."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.compare.contender import Call, LeftOutError
from benchmarks.compare.peer_torch import Bind


def ncnn_net(twin: nn.Module, threads: int) -> Bind:
    """A net of ncnn in float32; it takes one image at a time.

    Args:
        twin: in evaluation mode.
        threads: of its own.

    Raises:
        LeftOutError: the net has batch norm, which nothing here writes for it.
    """
    import ncnn

    if any(isinstance(module, nn.BatchNorm2d) for module in twin.modules()):
        raise LeftOutError("its file is written here for nets without batch norm only")
    runner = ncnn.Net()
    runner.opt.num_threads = threads
    runner.opt.use_fp16_packed = runner.opt.use_fp16_storage = runner.opt.use_fp16_arithmetic = False
    runner.opt.use_bf16_storage = False
    with tempfile.TemporaryDirectory() as folder:
        graph, weights = Path(folder) / "vgg.param", Path(folder) / "vgg.bin"
        _write(twin, graph, weights)
        runner.load_param(str(graph))
        runner.load_model(str(weights))

    def bind(x: Tensor) -> Call:
        pixels = x.numpy()
        arrays = [ncnn.Mat(image) for image in pixels]

        def call() -> Tensor:
            assert len(pixels) == len(arrays)  # which hold no reference to the pixels that they read
            scores = []
            for array in arrays:
                extractor = runner.create_extractor()
                extractor.input("data", array)
                scores.append(torch.from_numpy(np.array(extractor.extract("scores")[1])))
            return torch.stack(scores)

        return call

    return bind


def _write(twin: nn.Module, graph: Path, weights: Path) -> None:
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
                file.write(np.zeros(1, dtype=np.uint32).tobytes())  # the weights are float32
                file.write(module.weight.detach().contiguous().numpy().tobytes())
                assert module.bias is not None
                file.write(module.bias.detach().numpy().tobytes())
            blob = name
    graph.write_text(f"7767517\n{len(lines)} {len(lines)}\n" + "\n".join(lines) + "\n")
