"""Opens data with boxes: Pascal VOC alone here."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from verydeep.data.boxes.boxed import BoxedImages, BoxedSet
from verydeep.data.dataset import HELD_OUT, fingerprint, hold_out, hold_out_test
from verydeep.data.image_set import ImageSet
from verydeep.data.sources import FolderSource
from verydeep.errors import UserError
from verydeep.progress import Progress, ignore_progress


def open_boxed(data: str | Path, *, skip_damaged: bool = False, progress: Progress = ignore_progress) -> BoxedSet:
    """Opens a folder of Pascal VOC."""
    folder = Path(data)
    names, boxes, labels = [], [], []
    for file in sorted(folder.glob("Annotations/*.xml")):
        root = ElementTree.parse(file).getroot()
        found = [
            [float(item.findtext(f"bndbox/{edge}", "0")) for edge in ("xmin", "ymin", "xmax", "ymax")]
            for item in root.findall("object")
        ]
        if found and (folder / "JPEGImages" / f"{file.stem}.jpg").exists():
            names.append(f"JPEGImages/{file.stem}.jpg")
            boxes.append(np.array(found) - [1, 1, 0, 0])
            labels.append(0)
    if not names:
        raise UserError(f"{folder} holds no boxes")
    by_name = dict(zip(names, boxes, strict=True))
    whole = ImageSet(
        split="train", classes=("raccoon",), names=names, labels=np.array(labels), source=FolderSource(folder)
    )
    parts = hold_out_test(whole)
    train, val = hold_out(parts["train"], 0.1, "val")

    def boxed(images: ImageSet) -> BoxedImages:
        nothing = np.zeros(0, np.int64), np.zeros((0, 4))
        return BoxedImages(
            images=images, boxes=[by_name[name] for name in images.names], others=[nothing] * len(images)
        )

    return BoxedSet(
        name=folder.name,
        train=boxed(train),
        val=boxed(val),
        test=boxed(parts["test"]),
        mirror=True,
        validation=HELD_OUT,
        fingerprint=fingerprint(train, val, parts["test"]),
    )
