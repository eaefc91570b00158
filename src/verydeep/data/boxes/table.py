"""A CSV of boxes: file, class, x1, y1, x2, y2 in pixels, and where wanted split and group; or x, y, width, height."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from verydeep.data.boxes.files import Images, is_same_name, quoted
from verydeep.data.boxes.findings import BoxFinding
from verydeep.data.boxes.reading import Annotation, RawBox, Reading, class_name, number, whole
from verydeep.data.table import COLUMNS, SUFFIXES, read_rows
from verydeep.errors import UserError
from verydeep.progress import Progress, ignore_progress

_CORNERS = {
    "x1": ("x1", "xmin", "left"),
    "y1": ("y1", "ymin", "top"),
    "x2": ("x2", "xmax", "right"),
    "y2": ("y2", "ymax", "bottom"),
}
_SIZES = {
    "x1": ("x", "left", "xmin", "bbox_x"),
    "y1": ("y", "top", "ymin", "bbox_y"),
    "x2": ("w", "box_width", "bbox_width", "bbox_w"),
    "y2": ("h", "box_height", "bbox_height", "bbox_h"),
}
_SIDES = {
    "width": ("width", "image_width", "img_width"),
    "height": ("height", "image_height", "img_height"),
}


def is_box_table(file: Path) -> bool:
    """Whether a CSV names columns for the edges of boxes."""
    return file.suffix.lower() in SUFFIXES and file.is_file() and _columns(file) is not None


def _columns(table: Path) -> Mapping[str, tuple[str, ...]] | None:
    """The columns of the four numbers, corners or sizes; None where some are missing."""
    try:
        with table.open(encoding="utf-8-sig", errors="replace") as opened:
            header = opened.readline(10_000)
    except OSError:
        return None
    names = {name.strip(" \"'\r\n").lower() for name in header.replace(";", ",").replace("\t", ",").split(",")}
    plain = {**_SIZES, "x2": (*_SIZES["x2"], "width"), "y2": (*_SIZES["y2"], "height")}  # x, y, width, height
    for columns in (_CORNERS, _SIZES, plain):
        if all(any(name in names for name in known) for known in columns.values()):
            return columns
    return None


@dataclass
class _Image:
    split: str
    group: str
    line: int
    size: tuple[int, int] | None
    boxes: list[RawBox] = field(default_factory=list)


def read_box_table(root: Path, table: Path, progress: Progress = ignore_progress) -> Reading:
    """Reads the boxes of a CSV, a row each; the paths are relative to it.

    Raises:
        UserError: it cannot be read, or an image is in two splits.
    """
    columns = _columns(table)
    assert columns is not None
    is_corners = columns is _CORNERS
    sides = _SIDES if "width" not in columns["x2"] else {}
    reading = Reading(
        format="CSV",
        root=root,
        annotations=[],
        code="corners" if is_corners else "xywh",
        advice="name the columns x1,y1,x2,y2 or x,y,w,h, whichever they are, in pixels",
    )
    images: dict[str, _Image] = {}
    groups: dict[str, str] = {}
    for line, row in read_rows(table, {**COLUMNS, **columns, **sides}):
        size = (whole(row["width"]), whole(row["height"])) if row.get("width") and row.get("height") else None
        image = images.setdefault(row["file"], _Image(row.get("split", ""), row.get("group", ""), line, size))
        if row.get("split", "") != image.split:
            raise UserError(
                f"{table}, line {line}: {row['file']} is in {row['split']} here and in {image.split} in line "
                f"{image.line}: keep it in one split"
            )
        if row.get("group") and groups.setdefault(row["group"], image.split) != image.split:
            raise UserError(f"{table}, line {line}: the group {row['group']!r} is in two splits: keep it in one")
        edges = [number(row.get(name, "")) for name in _CORNERS]
        label = class_name(row["label"])
        image.boxes.append(RawBox(label, (edges[0], edges[1], edges[2], edges[3]), f"line {line} ({label})"))
    if not images:
        raise UserError(f"{table} has no rows below its first line: add the boxes")
    name = reading.relative(table)
    found = Images([table.parent])
    for index, (stated, one) in enumerate(images.items()):
        file = found.find(stated, table.parent)
        if file is not None and not is_same_name(file, stated):
            fault = f"line {one.line} names {quoted(stated)}"
            reading.findings.append(BoxFinding("image-name", name, fault, f"{file.name} taken"))
        reading.annotations.append(
            Annotation(
                file=name,
                image=file or table.parent / stated,
                boxes=one.boxes,
                size=one.size,
                split=one.split,
                group=one.group,
            )
        )
        progress("reading boxes", index + 1, len(images))
    reading.validation = "the rows of the split val" if any(one.split == "val" for one in images.values()) else ""
    return reading
