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
from PIL import Image, ImageOps
from torch import Tensor

from verydeep import paper
from verydeep.bench.contender import Call, Case, Contender, Options, Row
from verydeep.bench.inference import version_of
from verydeep.bench.photographs import find_photographs, middle, rescaled
from verydeep.convnets.architecture import scaled_length
from verydeep.data.augment import TrainingView
from verydeep.data.batches import batches_by_shape, training_batches
from verydeep.data.image_set import ImageSet
from verydeep.data.images import rescaled_size
from verydeep.data.stores import FolderStore
from verydeep.evaluation.measure import BATCH_PIXELS
from verydeep.evaluation.protocols import find_protocol

_ROUNDS = 7

Draw = tuple[int, tuple[int, int], bool]
"""Of a training crop: the scale S, its left and top corner, and whether it is mirrored."""


class Pipeline:
    """The central crop, as ``evaluate`` takes it, and the training crop.

    Args:
        options: of the measurement.
    """

    precisions: tuple[str, ...] = ()

    def __init__(self, options: Options) -> None:
        self.options = options
        self.crop = options.crop or paper.CROP
        self.scale = scaled_length(paper.TRAIN_SCALE, self.crop)
        low, high = paper.JITTERED_TRAIN_SCALES
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
            store=FolderStore(Path()),
        )

    def _centre_contenders(self) -> tuple[Contender, ...]:
        scale, crop = self.scale, self.crop
        return (
            _ours(lambda: self._test_batches()),
            _peer("Pillow", "pillow", lambda: self._each(lambda file: _pillow_centre(file, scale, crop))),
            _peer("torchvision v2 on PIL,", "torchvision", lambda: self._each(_torchvision_centre_pil(scale, crop))),
            _peer(
                "torchvision v2 on tensors,", "torchvision", lambda: self._each(_torchvision_centre_tensor(scale, crop))
            ),
            _peer("OpenCV", "opencv-python-headless", lambda: self._each(self._cv2_centre())),
        )

    def _training_contenders(self) -> tuple[Contender, ...]:
        low, high = self.scales
        return (
            _ours(lambda: self._training_batches()),
            _peer(
                "torchvision v2 on PIL,",
                "torchvision",
                lambda: self._each(_torchvision_training(low, high, self.crop, tensors=False)),
            ),
            _peer(
                "torchvision v2 on tensors,",
                "torchvision",
                lambda: self._each(_torchvision_training(low, high, self.crop, tensors=True)),
            ),
        )

    def _test_batches(self) -> Call:
        """As ``evaluate --protocol centre`` makes its batches."""
        images, (method,) = self._images(), find_protocol("centre").methods

        def call() -> Tensor:
            batches = batches_by_shape(
                images,
                lambda image: [(0, part) for part in method.view(image, self.scale, self.crop)],
                most_pixels=BATCH_PIXELS,
            )
            return torch.cat([batch for _, _, batch in batches])

        return call

    def _training_batches(self) -> Call:
        """As ``train`` makes its batches of images that memory does not hold."""
        images = self._images()
        view = TrainingView(crop=self.crop, train_scale=self.scales, mirror=True)

        def call() -> tuple[Tensor, Tensor]:
            ((batch, _, uses),) = training_batches(images, view, batch_size=len(images), seed=0, epoch=0)
            return batch, uses

        return call

    def _each(self, read: Callable[[Path], Tensor]) -> Call:
        def call() -> Tensor:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # torchvision's decoders
                return torch.stack([read(file) for file in self.files])

        return call

    def _cv2_centre(self) -> Callable[[Path], Tensor]:
        import cv2

        cv2.setNumThreads(self.options.threads)
        scale, crop = self.scale, self.crop

        def read(file: Path) -> Tensor:
            pixels = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
            assert pixels is not None
            height, width = pixels.shape[:2]
            width, height = rescaled_size((width, height), scale)
            left, top = (width - crop) // 2, (height - crop) // 2
            small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
            return torch.from_numpy(small[top : top + crop, left : left + crop].copy()).permute(2, 0, 1)

        return read

    def _centre_differences(self, outputs: Mapping[str, Any]) -> dict[str, float]:
        exact = torch.stack([_pillow_centre(file, self.scale, self.crop) for file in self.files])
        return {name: _difference(output, exact) for name, output in outputs.items()}

    def _training_differences(self, outputs: Mapping[str, Any]) -> dict[str, float]:
        """Of ours, the crops that were timed; of the others, which draw by themselves, crops at our places."""
        batch, uses = next(output for output in outputs.values() if isinstance(output, tuple))
        files = [self.files[use] for use in uses.tolist()]
        draws = [self._draw(file, use) for file, use in zip(files, uses.tolist(), strict=True)]
        placed = list(zip(files, draws, strict=True))
        exact = torch.stack([_pillow_crop(file, draw, self.crop) for file, draw in placed])
        differences = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            for name, output in outputs.items():
                theirs = batch if isinstance(output, tuple) else None
                if theirs is None:
                    tensors = "tensors" in name
                    theirs = torch.stack([_torchvision_crop(file, draw, self.crop, tensors) for file, draw in placed])
                differences[name] = _difference(theirs, exact)
        return differences

    def _draw(self, file: Path, use: int) -> Draw:
        """What the training view draws for a use of an image, in its order."""
        generator = np.random.Generator(np.random.PCG64([0, 0, use]))
        low, high = self.scales
        scale = int(generator.integers(low, high + 1))
        width, height = rescaled_size(_upright(file).size, scale)
        left = int(generator.integers(width - self.crop + 1))
        top = int(generator.integers(height - self.crop + 1))
        return scale, (left, top), bool(generator.random() < 0.5)


def _difference(mine: Tensor, exact: Tensor) -> float:
    return float((mine.float() - exact.float()).abs().mean())


def _ours(make: Callable[[], Call]) -> Contender:
    return Contender(name=f"verydeep {version_of('verydeep')}", make=make, is_ours=True)


def _peer(name: str, package: str, make: Callable[[], Call]) -> Contender:
    return Contender(name=f"{name} {version_of(package)}".strip(), make=make, package=package)


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _upright(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _pillow_centre(file: Path, scale: int, crop: int) -> Tensor:
    """The recipe: the whole photograph is decoded and rescaled, and its centre cut out."""
    return _tensor(middle(rescaled(_upright(file), scale), crop, crop))


def _pillow_crop(file: Path, draw: Draw, crop: int) -> Tensor:
    scale, (left, top), mirrored = draw
    pixels = _tensor(rescaled(_upright(file), scale).crop((left, top, left + crop, top + crop)))
    return pixels.flip(2) if mirrored else pixels


def _torchvision_centre_pil(scale: int, crop: int) -> Callable[[Path], Tensor]:
    from torchvision.transforms import v2

    view = v2.Compose([v2.Resize(scale), v2.CenterCrop(crop), v2.PILToTensor()])

    def read(file: Path) -> Tensor:
        pixels: Tensor = view(_upright(file))
        return pixels

    return read


def _torchvision_centre_tensor(scale: int, crop: int) -> Callable[[Path], Tensor]:
    from torchvision.transforms import v2

    view = v2.Compose([v2.Resize(scale, antialias=True), v2.CenterCrop(crop)])

    def read(file: Path) -> Tensor:
        pixels: Tensor = view(_decoded(file))
        return pixels

    return read


def _torchvision_training(low: int, high: int, crop: int, *, tensors: bool) -> Callable[[Path], Tensor]:
    from torchvision.transforms import v2

    # the upper bound of RandomResize is excluded
    steps = [v2.RandomResize(low, high + 1, antialias=True), v2.RandomCrop(crop), v2.RandomHorizontalFlip()]
    view = v2.Compose(steps if tensors else [*steps, v2.PILToTensor()])

    def read(file: Path) -> Tensor:
        pixels: Tensor = view(_decoded(file) if tensors else _upright(file))
        return pixels

    return read


def _torchvision_crop(file: Path, draw: Draw, crop: int, tensors: bool) -> Tensor:
    from torchvision.transforms.v2 import functional

    scale, (left, top), mirrored = draw
    rgb = _upright(file)
    width, height = rescaled_size(rgb.size, scale)
    small = functional.resize(_decoded(file) if tensors else rgb, [height, width], antialias=True)
    cut = functional.crop(small, top, left, crop, crop)
    pixels: Tensor = cut if tensors else functional.pil_to_tensor(cut)
    return pixels.flip(2) if mirrored else pixels


def _decoded(file: Path) -> Tensor:
    from torchvision.io import ImageReadMode, decode_image, read_file

    pixels: Tensor = decode_image(read_file(str(file)), ImageReadMode.RGB, apply_exif_orientation=True)
    return pixels
