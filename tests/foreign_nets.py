"""Nets of other programs, made for the tests: their weights, an independent forward pass, and damage to their files."""

import random
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from conftest import picture
from verydeep.errors import UserError
from verydeep.weights.imported import ImportedWeights, assemble

BLOCKS = {"A": (1, 1, 2, 2, 2), "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}


@dataclass
class SourceNet:
    """A net in the words of Caffe: o,i,y,x and o,i, the first convolution over whatever its program reads.

    Attributes:
        blocks: convolutions of each block.
        weights: by the names of Table 1.
        moments: mean, variance, scale and shift of the batch norm after a convolution, where there are any.
        epsilon: of the batch norms.
    """

    blocks: tuple[int, ...]
    weights: dict[str, tuple[np.ndarray, np.ndarray]]
    moments: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict)
    epsilon: float = 1e-5

    def layers(self) -> list[tuple[str, str]]:
        """Kind and name of every layer from the image to the scores."""
        found = []
        for block, count in enumerate(self.blocks, start=1):
            for index in range(1, count + 1):
                label = f"{block}_{index}"
                found.append(("conv", f"conv{label}"))
                if self.moments:
                    found.append(("bn", f"bn{label}"))
                found.append(("relu", f"relu{label}"))
            found.append(("pool", f"pool{block}"))
        for number in (6, 7, 8):
            found.append(("fc", f"fc{number}"))
            found += [("relu", f"relu{number}"), ("drop", f"drop{number}")] if number < 8 else [("softmax", "prob")]
        return found

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the scores from what the program itself would put in, in the precision of its input."""
        for kind, name in self.layers():
            if kind == "conv":
                x = F.conv2d(x, *self._tensors(name, x), padding=1)
            elif kind == "bn":
                mean, variance, scale, shift = (torch.from_numpy(part).to(x) for part in self.moments[name])
                x = F.batch_norm(x, mean, variance, scale, shift, eps=self.epsilon)
            elif kind == "relu":
                x = F.relu(x)
            elif kind == "pool":
                x = F.max_pool2d(x, 2)
            elif kind == "fc":
                x = F.linear(x.flatten(1), *self._tensors(name, x))
        return x

    def _tensors(self, name: str, like: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.from_numpy(part).to(like) for part in self.weights[name])


def make_net(
    architecture: str = "A",
    *,
    crop: int = 32,
    channels: tuple[int, ...] = (8, 16, 32, 64, 64),
    hidden: int = 512,
    num_classes: int = 5,
    batch_norm: bool = False,
    epsilon: float = 1e-5,
) -> SourceNet:
    """Makes a net with random weights; the channels are those of width 0.125."""
    generator = np.random.default_rng(0)

    def layer(out: int, *into: int) -> tuple[np.ndarray, np.ndarray]:
        scale = np.float32((2 / np.prod(into)) ** 0.5)
        weight = generator.standard_normal((out, *into), dtype=np.float32) * scale
        return weight, generator.standard_normal(out, dtype=np.float32) * np.float32(0.1)

    weights, moments, into = {}, {}, 3
    for block, (count, out) in enumerate(zip(BLOCKS[architecture], channels, strict=True), start=1):
        for index in range(1, count + 1):
            weights[f"conv{block}_{index}"] = layer(out, into, 3, 3)
            if batch_norm:
                mean, variance, scale, shift = generator.uniform(0.5, 1.5, (4, out)).astype(np.float32)
                moments[f"bn{block}_{index}"] = (mean - 1, variance, scale, shift - 1)
            into = out
    weights["fc6"] = layer(hidden, into * (crop // 32) ** 2)
    weights["fc7"] = layer(hidden, hidden)
    weights["fc8"] = layer(num_classes, hidden)
    return SourceNet(BLOCKS[architecture], weights, moments, epsilon)


def images(crop: int, count: int = 2) -> torch.Tensor:
    """Pictures, RGB, n,3,h,w uint8."""
    pixels = np.stack([np.asarray(picture(seed, crop, crop)) for seed in range(count)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def relative_difference(found: ImportedWeights, pixels: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference of the scores of the read net, as a share of the largest score."""
    net = assemble(found)
    with torch.inference_mode():
        scores = net(pixels).double()
    assert scores.shape == expected.shape
    assert expected.abs().max() > 0.01
    return float((scores - expected).abs().max() / expected.abs().max())


def damage_many(
    data: bytes, file: Path, read: Callable[[Path], ImportedWeights], *, times: int, most_bytes: int
) -> tuple[int, int]:
    """Reads a file cut short or with changed bytes, again and again.

    Anything but a UserError of one line, or more memory than allowed, is raised.

    Returns:
        How often the file was refused, and how often it was read all the same.
    """
    chance = random.Random(0)
    messages: list[str] = []
    for _ in range(times):
        changed = bytearray(data)
        if chance.random() < 0.3:
            del changed[chance.randrange(len(changed)) :]
        else:
            for _ in range(chance.choice((1, 1, 2, 8))):
                changed[chance.randrange(len(changed))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        file.write_bytes(changed)
        tracemalloc.start()
        try:
            read(file)
        except UserError as error:
            messages.append(str(error))
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < most_bytes
    assert not any("\n" in message or len(message) > 2000 for message in messages)
    return len(messages), times - len(messages)
