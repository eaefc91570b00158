"""LabelMe: a JSON file for each image, beside it; rectangles in any order of their corners, polygons, circles."""

from pathlib import Path
from typing import Any

from verydeep.data.boxes.files import AnnotationError, Images, first_bytes, is_same_name, quoted, read_json
from verydeep.data.boxes.findings import BoxFinding
from verydeep.data.boxes.reading import Annotation, RawBox, Reading, class_name, number, read_each, whole
from verydeep.data.listing import natural_key
from verydeep.progress import Progress, ignore_progress

_LARGEST = 200_000_000  # it may hold the image
_LOOKED_AT = 1 << 16


def labelme_files(folder: Path) -> list[Path]:
    """The LabelMe files of a folder, without those of the folders in it."""
    files = sorted(folder.glob("*.json"), key=lambda file: natural_key(file.name))
    return files if any(_is_labelme(file) for file in files[:20]) else []


def _is_labelme(file: Path) -> bool:
    return b'"shapes"' in first_bytes(file, _LOOKED_AT)


def read_labelme(root: Path, folder: Path, progress: Progress = ignore_progress) -> Reading:
    """Reads the LabelMe files of a folder, whose images lie beside them or where they say."""
    files, images = labelme_files(folder), Images([folder])
    reading = Reading(format="LabelMe", root=root, annotations=[], advice="draw the boxes again")

    def read(name: str, file: Path) -> Annotation:
        content = read_json(file, _LARGEST)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise AnnotationError(file, "has no list 'shapes'", "export it from LabelMe again, or remove it")
        return _annotation(name, file, content, images, reading.findings)

    read_each(reading, files, images, read, progress)
    return reading


def _annotation(
    name: str, file: Path, content: dict[str, Any], images: Images, findings: list[BoxFinding]
) -> Annotation:
    stated = str(content.get("imagePath") or "")
    own = images.named_like(file.stem)
    image = own[0] if len(own) == 1 else images.find(stated, file.parent)
    if image is None:
        image = file.parent / (stated.replace("\\", "/") or f"{file.stem}.jpg")
    elif stated and not is_same_name(image, stated):
        findings.append(BoxFinding("image-name", name, f"names {quoted(stated)}", f"{image.name} taken"))
    boxes = []
    for index, shape in enumerate(content["shapes"], start=1):
        place = f"shape {index}"
        kind = shape.get("shape_type", "polygon") if isinstance(shape, dict) else "unknown"
        if kind in ("rectangle", "polygon", "circle", "mask", "oriented_rectangle"):
            label = class_name(str(shape.get("label", "")))
            boxes.append(RawBox(label, _edges(shape, kind), place + (f" ({label})" if label else "")))
        else:
            findings.append(BoxFinding("not-a-box", name, f"{place} is a {quoted(str(kind))}", "left out"))
    size = whole(content.get("imageWidth")), whole(content.get("imageHeight"))
    return Annotation(file=name, image=image, boxes=boxes, size=size)


def _edges(shape: dict[str, Any], kind: str) -> tuple[float, float, float, float]:
    """The box around the points of a shape; a circle has its centre and a point of it."""
    points = shape.get("points")
    pairs = points if isinstance(points, list) else []
    xs = [number(pair[0]) for pair in pairs if isinstance(pair, list) and len(pair) == 2]
    ys = [number(pair[1]) for pair in pairs if isinstance(pair, list) and len(pair) == 2]
    if len(xs) < max(2, len(pairs)) or not all(value == value for value in (*xs, *ys)):
        return (float("nan"),) * 4
    if kind == "circle":
        radius = ((xs[1] - xs[0]) ** 2 + (ys[1] - ys[0]) ** 2) ** 0.5
        return xs[0] - radius, ys[0] - radius, xs[0] + radius, ys[0] + radius
    return min(xs), min(ys), max(xs), max(ys)
