"""YOLO: a data.yaml that names the classes and splits, and a text file of labels for each image; polygons too."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from verydeep.data.boxes.files import AnnotationError, is_there, quoted, read_text
from verydeep.data.boxes.findings import refused
from verydeep.data.boxes.reading import Annotation, RawBox, Reading, class_name, number
from verydeep.data.folder import SPLIT_NAMES
from verydeep.data.listing import list_images, natural_key
from verydeep.errors import UserError
from verydeep.progress import Progress, ignore_progress

_LARGEST_YAML = 1_000_000
_NAMES = ("classes.txt", "obj.names")


def yolo_file(folder: Path) -> Path | None:
    """The file that names the classes of a YOLO set: its YAML, else classes.txt; None where there is none."""
    named = [folder / name for name in ("data.yaml", "dataset.yaml", "data.yml")]
    for file in [*named, *sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])]:
        if file.is_file() and (file.name == "data.yaml" or _names_and_splits(file)):
            return file
    if not ((folder / "images").is_dir() and (folder / "labels").is_dir()):
        return None
    places = (folder / place / name for place in ("", "labels") for name in _NAMES)
    return next((file for file in places if file.is_file()), None)


def _names_and_splits(file: Path) -> bool:
    try:
        text = read_text(file, _LARGEST_YAML)
    except AnnotationError:
        return False
    return "names:" in text and "train:" in text


def is_yolo(folder: Path) -> bool:
    """Whether a folder is a YOLO set, complete or without the names of its classes."""
    return yolo_file(folder) is not None or ((folder / "images").is_dir() and any((folder / "labels").rglob("*.txt")))


def read_yolo(root: Path, file: Path | None, progress: Progress = ignore_progress) -> Reading:
    """Reads a YOLO set by the file that names its classes."""
    if file is None:
        raise UserError(f"{root} has images/ and labels/ but no data.yaml: add one with names: [first, second]")
    folder = file.parent.parent if file.parent.name == "labels" else file.parent
    content: Mapping[str, Any] = {}
    if file.suffix in (".yaml", ".yml"):
        content = _read_yaml(file)
        classes = _names(file, content)
    else:
        classes = tuple(class_name(line) for line in read_text(file).splitlines() if line.strip())
    reading = Reading(
        format="YOLO",
        root=root,
        annotations=[],
        code="centre",
        unit="shares",
        classes=classes,
        advice="write centre x, centre y, width, height as shares of the image",
    )
    found, used = list(_images(file, folder, content)), set[int]()
    for index, (split, image) in enumerate(found):
        reading.annotations.append(_annotation(image, split, classes, reading, used))
        progress("reading boxes", index + 1, len(found))
    if used and min(used) == 1 and max(used) == len(classes):
        raise UserError(f"{file}: the labels number its classes from 1 to {len(classes)}: number them from 0")
    if content.get("val"):
        reading.validation = f"the split val of {file.name}"
    return reading


def _read_yaml(file: Path) -> Mapping[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(read_text(file, _LARGEST_YAML))
    except (yaml.YAMLError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise AnnotationError(file, f"is no valid YAML{line}", "mend it") from error
    if not isinstance(content, dict):
        raise AnnotationError(file, "has no names", "add names: [first, second], in the order of the labels' numbers")
    return content


def _names(file: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes by their number: of a list, or of numbers with names; a number that has none has an empty one."""
    names = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise AnnotationError(file, "has no names", "add names: [first, second], in the order of the labels' numbers")
    if not all(isinstance(key, int) and 0 <= key < 100_000 for key in names):
        raise AnnotationError(file, "has names without a number", "write names as a list, or as 0: first, 1: second")
    if bad := [name for name in names.values() if not isinstance(name, str | int | float)]:
        raise AnnotationError(file, f"has the name {quoted(str(bad[0]))}", "write each name as text")
    count = content.get("nc")
    if isinstance(count, int) and count != len(names):
        raise AnnotationError(file, f"has nc: {count} and {len(names)} names", "make them agree")
    return tuple(class_name(str(names.get(index, ""))) for index in range(max(names) + 1))


def _images(file: Path, folder: Path, content: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """The images of each split: of the YAML, else of images/train and the like, else of images/ without splits."""
    places = {
        split: places
        for split, names in SPLIT_NAMES.items()
        for name in names
        if (places := content.get(name)) is not None
    }
    if not places:
        inside = folder / "images"
        named = {split: inside / name for split, names in SPLIT_NAMES.items() for name in names
                 if (inside / name).is_dir()}  # fmt: skip
        places = named if "train" in named else {"": inside}
    elif "train" not in places:
        raise AnnotationError(file, "has no train:", "add the folder of the training images")
    for split, stated in places.items():
        for one in stated if isinstance(stated, list) else [stated]:
            place = one if isinstance(one, Path) else _place(file, content, str(one))
            yield from ((split, image) for image in _listed(file, place, split))


def _place(file: Path, content: Mapping[str, Any], stated: str) -> Path:
    """Finds a folder or list that a YAML names: relative to its path:, to the YAML, or as Roboflow writes it."""
    path = PurePosixPath(stated.replace("\\", "/"))
    below = PurePosixPath(*(part for part in path.parts if part not in ("..", ".")))
    tries = [file.parent / str(content.get("path") or "") / path, file.parent / path, file.parent / below]
    for place in tries:
        if is_there(place):
            return place
    raise AnnotationError(file, f"names {quoted(stated)}, which is not there", "correct it: relative to the YAML")


def _listed(file: Path, place: Path, split: str) -> list[Path]:
    if place.is_dir():
        images = list_images(place).images
    else:
        lines = [line.strip() for line in read_text(place, 100_000_000).splitlines() if line.strip()]
        images = [place.parent / line if is_there(place.parent / line) else file.parent / line for line in lines]
        images = [image for image in images if image.name]
    if not images:
        raise AnnotationError(file, f"has no images for {split or 'training'} in {place}", "add them")
    return sorted(images, key=lambda image: natural_key(image.as_posix()))


def _labels(image: Path) -> Path:
    """The label file of an image: its last folder images/ is labels/ there; or beside it."""
    parts = list(image.with_suffix(".txt").parts)
    places = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
        found = Path(*parts)
        if is_there(found):
            return found
    return image.with_suffix(".txt")


def _annotation(image: Path, split: str, classes: tuple[str, ...], reading: Reading, used: set[int]) -> Annotation:
    """Reads the labels of an image; ``used`` receives the numbers of its classes."""
    file = _labels(image)
    boxes: list[RawBox] = []
    name = reading.relative(file)
    if not is_there(file):
        return Annotation(file=reading.relative(image), image=image, boxes=boxes, split=split)
    try:
        lines = read_text(file).splitlines()
    except AnnotationError as error:
        reading.findings.append(refused("annotation", name, error.fault, error.remedy))
        lines = []
    for index, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = line.split()
            boxes.append(_box(fields, index, classes))
            used.add(int(number(fields[0])))
        except ValueError as error:
            reading.findings.append(refused("annotation", name, f"line {index} {error}", "mend the line"))
    return Annotation(file=name, image=image, boxes=boxes, split=split)


def _box(fields: list[str], index: int, classes: tuple[str, ...]) -> RawBox:
    """Makes the box of a line, or the one around its polygon; raises ValueError, with what is wrong."""
    if len(fields) not in (5, 6) and (len(fields) < 7 or len(fields) % 2 == 0):
        raise ValueError(f"has {len(fields)} fields instead of a class and 4 numbers, or a polygon")
    numbers = [number(field) for field in fields[1:]]
    which = number(fields[0])
    if not which.is_integer():
        raise ValueError(f"begins with {quoted(fields[0])} instead of the number of a class")
    label = classes[int(which)] if 0 <= which < len(classes) else ""
    place = f"line {index}" + ("" if label else f" (class {int(which)}, and names has {len(classes)})")
    if len(fields) > 6:
        xs, ys = numbers[::2], numbers[1::2]
        if not all(value == value for value in numbers):
            numbers = [float("nan")] * 4
        else:
            width, height = max(xs) - min(xs), max(ys) - min(ys)
            numbers = [min(xs) + width / 2, min(ys) + height / 2, width, height]
    x, y, width, height = numbers[:4]  # a sixth field is a confidence
    return RawBox(label, (x, y, width, height), place)
