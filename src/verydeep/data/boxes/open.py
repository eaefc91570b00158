"""Opens data with boxes: a folder or file in one of the formats, or the built-in set ``shapes``.

Paper: appendix A.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from verydeep.data.boxes.boxed import BoxedImages, BoxedSet, boxes_of_data_set, group_boxes
from verydeep.data.boxes.check import Checked, CheckedImage, check
from verydeep.data.boxes.coco import coco_files, is_coco, read_coco
from verydeep.data.boxes.findings import LEAVE_OUT
from verydeep.data.boxes.ilsvrc import is_ilsvrc, read_ilsvrc
from verydeep.data.boxes.labelme import labelme_files, read_labelme
from verydeep.data.boxes.reading import Reading
from verydeep.data.boxes.table import is_box_table, read_box_table
from verydeep.data.boxes.voc import is_beside, is_voc, read_beside, read_voc
from verydeep.data.boxes.yolo import is_yolo, read_yolo, yolo_file
from verydeep.data.dataset import TEST_SHARE, VALIDATION_SHARE, hold_out_groups, hold_out_test, make_data_set
from verydeep.data.folder import SPLIT_NAMES
from verydeep.data.image_set import ImageSet
from verydeep.data.shapes import SHAPES, ShapesSource, shapes_boxes, shapes_data_set
from verydeep.data.sources import FolderSource
from verydeep.errors import UserError, printable
from verydeep.progress import Progress, ignore_progress

_Read = Callable[[Path, Path, Progress], Reading]

FORMATS = (
    "a folder of the Pascal VOC (Annotations/ beside JPEGImages/, or XML beside the images), COCO JSON, YOLO "
    "(data.yaml), LabelMe JSON, ILSVRC, or a CSV with the columns file,class,x1,y1,x2,y2"
)
"""What ``open_boxed`` opens, in words."""

_HELD_OUT_GROUPS = "a tenth of the training images, held out group by group"


def open_boxed(data: str | Path, *, skip_damaged: bool = False, progress: Progress = ignore_progress) -> BoxedSet:
    """Opens a data set with boxes.

    The splits are the data's own where they have some: lists of ImageSets/, the splits of data.yaml, folders train/
    val/ test/ each with annotations, COCO files named after them, a column split. Otherwise they are held out by the
    names of the images.

    Args:
        data: a folder, a file (COCO JSON, data.yaml, CSV), or ``shapes``.
        skip_damaged: leave out what is refused, and name it in the findings, instead of raising.
        progress: receives the number done and their total.

    Raises:
        UserError: there are no such data, or a box or image of them is refused: the first by name, with the remedy.
    """
    path = Path(data)
    if str(data) == SHAPES and not path.exists():
        return open_shapes()
    checked = check(read_boxes(path, progress), progress)
    refusals = [finding for finding in checked.findings if finding.is_refused]
    if refusals and not skip_damaged:
        first, more = refusals[0], len(refusals) - 1
        others = f" (and {more:,} more)" if more else ""
        remedy = first.remedy if LEAVE_OUT in first.remedy else f"{first.remedy}, or {LEAVE_OUT}"
        line = printable(f"{first.file}: {first.fault}{others}: {remedy}")  # with names of files that others chose
        raise UserError(" ".join(line.splitlines()))
    return make_boxed_set(path, checked)


def has_boxes(data: str | Path) -> bool:
    """Whether data have boxes: ``shapes``, or a folder or file in a format of boxes; nothing is checked yet."""
    path = Path(data)
    if str(data) == SHAPES and not path.exists():
        return True
    return bool(_readers(path))


def read_boxes(path: Path, progress: Progress = ignore_progress) -> Reading:
    """Reads the boxes of a folder or file as they stand there.

    Raises:
        UserError: there are none.
    """
    readers = _readers(path)
    if not readers:
        what = "there is no" if not path.exists() else "no boxes in"
        raise UserError(f"{what} {path}: give {FORMATS}; or {SHAPES}")
    root = path if path.is_dir() else path.parent
    readings = []
    for split, folder, read in readers:
        reading = read(root, folder, progress)
        if split:
            reading.annotations = [replace(annotation, split=split) for annotation in reading.annotations]
            reading.validation = f"the folder {folder.name}/" if split == "val" else reading.validation
        readings.append(reading)
    return _join(readings, path)


def _join(readings: Sequence[Reading], path: Path) -> Reading:
    first = readings[0]
    if any(reading.format != first.format for reading in readings):
        raise UserError(f"{path} has {' and '.join(one.format for one in readings)}: convert them to one format")
    return replace(
        first,
        annotations=[annotation for reading in readings for annotation in reading.annotations],
        classes=tuple(dict.fromkeys(name for reading in readings for name in reading.classes)),
        findings=[finding for reading in readings for finding in reading.findings],
        validation=next((reading.validation for reading in readings if reading.validation), ""),
    )


def _readers(path: Path) -> list[tuple[str, Path, _Read]]:
    """What reads a path: the split, the folder or file, and the reader; of split folders each with its own."""
    if path.is_file():
        read = _file_reader(path)
        return [("", path, read)] if read else []
    if not path.is_dir():
        return []
    if read := _folder_reader(path):
        return [("", path, read)]
    found = []
    for split, names in SPLIT_NAMES.items():
        for name in names:
            folder = path / name
            read = _folder_reader(folder) if folder.is_dir() else None
            if read:
                found.append((split, folder, read))
    if len({split for split, _, _ in found}) < len(found):
        both = " and ".join(f"{folder.name}/" for _, folder, _ in found)
        raise UserError(f"{path} has {both}: keep one folder for each split")
    return found if any(split == "train" for split, _, _ in found) else []


def _file_reader(file: Path) -> _Read | None:
    if is_box_table(file):
        return read_box_table
    if is_coco(file):
        return lambda root, file, progress: read_coco(root, [file], progress)
    return read_yolo if file.suffix.lower() in (".yaml", ".yml") else None


def _folder_reader(folder: Path) -> _Read | None:
    """The reader of a folder's format; None where it has none, or folders of splits that have one each."""
    if is_ilsvrc(folder):
        return read_ilsvrc
    if is_voc(folder):
        return read_voc
    if is_yolo(folder):
        return lambda root, folder, progress: read_yolo(root, yolo_file(folder), progress)
    if coco_files(folder):
        return lambda root, folder, progress: read_coco(root, coco_files(folder), progress)
    if labelme_files(folder):
        return read_labelme
    if is_beside(folder):
        return read_beside
    tables = [table for table in sorted(folder.glob("*.[ct]sv")) if is_box_table(table)]
    if len(tables) == 1:
        return lambda root, folder, progress: read_box_table(root, tables[0], progress)
    return None


def make_boxed_set(path: Path, checked: Checked) -> BoxedSet:
    """Makes a data set of checked boxes, with the splits that they have or held out."""
    root = path if path.is_dir() else path.parent
    name = (path.resolve().name if path.is_dir() else path.stem) or "boxes"
    of_split = {
        split: [image for image in checked.images if (image.split or "train") == split] for split in SPLIT_NAMES
    }
    if not checked.images:
        raise UserError(f"{path} has no image with a sound box: verydeep doctor {path} lists what is wrong")
    if not of_split["train"]:
        raise UserError(f"{path} has no training image with a sound box: verydeep doctor {path} lists what is wrong")
    parts = {split: _boxed_images(root, split, images, checked.classes) for split, images in of_split.items() if images}
    splits = {split: part.images for split, part in parts.items()}
    has_splits, groups = any(image.split for image in checked.images), _groups(checked)
    validation = checked.validation or "the validation images of the data" if "val" in splits else ""
    held_out: tuple[str, ...] = () if has_splits else ("test",)
    if groups:
        if not has_splits:
            splits["train"], splits["test"] = _hold_out(splits["train"], groups, TEST_SHARE, "test")
        if "val" not in splits:
            splits["train"], splits["val"] = _hold_out(splits["train"], groups, VALIDATION_SHARE, "val")
            validation, held_out = _HELD_OUT_GROUPS, (*held_out, "val")
    elif not has_splits:
        splits = hold_out_test(splits["train"])
    data = make_data_set(name, str(path), splits, validation, held_out=held_out)
    return boxes_of_data_set(data, list(parts.values()), checked.findings)


def _groups(checked: Checked) -> dict[str, str]:
    """The group of each image by its name; an image without one is a group by itself. Empty where there are none."""
    if not any(image.group for image in checked.images):
        return {}
    return {image.name: f"group {image.group}" if image.group else image.name for image in checked.images}


def _hold_out(images: ImageSet, groups: dict[str, str], share: float, split: str) -> tuple[ImageSet, ImageSet]:
    return hold_out_groups(images, [groups[name] for name in images.names], share, split)


def _boxed_images(root: Path, split: str, images: Sequence[CheckedImage], classes: tuple[str, ...]) -> BoxedImages:
    indices = {name: index for index, name in enumerate(classes)}
    grouped = [
        group_boxes(np.array([indices[label] for label in image.labels], dtype=np.int64), image.corners)
        for image in images
    ]
    return BoxedImages(
        images=ImageSet(
            split=split,
            classes=classes,
            names=[image.name for image in images],
            labels=np.array([label for label, _, _ in grouped], dtype=np.int64),
            source=FolderSource(root),
        ),
        boxes=[boxes for _, boxes, _ in grouped],
        others=[others for _, _, others in grouped],
    )


def open_shapes(source: ShapesSource | None = None, counts: Mapping[str, int] | None = None) -> BoxedSet:
    """Opens the built-in set, of any seed, sizes, classes and numbers of images."""
    data = shapes_data_set(source, counts)
    parts = []
    for images in data.splits.values():
        grouped = [group_boxes(*shapes_boxes(images.source, name)) for name in images.names]
        parts.append(
            BoxedImages(
                images=images, boxes=[boxes for _, boxes, _ in grouped], others=[others for _, _, others in grouped]
            )
        )
    return boxes_of_data_set(data, parts)
