"""COCO JSON, as CVAT, Label Studio and Roboflow write it: one file for a data set, or one for each split."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from verydeep.data.boxes.files import LARGEST_LIST, AnnotationError, Images, is_same_name, quoted, read_json
from verydeep.data.boxes.findings import BoxFinding, refused
from verydeep.data.boxes.reading import Annotation, RawBox, Reading, class_name, number, relative, split_of, whole
from verydeep.data.listing import natural_key
from verydeep.errors import UserError
from verydeep.progress import Progress, ignore_progress

_HEAD = 1 << 16
_FOLDERS = ("", "images", "Images", "JPEGImages", "data")


def coco_files(folder: Path) -> list[Path]:
    """The COCO files of a folder, or of its annotations/."""
    for place in (folder / "annotations", folder):
        if found := [file for file in sorted(place.glob("*.json"), key=lambda file: natural_key(file.name))
                     if is_coco(file)]:  # fmt: skip
            return found
    return []


def is_coco(file: Path) -> bool:
    """Whether a JSON file looks like COCO's: by its name or its first and last bytes, whatever its size."""
    if file.suffix.lower() != ".json" or not file.is_file():
        return False
    if file.name.endswith(".coco.json") or file.name.startswith("instances_"):
        return True
    size = file.stat().st_size
    with file.open("rb") as opened:
        parts = opened.read(_HEAD)
        opened.seek(max(0, size - _HEAD))
        parts += opened.read()
    keys = [b'"images"', b'"annotations"', b'"categories"']
    return parts.lstrip().startswith(b"{") and b'"shapes"' not in parts and sum(key in parts for key in keys) >= 2


def read_coco(root: Path, files: Sequence[Path], progress: Progress = ignore_progress) -> Reading:
    """Reads COCO files; of several, each is the split that its name says."""
    splits = {file: split_of(file.stem) for file in files}
    if len(files) > 1:
        files = [file for file in files if splits[file]]
        chosen = [splits[file] for file in files]
        if not files or len(set(chosen)) < len(chosen):
            names = ", ".join(file.name for file in list(splits)[:4])
            raise UserError(f"{root} has several COCO files, {names}: give one of them, or name them by their splits")
    reading = Reading(
        format="COCO",
        root=root,
        annotations=[],
        code="xywh",
        advice="write bbox as left, top, width, height in pixels",
    )
    classes: dict[str, None] = {}
    for index, file in enumerate(files):
        split = splits[file] if any(splits[one] == "train" for one in files) else ""
        classes |= dict.fromkeys(_read(reading, file, split, progress))
        progress("reading boxes", index + 1, len(files))
    reading.classes = tuple(classes)
    if any(annotation.split == "val" for annotation in reading.annotations):
        reading.validation = f"the file {next(file for file in files if splits[file] == 'val').name}"
    return reading


def _read(reading: Reading, file: Path, split: str, progress: Progress) -> list[str]:
    content = read_json(file, LARGEST_LIST)
    name = relative(file, reading.root)
    images, entries, categories = (_list(file, content, key) for key in ("images", "annotations", "categories"))
    label_of = {_id(one): class_name(str(one.get("name", ""))) for one in categories}
    boxes = _boxes(entries, label_of, name, reading.findings)
    above = file.parent.parent if file.parent.name == "annotations" else file.parent
    places = _places(above, split)
    known = Images([above])
    seen: set[Any] = set()
    for index, one in enumerate(images):
        stated = str(one.get("file_name", ""))
        place = f"{name}, image {quoted(stated)}"
        if not stated or _id(one) is None or _id(one) in seen:
            problem = "has no file_name" if not stated else "has no id of its own"
            reading.findings.append(refused("annotation", place, problem, "export it again"))
            continue
        seen.add(_id(one))
        image = known.find(stated, *places)
        if image is not None and not is_same_name(image, stated):
            reading.findings.append(BoxFinding("image-name", place, "has another name", f"{image.name} taken"))
        reading.annotations.append(
            Annotation(
                file=place,
                image=image or above / stated.replace("\\", "/"),
                boxes=boxes.pop(_id(one), ()),
                size=(whole(one.get("width")), whole(one.get("height"))),
                split=split,
            )
        )
        progress("reading boxes", index + 1, len(images))
    for left in boxes.values():
        fault = f"{left[0].place} is of an image that is not listed"
        reading.findings.append(refused("annotation", name, fault, "list the image, or remove its boxes"))
    return list(label_of.values())


def _places(above: Path, split: str) -> list[Path]:
    """The folders where images may lie: those named after the split first, as train2017/."""
    folders = [above / place for place in _FOLDERS if (above / place).is_dir()]
    named = [inside for folder in folders for inside in sorted(folder.glob("*/")) if split_of(inside.name) == split]
    return [*(named if split else ()), *folders]


def _list(file: Path, content: object, key: str) -> list[Mapping[str, Any]]:
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise AnnotationError(file, f"has no list {key!r}", "export it as COCO, with images, annotations, categories")
    return found


def _id(one: Mapping[str, Any], key: str = "id") -> int | str | None:
    found = one.get(key)
    return found if isinstance(found, int | str) else None


def _boxes(
    entries: Sequence[Mapping[str, Any]], label_of: Mapping[Any, str], name: str, findings: list[BoxFinding]
) -> dict[Any, list[RawBox]]:
    """The boxes of each image by its id, without crowds and masks that have no box."""
    boxes: dict[Any, list[RawBox]] = defaultdict(list)
    for index, one in enumerate(entries):
        place = f"annotation {one.get('id', index)}"
        box = one.get("bbox")
        if one.get("iscrowd"):
            findings.append(BoxFinding("not-a-box", name, f"{place} is a crowd", "left out"))
            continue
        if not box and isinstance(one.get("segmentation"), dict):
            findings.append(BoxFinding("not-a-box", name, f"{place} is a mask (RLE) without a box", "left out"))
            continue
        label = label_of.get(_id(one, "category_id"), "")
        if not label:
            place += f" (category {one.get('category_id')!r})"
        numbers = [number(value) for value in box] if isinstance(box, list) else []
        left, top, width, height = numbers if len(numbers) == 4 else [float("nan")] * 4
        boxes[_id(one, "image_id")].append(RawBox(label, (left, top, width, height), place))
    return boxes
