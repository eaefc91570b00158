"""How Pillow, torchvision and OpenCV make a crop of a JPEG file, each in the way that its documentation shows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from benchmarks.compare.photographs import middle, rescaled
from verydeep.images.decode import open_image
from verydeep.images.geometry import rescaled_size

Read = Callable[[Path], Tensor]
"""Gives the crop of a file, 3,c,c."""

Draw = tuple[int, tuple[int, int], bool]
"""Of a training crop: the scale S, its left and top corner, and whether it is mirrored."""


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def upright(file: Path) -> Image.Image:
    """A photograph in RGB, as its EXIF orientation has it."""
    with open_image(file) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def pillow_centre(file: Path, scale: int, crop: int) -> Tensor:
    """The recipe: the whole photograph is decoded and rescaled, and its centre cut out."""
    return _tensor(middle(rescaled(upright(file), scale), crop, crop))


def pillow_crop(file: Path, draw: Draw, crop: int) -> Tensor:
    """A training crop out of the whole photograph, rescaled."""
    scale, (left, top), mirrored = draw
    pixels = _tensor(rescaled(upright(file), scale).crop((left, top, left + crop, top + crop)))
    return pixels.flip(2) if mirrored else pixels


def torchvision_centre_pil(scale: int, crop: int) -> Read:
    """Transforms of torchvision's on what Pillow decodes."""
    from torchvision.transforms import v2

    view = v2.Compose([v2.Resize(scale), v2.CenterCrop(crop), v2.PILToTensor()])

    def read(file: Path) -> Tensor:
        pixels: Tensor = view(upright(file))
        return pixels

    return read


def torchvision_centre_tensor(scale: int, crop: int) -> Read:
    """Transforms of torchvision's on what its own decoder gives."""
    from torchvision.transforms import v2

    view = v2.Compose([v2.Resize(scale, antialias=True), v2.CenterCrop(crop)])

    def read(file: Path) -> Tensor:
        pixels: Tensor = view(_decoded(file))
        return pixels

    return read


def opencv_centre(scale: int, crop: int, threads: int) -> Read:
    """OpenCV's decoder, and its rescaling, which does no antialiasing."""
    import cv2

    cv2.setNumThreads(threads)

    def read(file: Path) -> Tensor:
        pixels = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
        assert pixels is not None
        height, width = pixels.shape[:2]
        width, height = rescaled_size((width, height), scale)
        left, top = (width - crop) // 2, (height - crop) // 2
        small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        return torch.from_numpy(small[top : top + crop, left : left + crop].copy()).permute(2, 0, 1)

    return read


def torchvision_training(low: int, high: int, crop: int, *, tensors: bool) -> Read:
    """Transforms of torchvision's for training, which draw by themselves."""
    from torchvision.transforms import v2

    # the upper bound of RandomResize is excluded
    steps = [v2.RandomResize(low, high + 1, antialias=True), v2.RandomCrop(crop), v2.RandomHorizontalFlip()]
    view = v2.Compose(steps if tensors else [*steps, v2.PILToTensor()])

    def read(file: Path) -> Tensor:
        pixels: Tensor = view(_decoded(file) if tensors else upright(file))
        return pixels

    return read


def torchvision_crop(file: Path, draw: Draw, crop: int, tensors: bool) -> Tensor:
    """The training crop that torchvision cuts at a place of ours."""
    from torchvision.transforms.v2 import functional

    scale, (left, top), mirrored = draw
    rgb = upright(file)
    width, height = rescaled_size(rgb.size, scale)
    small = functional.resize(_decoded(file) if tensors else rgb, [height, width], antialias=True)
    cut = functional.crop(small, top, left, crop, crop)
    pixels: Tensor = cut if tensors else functional.pil_to_tensor(cut)
    return pixels.flip(2) if mirrored else pixels


def _decoded(file: Path) -> Tensor:
    from torchvision.io import ImageReadMode, decode_image, read_file

    pixels: Tensor = decode_image(read_file(str(file)), ImageReadMode.RGB, apply_exif_orientation=True)
    return pixels
