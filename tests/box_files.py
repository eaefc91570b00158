"""Writes small sets with boxes in every format, for the tests of boxes."""

import io
import json
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from conftest import scene

SIZE = (120, 90)
BOX = (20, 10, 70, 60)
"""Edges in pixels, counted from 0, of the box that is usually there."""

Rows = dict[str, list[tuple[str, Sequence[float]]]]
"""Class and edges of the boxes of each image, by its name without ending."""


def rows(count: int = 20, classes: Sequence[str] = ("cat", "dog")) -> Rows:
    """A box of one of the classes in each image, in another place each time, away from 0."""
    return {
        f"im{index}": [(classes[index % len(classes)], (20 + index, 10 + index % 7, 70 + index, 60 + index % 5))]
        for index in range(count)
    }


@cache
def encoded(name: str, size: tuple[int, int], ending: str) -> bytes:
    """The file of a picture, another one for each name; drawn once."""
    file = io.BytesIO()
    kind = "JPEG" if ending in ("jpg", "JPEG") else ending
    scene(zlib.crc32(name.encode()) % 1_000_000, *size).save(file, kind)
    return file.getvalue()


def images(folder: Path, names, size=SIZE, ending="jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.{ending}").write_bytes(encoded(str(name), size, ending))


def xml(name, boxes, size=SIZE, shift=1, filename=None):
    """A VOC annotation; the VOC counts from 1, so that left and top are moved by one."""

    def moved(edge):
        return edge if isinstance(edge, str) else edge + shift

    objects = "".join(
        f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{moved(left)}</xmin>"
        f"<ymin>{moved(top)}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for label, (left, top, right, bottom) in boxes
    )
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation><filename>{filename or f'{name}.jpg'}</filename>{sides}{objects}</annotation>"


def voc(root: Path, data: Rows, size=SIZE) -> Path:
    images(root / "JPEGImages", data, size)
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    for name, boxes in data.items():
        (root / "Annotations" / f"{name}.xml").write_text(xml(name, boxes, size))
    return root


def labelimg(root: Path, data: Rows) -> Path:
    images(root, data)
    for name, boxes in data.items():
        (root / f"{name}.xml").write_text(xml(name, boxes))
    return root


def coco_content(data: Rows, folder="") -> dict:
    labels = sorted({label for boxes in data.values() for label, _ in boxes})
    entries = [(index, box) for index, boxes in enumerate(data.values()) for box in boxes]
    return {
        "images": [
            {"id": index, "file_name": f"{folder}{name}.jpg", "width": SIZE[0], "height": SIZE[1]}
            for index, name in enumerate(data)
        ],
        "categories": [{"id": 7 + 3 * index, "name": label} for index, label in enumerate(labels)],
        "annotations": [
            {
                "id": number,
                "image_id": index,
                "category_id": 7 + 3 * labels.index(label),
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
            }
            for number, (index, (label, (left, top, right, bottom))) in enumerate(entries)
        ],
    }


def coco(root: Path, data: Rows) -> Path:
    images(root / "images", data)
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_default.json").write_text(json.dumps(coco_content(data)))
    return root


def yolo_lines(boxes, classes=("cat", "dog")) -> str:
    lines = []
    for label, (left, top, right, bottom) in boxes:
        numbers = [(left + right) / 2 / SIZE[0], (top + bottom) / 2 / SIZE[1]]
        numbers += [(right - left) / SIZE[0], (bottom - top) / SIZE[1]]
        lines.append(f"{classes.index(label)} " + " ".join(f"{number:.6f}" for number in numbers))
    return "\n".join(lines)


def yolo(root: Path, data: Rows, split="train") -> Path:
    images(root / "images" / split, data)
    (root / "labels" / split).mkdir(parents=True, exist_ok=True)
    for name, boxes in data.items():
        (root / "labels" / split / f"{name}.txt").write_text(yolo_lines(boxes))
    if not (root / "data.yaml").exists():
        (root / "data.yaml").write_text("path: .\ntrain: images/train\nnames:\n  0: cat\n  1: dog\n")
    return root


def labelme(root: Path, data: Rows) -> Path:
    images(root, data)
    for name, boxes in data.items():
        shapes = [
            {"label": label, "shape_type": "rectangle", "points": [[right, top], [left, bottom]]}
            for label, (left, top, right, bottom) in boxes
        ]
        record = {"shapes": shapes, "imagePath": f"{name}.jpg", "imageWidth": SIZE[0], "imageHeight": SIZE[1]}
        (root / f"{name}.json").write_text(json.dumps(record))
    return root


def table(root: Path, data: Rows, header="file,class,x1,y1,x2,y2") -> Path:
    images(root / "all", data)
    lines = [
        f"all/{name}.jpg,{label},{','.join(f'{edge:g}' for edge in edges)}"
        for name, boxes in data.items()
        for label, edges in boxes
    ]
    (root / "boxes.csv").write_text("\n".join([header, *lines, ""]))
    return root / "boxes.csv"


def ilsvrc(root: Path, data: Rows) -> Path:
    lists = {"train_loc": [], "val": []}
    for index, (name, boxes) in enumerate(data.items()):
        label = boxes[0][0]
        place, split = (f"{label}/{name}", "train") if index % 5 else (name, "val")
        lists["train_loc" if split == "train" else "val"].append(f"{place} {index + 1}")
        image = root / "Data/CLS-LOC" / split / f"{place}.JPEG"
        images(image.parent, [name], ending="JPEG")
        annotation = root / "Annotations/CLS-LOC" / split / f"{place}.xml"
        annotation.parent.mkdir(parents=True, exist_ok=True)
        annotation.write_text(xml(name, boxes, filename=name))
    (root / "ImageSets/CLS-LOC").mkdir(parents=True)
    for name, lines in lists.items():
        (root / "ImageSets/CLS-LOC" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


FORMATS = {
    "voc": voc,
    "labelimg": labelimg,
    "coco": coco,
    "yolo": yolo,
    "labelme": labelme,
    "csv": table,
    "ilsvrc": ilsvrc,
}
