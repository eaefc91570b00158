"""Small nets of random weights, and pictures, for the tests of what computes them."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from conftest import scene
from verydeep import VeryDeep, fit
from verydeep.runs.finish import TrainedRun
from verydeep.training.recipe import find_recipe


def make_net(name: str = "A", *, seed: int = 0, batch_norm: bool = False, crop: int = 32, **kinds) -> VeryDeep:
    generator = torch.Generator().manual_seed(seed)
    kinds = {"width": 0.125, "num_classes": 7} | kinds
    net = VeryDeep(name, batch_norm=batch_norm, crop=crop, generator=generator, **kinds).eval()
    for layer in net.children():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in ((layer.running_mean, -1, 1), (layer.running_var, 0.5, 2), (layer.weight, -1, 2)):
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=generator)
        elif isinstance(layer, nn.Conv2d):
            assert layer.bias is not None
            layer.bias.data.uniform_(-0.1, 0.1, generator=generator)
    return net


def fit_small(photos: Path, out: Path | None, *, epochs: int = 3, **options) -> TrainedRun:
    """Trains a net of two classes as long as it takes to see a callback at work."""
    recipe = find_recipe("quick", epochs=epochs, batch_size=16)
    return fit(make_net(batch_norm=True, num_classes=2), photos, recipe=recipe, out=out, **options)


def photos(height: int, width: int, count: int = 2) -> Tensor:
    pictures = [np.asarray(scene(seed, width, height)) for seed in range(count)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def in_threads(compute: Callable[[int], None]) -> None:
    """Calls with 0 and with 1, each in two threads at once."""
    workers = [threading.Thread(target=compute, args=(number,)) for number in (0, 1, 0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def difference(result: Tensor, reference: Tensor) -> float:
    assert result.shape == reference.shape
    return float((result.double() - reference.double()).norm() / reference.double().norm())


def assert_gradients_agree(result: Tensor, reference: Tensor) -> None:
    """Compares gradients of pictures from two ways of rounding.

    A unit within rounding of zero may be on in one and off in the other: that changes the gradient a little in the part
    of the picture that the unit sees. All the rest agrees to the last digits.
    """
    assert result.shape == reference.shape
    error = (result - reference).abs()
    assert error.norm() < 2e-2 * reference.norm()
    assert error.median() < 1e-4 * reference.abs().median()
