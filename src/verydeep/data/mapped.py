"""Any map-style data set of Python as ours: what has a length, and pairs of an image and its class as items."""

import io
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import IterableDataset

from verydeep.data.dataset import DataSet, hold_out_test, make_data_set
from verydeep.data.folder import SPLIT_NAMES
from verydeep.data.image_set import ImageSet
from verydeep.data.listing import natural_key
from verydeep.data.sources import MapStyle, PixelSource
from verydeep.errors import UsageError
from verydeep.files import format_number
from verydeep.images.decode import DamagedImageError, to_rgb
from verydeep.machine import Turn
from verydeep.progress import Progress, ignore_progress

Label = int | str
"""A class: its index, or its name."""

_PAIR = "give a data set whose items are pairs (image, label), such as [(row['image'], row['label']) for row in rows]"
_IMAGE = "give an image of Pillow, an array h,w,3 or h,w of uint8, or a tensor 3,h,w of uint8 or of floats in 0..1"

_CHECKED_TARGETS = 8
_ONE_AT_A_TIME = Turn()
"""Held while an item is made: data sets are written for processes, and threads read here."""


@dataclass(frozen=True, eq=False)
class MappedSource(PixelSource):
    """The images of a map-style data set, by names that end in their index; each is made when it is needed."""

    title: str
    items: MapStyle = field(repr=False)
    parallel_reads: int = field(default=1, init=False)

    def pixels(self, name: str) -> UInt8[ndarray, "h w 3"]:
        index = int(PurePath(name).stem)
        try:
            return _to_pixels(self.item(index)[0])
        except MemoryError:
            raise
        except UsageError as error:
            raise UsageError(f"the image of {self.title}[{index}] is {error}") from error
        except Exception as error:
            raise self._unreadable(index, error) from error

    def label(self, index: int) -> Label:
        """Makes an item for its class."""
        try:
            return _to_label(self.item(index)[1])
        except UsageError as error:
            raise UsageError(f"the label of {self.title}[{index}] is {error}") from error
        except MemoryError:
            raise
        except Exception as error:
            raise self._unreadable(index, error).in_a_set() from error

    def _unreadable(self, index: int, error: Exception) -> DamagedImageError:
        """The error of an item, whatever the data set ran into when it made it."""
        problem = f"{self.title}[{index}] cannot be read as an image: {str(error) or type(error).__name__}"
        return DamagedImageError(problem, "mend it, or leave it out of the data")

    def item(self, index: int) -> tuple[Any, Any]:
        with _ONE_AT_A_TIME:
            item = self.items[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UsageError(f"missing: the item is a {type(item).__name__}: {_PAIR}")
        return item[0], item[1]

    def read(self, name: str) -> bytes:
        encoded = io.BytesIO()
        Image.fromarray(self.pixels(name)).save(encoded, "PNG")
        return encoded.getvalue()

    def size(self, name: str) -> int:
        return len(self.read(name))

    def where(self, name: str) -> str:
        return f"{self.title}/{name}"


def open_mapped(data: object, progress: Progress = ignore_progress) -> DataSet:
    """Opens a map-style data set, or several by their splits: ``{"train": first, "test": second}``.

    Its images are made when they are needed. Its classes are ``data.classes`` where there is such a list, else the
    labels of the training split. Where it has no ``targets``, every item is made once for its label. The fingerprint
    is of the labels: random transforms may change an image from one reading to the next.

    Args:
        data: the data set.
        progress: receives the number of labels read and their total.

    Raises:
        UsageError: it is no such data set, or one of its items no pair of an image and a class.
    """
    named: dict[Any, Any] = dict(data) if isinstance(data, Mapping) else {"train": data}
    for split, one in named.items():
        if split not in SPLIT_NAMES:
            raise UsageError(f"a split {split!r}: name them train, val and test")
        if not _is_map_style(one):
            raise UsageError(
                f"{type(one).__name__} is no data set: give a name, a path, or what has a length and items "
                "(image, label), such as a list or a map-style data set of torch"
            )
        if not len(one):
            raise UsageError(f"{type(one).__name__} for {split} is empty: give images")
    if "train" not in named:
        raise UsageError("there is no split train: the classes come from it")
    title = _title(named["train"])
    sources = {split: MappedSource(_title(one), one) for split, one in named.items()}
    labels = {split: _labels(source, progress) for split, source in sources.items()}
    classes, indices = _number_classes(labels["train"], getattr(named["train"], "classes", None), title)
    splits = {}
    for split, source in sources.items():
        prefix = f"{split}/" if len(named) > 1 else ""
        splits[split] = ImageSet(
            split=split,
            classes=classes,
            names=[f"{prefix}{index:06d}.png" for index in range(len(labels[split]))],
            labels=np.array([_index(label, indices, source.title) for label in labels[split]], dtype=np.int64),
            source=source,
        )
    held_out: tuple[str, ...] = ()
    if not isinstance(data, Mapping):
        splits, held_out = hold_out_test(splits["train"]), ("test",)
    validation = "the data set given as val" if "val" in named else ""
    return make_data_set(title, title, splits, validation, held_out=held_out)


def _is_map_style(data: object) -> bool:
    return hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, IterableDataset | str)


def _title(data: object) -> str:
    return "pairs" if isinstance(data, list | tuple) else type(data).__name__


def _labels(source: MappedSource, progress: Progress) -> list[Label]:
    """The label of each item: from ``targets`` where a few items confirm them."""
    count = len(source.items)
    some = np.linspace(0, count - 1, min(_CHECKED_TARGETS, count)).astype(int).tolist()
    try:
        targets = [_to_label(target) for target in getattr(source.items, "targets", ())]
    except (TypeError, UsageError):  # targets of another kind
        targets = []
    if len(targets) == count and all(targets[index] == source.label(index) for index in some):
        return targets
    labels = []
    for index in range(count):
        labels.append(source.label(index))
        progress("reading labels", index + 1, count)
    return labels


def _to_label(value: object) -> Label:
    if isinstance(value, str):
        return str(value)
    try:
        return operator.index(value)  # type: ignore[arg-type]  # of NumPy and of tensors too
    except TypeError:
        raise UsageError(f"{value!r}, of type {type(value).__name__}: give an int or a str") from None


def _number_classes(labels: Sequence[Label], listed: object, title: str) -> tuple[tuple[str, ...], Mapping[Label, int]]:
    """Returns the names of the classes, and the index of each label."""
    names = _names(listed)
    if names:
        either: dict[Label, int] = {name: index for index, name in enumerate(names)}
        return names, either | {index: index for index in range(len(names))}
    numbers = sorted({label for label in labels if not isinstance(label, str)})
    words = sorted({label for label in labels if isinstance(label, str)}, key=natural_key)
    if numbers and words:
        raise UsageError(f"{title} has labels of both kinds, such as {numbers[0]} and {words[0]!r}: give one kind")
    found: list[Label] = [*numbers, *words]
    if len(found) < 2:
        raise UsageError(f"{title} has one class, {found[0]!r}: a classifier needs at least two")
    return tuple(map(str, found)), {label: index for index, label in enumerate(found)}


def _names(listed: object) -> tuple[str, ...]:
    """Names of classes as torchvision lists them, for ImageNet as tuples of synonyms; none of anything else."""
    if not isinstance(listed, list | tuple) or len(listed) < 2:
        return ()
    names = tuple(", ".join(name) if isinstance(name, tuple) else str(name) for name in listed)
    return names if len(set(names)) == len(names) else ()


def _index(label: Label, indices: Mapping[Label, int], title: str) -> int:
    if label not in indices:
        raise UsageError(f"{title} has the label {label!r}, which is none of the classes of train: leave it out")
    return indices[label]


def _to_pixels(image: object) -> UInt8[ndarray, "h w 3"]:
    if isinstance(image, Tensor):
        image = _to_array(image)
    if isinstance(image, ndarray):
        is_image = image.dtype == np.uint8 and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4)))
        if not is_image or not image.size:
            raise UsageError(f"an array {image.shape} of {image.dtype}: {_IMAGE}")
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise UsageError(f"a {type(image).__name__}: {_IMAGE}")
    return np.asarray(to_rgb(ImageOps.exif_transpose(image), image))


def _to_array(image: Tensor) -> ndarray:
    if image.ndim != 3 or len(image) not in (1, 3) or not (image.dtype == torch.uint8 or image.is_floating_point()):
        raise UsageError(f"a tensor {tuple(image.shape)} of {str(image.dtype).removeprefix('torch.')}: {_IMAGE}")
    if image.is_floating_point():
        low, high = (float(bound) for bound in image.aminmax())
        if not 0 <= low <= high <= 1:
            raise UsageError(
                f"a tensor of floats from {format_number(low)} to {format_number(high)}: give 0..1, or uint8, and "
                "leave Normalize out: the net subtracts its mean itself"
            )
        image = (image * 255).round()
    array: ndarray = image.detach().cpu().to(torch.uint8).permute(1, 2, 0).numpy()
    return array[:, :, 0] if array.shape[2] == 1 else array
