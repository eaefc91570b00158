"""The pipeline: JPEG files become batches of bytes, as evaluate and train read them, and by other libraries.

Everybody ends at the same: a batch of uint8, n,3,c,c. What a net of another package needs done to it afterwards is not
counted, since ours does that itself.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.compare.contender import Call, Case, Contender, Options, Row
from benchmarks.compare.inference import version_of
from benchmarks.compare.peer_crops import (
    Draw,
    Read,
    opencv_centre,
    pillow_centre,
    pillow_crop,
    torchvision_centre_pil,
    torchvision_centre_tensor,
    torchvision_crop,
    torchvision_training,
    upright,
)
from benchmarks.compare.photographs import find_photographs
from verydeep.data.batches import training_batches
from verydeep.data.image_set import ImageSet
from verydeep.data.sources import FolderSource, read_ahead
from verydeep.images.augment import TrainingView
from verydeep.images.geometry import rescaled_size
from verydeep.nets.architecture import scaled_length
from verydeep.paper import constants
from verydeep.testing.measure import batches_by_shape
from verydeep.testing.protocols import find_protocol

_ROUNDS = 7


class Pipeline:
    """The central crop, as ``evaluate`` takes it, and the training crop.

    Args:
        options: of the measurement.
    """

    precisions: tuple[str, ...] = ()

    def __init__(self, options: Options) -> None:
        self.options = options
        self.crop = options.crop or constants.CROP
        self.scale = scaled_length(constants.TRAIN_SCALE, self.crop)
        low, high = constants.JITTERED_TRAIN_SCALES
        self.scales = scaled_length(low, self.crop), scaled_length(high, self.crop)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was read."""
        cores = f"{self.options.threads} core{'s' if self.options.threads > 1 else ''}"
        count = len(set(self.files))
        return (
            f"{count} photograph{'s' if count > 1 else ''}, {len(self.files)} reads a call, on {cores}; all end at a "
            "batch of bytes; the difference is to Pillow's decoder and rescaling of the whole photograph, of 255",
        )

    def extra(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """Nothing more."""
        return {}

    def cases(self) -> Sequence[Case]:
        """Reading to test, and reading to train."""
        low, high = self.scales
        return [
            Case(
                name=f"JPEG to {self.scale} and centre {self.crop}",
                contenders=self._centre_contenders(),
                images=len(self.files),
                rounds=_ROUNDS,
                errors=self._centre_differences,
                error_name="pixel_difference",
            ),
            Case(
                name=f"JPEG to a training crop of {self.crop}, S in {low} to {high}",
                contenders=self._training_contenders(),
                images=len(self.files),
                rounds=_ROUNDS,
                errors=self._training_differences,
                error_name="pixel_difference",
            ),
        ]

    @cached_property
    def files(self) -> list[Path]:
        """The photographs."""
        return find_photographs(self.options.data, self.options.photographs, suffixes=(".jpg", ".jpeg"))

    def _images(self) -> ImageSet:
        return ImageSet(
            split="photographs",
            classes=("photograph",),
            names=[str(file) for file in self.files],
            labels=np.zeros(len(self.files), dtype=np.int64),
            source=FolderSource(Path()),
        )

    def _centre_contenders(self) -> tuple[Contender, ...]:
        scale, crop = self.scale, self.crop
        return (
            _ours(lambda: self._test_batches()),
            _peer("Pillow", "pillow", lambda: self._each(lambda file: pillow_centre(file, scale, crop))),
            _peer("torchvision v2 on PIL,", "torchvision", lambda: self._each(torchvision_centre_pil(scale, crop))),
            _peer(
                "torchvision v2 on tensors,", "torchvision", lambda: self._each(torchvision_centre_tensor(scale, crop))
            ),
            _peer(
                "OpenCV", "opencv-python-headless", lambda: self._each(opencv_centre(scale, crop, self.options.threads))
            ),
        )

    def _training_contenders(self) -> tuple[Contender, ...]:
        low, high = self.scales
        return (
            _ours(lambda: self._training_batches()),
            _peer(
                "torchvision v2 on PIL,",
                "torchvision",
                lambda: self._each(torchvision_training(low, high, self.crop, tensors=False)),
            ),
            _peer(
                "torchvision v2 on tensors,",
                "torchvision",
                lambda: self._each(torchvision_training(low, high, self.crop, tensors=True)),
            ),
        )

    def _test_batches(self) -> Call:
        """As ``evaluate --protocol centre`` makes its batches."""
        images, (method,) = self._images(), find_protocol("centre").methods

        def call() -> Tensor:
            parts = read_ahead(
                lambda index: [(0, part) for part in method.view(images.pixels(index), self.scale, self.crop)],
                range(len(images)),
            )
            return torch.cat([torch.from_numpy(batch).permute(0, 3, 1, 2) for _, _, batch in batches_by_shape(parts)])

        return call

    def _training_batches(self) -> Call:
        """As ``train`` makes its batches of images that memory does not hold."""
        images = self._images()
        view = TrainingView(crop=self.crop, train_scale=self.scales, mirror=True)

        def call() -> tuple[Tensor, Tensor]:
            ((batch, _, uses),) = training_batches(images, view, batch_size=len(images), seed=0, epoch=0)
            return batch, uses

        return call

    def _each(self, read: Read) -> Call:
        def call() -> Tensor:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # torchvision's decoders
                return torch.stack([read(file) for file in self.files])

        return call

    def _centre_differences(self, outputs: Mapping[str, Any]) -> dict[str, float]:
        exact = torch.stack([pillow_centre(file, self.scale, self.crop) for file in self.files])
        return {name: _difference(output, exact) for name, output in outputs.items()}

    def _training_differences(self, outputs: Mapping[str, Any]) -> dict[str, float]:
        """Of ours, the crops that were timed; of the others, which draw by themselves, crops at our places."""
        batch, uses = next(output for output in outputs.values() if isinstance(output, tuple))
        files = [self.files[use] for use in uses.tolist()]
        draws = [self._draw(file, use) for file, use in zip(files, uses.tolist(), strict=True)]
        placed = list(zip(files, draws, strict=True))
        exact = torch.stack([pillow_crop(file, draw, self.crop) for file, draw in placed])
        differences = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            for name, output in outputs.items():
                theirs = batch if isinstance(output, tuple) else None
                if theirs is None:
                    tensors = "tensors" in name
                    theirs = torch.stack([torchvision_crop(file, draw, self.crop, tensors) for file, draw in placed])
                differences[name] = _difference(theirs, exact)
        return differences

    def _draw(self, file: Path, use: int) -> Draw:
        """What the training view draws for a use of an image, in its order."""
        generator = np.random.Generator(np.random.PCG64([0, 0, use]))
        low, high = self.scales
        scale = int(generator.integers(low, high + 1))
        width, height = rescaled_size(upright(file).size, scale)
        left = int(generator.integers(width - self.crop + 1))
        top = int(generator.integers(height - self.crop + 1))
        return scale, (left, top), bool(generator.random() < 0.5)


def _difference(mine: Tensor, exact: Tensor) -> float:
    return float((mine.float() - exact.float()).abs().mean())


def _ours(make: Callable[[], Call]) -> Contender:
    return Contender(name=f"verydeep {version_of('verydeep')}", make=make, is_ours=True)


def _peer(name: str, package: str, make: Callable[[], Call]) -> Contender:
    return Contender(name=f"{name} {version_of(package)}".strip(), make=make, package=package)
