"""The matrix of readers: each program's VGGs with random weights, saved by itself, imported, and its scores compared.

Prints a table in Markdown: the largest difference of a score, relative to the largest score of the same photograph, and
whether the weights come back bit by bit where we can write them for that program. Of a net under a head of its own
it is the largest difference of the map after the last pooling. Needs timm, keras, h5py, onnx and onnxruntime, 5 GB
of memory and 1.5 GB of disk; fastai, lightning and ultralytics where they are installed.

    python benchmarks/weights_matrix.py photos/ --images 4
"""

import argparse
import gc
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from verydeep.data.folder import find_images
from verydeep.images.decode import read_image
from verydeep.nets.net import VeryDeep
from verydeep.weights.imported import assemble
from verydeep.weights.readers import read_weights
from verydeep.weights.verify import compare, largest_difference
from verydeep.weights.writers import TARGETS, export

os.environ.setdefault("KERAS_BACKEND", "torch")
NETS = ("D", "E", "D-bn", "E-bn")
_CALLS = {"D": "vgg16", "E": "vgg19", "D-bn": "vgg16_bn", "E-bn": "vgg19_bn"}


@dataclass(frozen=True)
class Way:
    """One way in: a program and one of its formats.

    Attributes:
        title: the first column.
        nets: the columns that the program has.
        write: makes the net with random weights and saves it; returns its convolutions where the head is one of its
            own: a module that gives the map after the last pooling.
        suffix: of the file.
        back: the target that writes it back, and the suffix there; None where there is none.
        same: whether two files of the program hold the same tensors.
    """

    title: str
    nets: tuple[str, ...]
    write: Callable[[str, Path], nn.Module | None]
    suffix: str
    back: tuple[str, str] | None
    same: Callable[[Path, Path], bool]


def randomised(net: nn.Module) -> nn.Module:
    """Random weights of He's variance, and every bias and statistic its own."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5)
                if module.bias is not None:
                    module.bias.normal_(0, 0.1)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                assert module.num_batches_tracked is not None
                module.num_batches_tracked.fill_(1000)
    return net.eval()


def torchvision_state(net: str) -> dict[str, Tensor]:
    """The state dict of a VGG of torchvision."""
    return torchvision_net(net).state_dict()


def write_torchvision(net: str, file: Path) -> None:
    torch.save(torchvision_state(net), file)


def write_seed(net: str, file: Path) -> None:
    torch.save({name.replace("features.", "net."): part for name, part in torchvision_state(net).items()}, file)


def write_timm(net: str, file: Path) -> None:
    import timm
    from safetensors.torch import save_file

    save_file(randomised(timm.create_model(_CALLS[net])).state_dict(), file)


def write_onnx(net: str, file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(torchvision_net(net), (torch.rand(1, 3, 224, 224),), file, verbose=False)


def torchvision_net(net: str) -> nn.Module:
    import torchvision

    with torch.device("meta"):
        made: nn.Module = getattr(torchvision.models, _CALLS[net])(init_weights=False)
    return randomised(made.to_empty(device="cpu"))


def write_fastai(net: str, file: Path) -> nn.Module:
    """What ``Learner.save`` writes: the body of the net under fastai's head, with the state of the optimiser."""
    import torchvision
    from fastai.learner import save_model
    from fastai.optimizer import Adam
    from fastai.vision.learner import create_vision_model

    made: Any = randomised(create_vision_model(getattr(torchvision.models, _CALLS[net]), 10, pretrained=False))
    save_model(file, made, Adam(list(made.parameters()), lr=1e-3), with_opt=True)
    body: nn.Module = made[0]
    return body


def write_lightning(net: str, file: Path) -> None:
    """A checkpoint of a Trainer around a LightningModule that holds the net as ``model``."""
    import lightning

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"lr": 1e-3, "arch": net})
            self.model = torchvision_net(net)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(Module())
    trainer.save_checkpoint(file)


def write_ultralytics(net: str, file: Path) -> nn.Module:
    """A checkpoint as its trainers write one: a classification model around torchvision's layers, pickled whole."""
    from ultralytics.nn.modules import TorchVision
    from ultralytics.nn.tasks import ClassificationModel

    layers = [[-1, 1, "TorchVision", [512, _CALLS[net], None, True, 2, False]], [-1, 1, "Classify", ["nc"]]]
    made = ClassificationModel({"nc": 10, "backbone": layers[:1], "head": layers[1:]}, verbose=False)
    assert isinstance(made.model[0], TorchVision)
    torch.save({"epoch": 3, "model": randomised(made).half(), "ema": None, "train_args": {"imgsz": 224}}, file)
    body: nn.Module = made.float().model[0]
    return body


def write_keras(net: str, file: Path) -> None:
    import keras

    made = {"D": keras.applications.VGG16, "E": keras.applications.VGG19}[net](weights=None)
    random = np.random.default_rng(0)
    for layer in made.layers:
        if weights := layer.get_weights():
            layer.set_weights([weights[0], random.normal(0, 0.1, weights[1].shape).astype(np.float32)])
    if file.name.endswith(".weights.h5"):
        made.save_weights(file)
    else:
        made.save(file)


def same_torch(first: Path, second: Path) -> bool:
    return _same(*(torch.load(file, weights_only=True, mmap=True) for file in (first, second)))


def same_safetensors(first: Path, second: Path) -> bool:
    from safetensors.torch import load_file

    return _same(load_file(first), load_file(second))


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def same_keras(first: Path, second: Path) -> bool:
    return all(np.array_equal(one, two) for one, two in zip(_arrays(first), _arrays(second), strict=True))


def _arrays(file: Path) -> Iterator[Any]:
    """The arrays that hold weights, by the names of their layers; Keras itself loads them."""
    import keras

    made = (keras.applications.VGG16 if "D-" in file.name else keras.applications.VGG19)(weights=None)
    made.load_weights(file)
    return iter(made.get_weights())


WAYS = (
    Way("torchvision `.pth`", NETS, write_torchvision, ".pth", ("torchvision", ".pth"), same_torch),
    Way("seed class `.pth`", NETS, write_seed, ".pth", None, same_torch),
    Way("timm `.safetensors`", NETS, write_timm, ".safetensors", ("timm", ".safetensors"), same_safetensors),
    Way("Keras `.keras`", ("D", "E"), write_keras, ".keras", ("keras", ".weights.h5"), same_keras),
    Way("Keras `.weights.h5`", ("D", "E"), write_keras, ".weights.h5", ("keras", ".weights.h5"), same_keras),
    Way("Keras `.h5`", ("D", "E"), write_keras, ".h5", ("keras", ".h5"), same_keras),
    Way("fastai `Learner.save`, convolutions", NETS, write_fastai, ".pth", None, same_torch),
    Way("Lightning `.ckpt`", NETS, write_lightning, ".ckpt", None, same_torch),
    Way("Ultralytics `.pt`, convolutions", NETS, write_ultralytics, ".pt", None, same_torch),
    Way("ONNX, of torchvision by torch's exporter", NETS, write_onnx, ".onnx", None, same_torch),
)


def measure(way: Way, net: str, images: list[Image.Image], folder: Path) -> tuple[float, bool | None]:
    """Gives the largest relative difference, and whether the weights come back bit by bit."""
    file = folder / f"{net}-there{way.suffix}"
    body = way.write(net, file)
    foreign = read_weights(file)
    made: VeryDeep = assemble(foreign)
    difference = (
        difference_of_maps(body, made, images) if body else compare(file, foreign, made, images).largest_difference
    )
    if way.back is None:
        return difference, None
    target, suffix = way.back
    back = folder / f"{net}-back{suffix}"
    export(made, TARGETS[target], back)
    return difference, way.same(file, back)


def difference_of_maps(body: nn.Module, made: VeryDeep, images: list[Image.Image]) -> float:
    """The largest difference after the last pooling, relative to the largest number of the same photograph."""
    pixels = torch.stack([torch.from_numpy(np.array(image.resize((224, 224)))).permute(2, 0, 1) for image in images])
    with torch.inference_mode():
        ours = made.features(pixels)
        theirs = body((pixels - made.mean[:, None, None]) / made.divisor[:, None, None])
    return largest_difference(ours, theirs)


def main() -> None:
    """Measures every cell, the table last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="a folder of photographs")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--only", default="", help="ways whose title holds this")
    parser.add_argument("--nets", default=",".join(NETS), help="of these [%(default)s]")
    options = parser.parse_args()
    images = [read_image(file) for file in find_images([options.photos])[: options.images]]
    lines = [f"| | {' | '.join(NETS)} | there and back |", "| --- " * (len(NETS) + 2) + "|"]
    for way in (way for way in WAYS if options.only in way.title):
        cells, backs = [], []
        for net in NETS:
            if net not in way.nets or net not in options.nets.split(","):
                cells.append("-")
                continue
            with tempfile.TemporaryDirectory() as folder:
                difference, back = measure(way, net, images, Path(folder))
            gc.collect()
            print(f"{way.title} {net}: {difference:.1e}, back {back}", file=sys.stderr, flush=True)
            cells.append(f"{difference:.1e}")
            backs.append(back)
        words = "-" if None in backs else "bit-exact" if all(backs) else "differs"
        lines.append(f"| {way.title} | {' | '.join(cells)} | {words} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
