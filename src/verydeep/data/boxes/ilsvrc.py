"""The layout of ILSVRC's localisation task: Annotations/CLS-LOC, Data/CLS-LOC, ImageSets/CLS-LOC.

Paper: appendix A.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from verydeep.data.boxes.files import AnnotationError, is_there, read_text, read_xml
from verydeep.data.boxes.findings import BoxFinding, refused
from verydeep.data.boxes.reading import Annotation, RawBox, Reading, relative
from verydeep.data.boxes.voc import annotation_of
from verydeep.data.layouts import imagenet_classes
from verydeep.errors import UserError
from verydeep.progress import Progress, ignore_progress

_TASK = "CLS-LOC"
_LISTS = {"train": ("train_loc.txt", "train_cls.txt"), "val": ("val.txt",)}


def is_ilsvrc(folder: Path) -> bool:
    return (folder / "Annotations" / _TASK).is_dir()


def read_ilsvrc(root: Path, folder: Path, progress: Progress = ignore_progress) -> Reading:
    """Reads the boxes of train and val; the classes have the names and order of every published net."""
    reading = Reading(format="ILSVRC", root=root, annotations=[], from_one=True, advice="unpack the set again")
    for split in _LISTS:
        names = list(_names(folder, split))
        for index, name in enumerate(names):
            file = folder / "Annotations" / _TASK / split / f"{name}.xml"
            image = folder / "Data" / _TASK / split / f"{name}.JPEG"
            if not is_there(file):  # not every training image was annotated
                reading.findings.append(BoxFinding("no-boxes", relative(image, root), "has no annotation", "left out"))
                continue
            try:
                found = annotation_of(relative(file, root), image, read_xml(file))
                reading.annotations.append(replace(found, split=split))
            except AnnotationError as error:
                reading.findings.append(refused("annotation", relative(file, root), error.fault, error.remedy))
            progress(f"reading boxes of {split}", index + 1, len(names))
    _name_classes(reading)
    reading.validation = "the validation images that were published"
    return reading


def _names(folder: Path, split: str) -> Iterator[str]:
    """The images of a split without their ending, from its list, else from the annotations."""
    for name in _LISTS[split]:
        file = folder / "ImageSets" / _TASK / name
        if file.is_file():
            yield from (line.split()[0] for line in read_text(file, 200_000_000).splitlines() if line.strip())
            return
    inside = folder / "Annotations" / _TASK / split
    found = sorted(inside.rglob("*.xml"))
    if not found and split == "train":
        raise UserError(f"{inside} holds no annotations: unpack ILSVRC's archive of boxes for training there")
    yield from (file.relative_to(inside).with_suffix("").as_posix() for file in found)


def _name_classes(reading: Reading) -> None:
    identifiers = tuple(sorted({box.label for one in reading.annotations for box in one.boxes}))
    reading.classes = imagenet_classes(identifiers)
    shown = dict(zip(identifiers, reading.classes, strict=True))
    reading.annotations = [_renamed(annotation, shown) for annotation in reading.annotations]


def _renamed(annotation: Annotation, shown: dict[str, str]) -> Annotation:
    boxes = [RawBox(shown[box.label], box.numbers, box.place) for box in annotation.boxes]
    return replace(annotation, boxes=boxes)
