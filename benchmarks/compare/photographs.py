"""The photographs that a measurement reads: the user's, or two that come with scikit-learn."""

from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from verydeep.errors import UserError
from verydeep.images.decode import is_image_file, read_image
from verydeep.images.geometry import rescaled_size
from verydeep.nets.architecture import scaled_length
from verydeep.paper.constants import TRAIN_SCALE


def find_photographs(data: Path | None, count: int, suffixes: tuple[str, ...] = ()) -> list[Path]:
    """Finds photographs, and takes them again and again until there are as many as asked for.

    Args:
        data: a folder with photographs at any depth, or a photograph; None for those that come with scikit-learn.
        count: of them.
        suffixes: that a file of the folder must have one of, in lower case; by default those of all images.

    Raises:
        UserError: there are none.
    """
    if data is None:
        import sklearn

        data = Path(sklearn.__file__).parent / "datasets" / "images"
    if data.is_file():
        files = [data]
    elif data.is_dir():
        files = sorted(
            file
            for file in data.rglob("*")
            if is_image_file(file) and (not suffixes or file.suffix.lower() in suffixes)
        )
    else:
        raise UserError(f"--data {data}: there is no such folder; give one with photographs")
    if not files:
        raise UserError(f"--data {data}: no photographs in it{f' ({chr(44).join(suffixes)})' if suffixes else ''}")
    return list(islice(cycle(files), count))


def scaled_crops(files: Sequence[Path], crop: int) -> Tensor:
    """The central crops of photographs rescaled as the paper does, n,3,c,c uint8, channels last in memory."""
    scale = scaled_length(TRAIN_SCALE, crop)
    arrays = [np.asarray(middle(rescaled(read_image(file), scale), crop, crop)) for file in files]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


def of_four_thirds(file: Path) -> Image.Image:
    """A photograph cut to 4:3, the shape that the work of dense testing is counted for."""
    image = read_image(file)
    wide = image.width >= image.height
    long, short = max(image.size), min(image.size)
    long, short = (short * 4 // 3, short) if 3 * long > 4 * short else (long, long * 3 // 4)
    return middle(image, *((long, short) if wide else (short, long)))


def rescaled(image: Image.Image, scale: int) -> Image.Image:
    """Rescales a photograph isotropically so that its shorter side has a length, by Pillow."""
    return image.resize(rescaled_size(image.size, scale), Image.Resampling.BILINEAR)


def middle(image: Image.Image, width: int, height: int) -> Image.Image:
    """Cuts the middle out of a photograph, by Pillow."""
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
