"""Pascal VOC: an XML file for each image, in Annotations/ beside JPEGImages/, or beside the images (labelImg)."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from xml.etree.ElementTree import Element

from verydeep.data.boxes.files import AnnotationError, Images, is_same_name, quoted, read_text, read_xml, text_of
from verydeep.data.boxes.findings import LEAVE_OUT, BoxFinding, refused
from verydeep.data.boxes.reading import Annotation, RawBox, Reading, class_name, number, read_each, whole
from verydeep.data.listing import natural_key
from verydeep.errors import UserError
from verydeep.progress import Progress, ignore_progress

_LOOKED_AT = 50
_LISTS = Path("ImageSets", "Main")
_WHERE = ("VOC20[0-9][0-9]", "VOCdevkit/VOC20[0-9][0-9]")
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def is_voc(folder: Path) -> bool:
    """Whether a folder, or a year's in it, has Annotations/ with XML files of boxes."""
    return _year(folder) is not None


def is_beside(folder: Path) -> bool:
    """Whether XML files with boxes lie beside the images of a folder."""
    return any(_has_boxes(file) for file in islice(folder.glob("*.xml"), _LOOKED_AT))


def _any_has_boxes(folder: Path) -> bool:
    """Whether one of the first XML files in a folder, or in folders in it, has boxes."""
    return any(_has_boxes(file) for file in islice(folder.rglob("*.xml"), _LOOKED_AT))


def _has_boxes(file: Path) -> bool:
    try:
        return "<annotation" in read_text(file)[:2000]
    except AnnotationError:
        return False


def _year(folder: Path) -> Path | None:
    found = [folder, *(year for pattern in _WHERE for year in sorted(folder.glob(pattern)))]
    years = [year for year in found if _any_has_boxes(year / "Annotations")]
    if len(years) > 1:
        raise UserError(f"{folder} holds {' and '.join(year.name for year in years)}: give the folder of one of them")
    return years[0] if years else None


def read_voc(root: Path, folder: Path, progress: Progress = ignore_progress) -> Reading:
    """Reads Annotations/, JPEGImages/ (or the images beside the folder) and the lists of ImageSets/Main."""
    year = _year(folder)
    assert year is not None
    files = sorted((year / "Annotations").rglob("*.xml"), key=lambda file: natural_key(file.as_posix()))
    places = [place for name in ("JPEGImages", "images", "Images") if (place := year / name).is_dir()]
    reading = _read(root, files, places or [year], progress)
    _apply_lists(reading, year)
    return reading


def read_beside(root: Path, folder: Path, progress: Progress = ignore_progress) -> Reading:
    """Reads the XML files beside the images of a folder."""
    files = sorted(folder.glob("*.xml"), key=lambda file: natural_key(file.name))
    return _read(root, [file for file in files if _has_boxes(file)], [folder], progress)


def _read(root: Path, files: Sequence[Path], places: Sequence[Path], progress: Progress) -> Reading:
    images = Images(places)
    reading = Reading(
        format="Pascal VOC",
        root=root,
        annotations=[],
        from_one=True,
        advice="write xmin, ymin, xmax, ymax in pixels",
    )

    def read(name: str, file: Path) -> Annotation:
        return _annotation(name, file, read_xml(file), images, places, reading.findings)

    read_each(reading, files, images, read, progress)
    return reading


def _annotation(
    name: str, file: Path, tree: Element, images: Images, places: Sequence[Path], findings: list[BoxFinding]
) -> Annotation:
    stated = text_of(tree, "filename")
    own = images.named_like(file.stem)
    if len(own) > 1:  # in folders of their own, named like those of the annotations
        own = [image for image in own if image.parent.name == file.parent.name]
    image = own[0] if len(own) == 1 else images.find(stated, *places)
    if image is None:
        image = places[0] / (Path(stated.replace("\\", "/")).name or f"{file.stem}.jpg")
    elif stated and not is_same_name(image, stated) and Path(stated).suffix:  # ILSVRC states no ending
        findings.append(BoxFinding("image-name", name, f"names {quoted(stated)}", f"{image.name} taken"))
    return annotation_of(name, image, tree)


def annotation_of(name: str, image: Path, tree: Element) -> Annotation:
    """Makes the annotation of an image of its XML."""
    size = tree.find("size")
    return Annotation(
        file=name,
        image=image,
        boxes=[_box(one, index) for index, one in enumerate(tree.iter("object"), start=1)],
        size=None if size is None else (whole(text_of(size, "width")), whole(text_of(size, "height"))),
    )


def _box(one: Element, index: int) -> RawBox:
    left, top, right, bottom = (number(text_of(one, f"bndbox/{edge}")) for edge in _EDGES)
    label = class_name(text_of(one, "name"))
    return RawBox(label, (left, top, right, bottom), f"object {index}" + (f" ({label})" if label else ""))


def _apply_lists(reading: Reading, year: Path) -> None:
    """Gives each annotation its split by the lists train.txt, val.txt, trainval.txt and test.txt."""
    lists = {name: year / _LISTS / f"{name}.txt" for name in ("train", "val", "trainval", "test")}
    there = {name: {line.split()[0] for line in read_text(file).splitlines() if line.strip()}
             for name, file in lists.items() if file.is_file()}  # fmt: skip
    if "train" not in there and "trainval" in there:
        there["train"] = there["trainval"] - there.get("val", set()) - there.get("test", set())
    there.pop("trainval", None)
    if "train" in there:
        apply_lists(reading, there, str(year / _LISTS))
        reading.validation = f"the list {_LISTS.as_posix()}/val.txt" if "val" in there else ""


def apply_lists(reading: Reading, lists: dict[str, set[str]], where: str) -> None:
    """Keeps the annotations that lists name without their ending, each in its split; says which are missing."""
    splits = {name: split for split, names in lists.items() for name in names}
    if len(splits) < sum(map(len, lists.values())):
        twice = next(name for name in splits if sum(name in names for names in lists.values()) > 1)
        raise UserError(f"{where}: {twice} is in two lists: keep each image in one split")
    kept = []
    for annotation in reading.annotations:
        split = splits.pop(Path(annotation.file).stem, None)
        if split is None:
            reading.findings.append(BoxFinding("no-boxes", annotation.file, "is in no list of a split", "left out"))
        else:
            kept.append(replace(annotation, split=split))
    broken = {Path(one.file).stem for one in reading.findings}
    for name, split in splits.items():
        if name not in broken:
            fault = f"lists {name} in {split}, which has no annotation"
            reading.findings.append(refused("annotation", where, fault, f"add it, or {LEAVE_OUT}"))
    reading.annotations = kept
