"""One rule for the faults of boxes, whatever format they come in: mended where that is safe, else refused by name."""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from verydeep.data.boxes.findings import LEAVE_OUT, BoxFinding, refused
from verydeep.data.boxes.meaning import other_meaning, to_corners
from verydeep.data.boxes.reading import Annotation, RawBox, Reading
from verydeep.data.boxes.upright import ImageFacts, look_at_images, turn
from verydeep.data.listing import natural_key
from verydeep.errors import UserError
from verydeep.files import format_number
from verydeep.progress import Progress, ignore_progress

SMALL_OVERRUN, SMALL_PIXELS = 0.05, 2.0
"""By how much a box that is clipped leaves the image at most: a share of its side, or pixels, whichever is more."""

_ROUNDING = 0.05  # pixels beyond the edge that are clipped without a finding
_BEYOND = ("left", "above the top", "right", "below the bottom")


@dataclass(frozen=True, kw_only=True)
class CheckedImage:
    """An image with its sound boxes, one or more, in pixels of the upright image."""

    name: str
    split: str
    group: str
    labels: Sequence[str]
    corners: Float64[ndarray, "m 4"]


@dataclass(frozen=True, kw_only=True)
class Checked:
    images: Sequence[CheckedImage]
    classes: tuple[str, ...]
    "Of the training split where there are splits: in the order that the data declare, else in natural order."
    findings: Sequence[BoxFinding]
    validation: str = ""


def check(reading: Reading, progress: Progress = ignore_progress) -> Checked:
    """Checks and mends the boxes that were read; what is refused is left out and named in the findings.

    Raises:
        UserError: the boxes as a whole are something else than they were read as, or none are to train on.
    """
    splits = dict.fromkeys(annotation.split for annotation in reading.annotations)
    if any(splits) and "train" not in splits:
        there = ", ".join(filter(None, splits))
        raise UserError(f"{reading.root} has {there} but no training images: the classes come from the training split")
    findings = list(reading.findings)
    pairs = _with_images(reading, findings, progress)
    frames = [_frame(annotation, facts) for annotation, facts in pairs]
    _check_meaning(reading, [annotation for annotation, _ in pairs], frames)
    from_one = reading.from_one and _counts_from_one([annotation for annotation, _ in pairs])
    stored = _drawn_on_stored(reading, pairs, findings)
    without = [reading.relative(annotation.image) for annotation, _ in pairs if not annotation.boxes]
    findings += [BoxFinding("no-boxes", name, "has no box", "left out") for name in without]
    pairs = _check_labels(reading, pairs, findings)
    images = []
    for (annotation, facts), frame, is_stored in zip(pairs, frames, stored, strict=True):
        if not annotation.boxes:
            continue
        raw = to_corners(
            np.array([box.numbers for box in annotation.boxes], dtype=np.float64),
            reading.code,
            reading.unit,
            np.array([frame], dtype=np.float64),
        )
        corners = raw - np.array([from_one, from_one, 0, 0])
        if is_stored:
            corners = turn(corners, facts.stored, facts.orientation)
        is_kept, clipped = _check_boxes(annotation, raw, corners, facts.upright, findings)
        if is_kept.any():
            images.append(
                CheckedImage(
                    name=reading.relative(annotation.image),
                    split=annotation.split,
                    group=annotation.group,
                    labels=[box.label for box, keep in zip(annotation.boxes, is_kept, strict=True) if keep],
                    corners=clipped[is_kept],
                )
            )
    return Checked(images=images, classes=_classes(reading, images), findings=findings, validation=reading.validation)


_Pairs = list[tuple[Annotation, ImageFacts]]


def _with_images(reading: Reading, findings: list[BoxFinding], progress: Progress) -> _Pairs:
    """Leaves out annotations whose image is missing, damaged, annotated twice, or of another size than they state."""
    there: dict[Path, Annotation] = {}
    for annotation in reading.annotations:
        name, before = reading.relative(annotation.image), there.get(annotation.image)
        if before is not None:
            fault = f"{name} is annotated in {before.file} too" + (f", for {before.split}" if before.split else "")
            findings.append(refused("missing-image", annotation.file, fault, f"keep one of the two, or {LEAVE_OUT}"))
        elif not os.path.lexists(annotation.image):
            fault = f"its image {name} is not there"
            findings.append(refused("missing-image", annotation.file, fault, "add the image, or correct its name"))
        else:
            there[annotation.image] = annotation
    pairs = []
    for annotation, facts in zip(there.values(), look_at_images(list(there), progress), strict=True):
        stated = annotation.size
        if facts.damage:
            name = reading.relative(annotation.image)
            findings.append(refused("damaged", name, facts.damage, "mend or remove it"))
            continue
        if stated is not None and min(stated) <= 0:
            fault = "states no size of the image" if max(stated) <= 0 else f"states the size {stated[0]}x{stated[1]}"
            findings.append(BoxFinding("image-size", annotation.file, fault, "read from the image"))
            stated = None
        if stated not in (None, facts.upright, facts.stored):
            assert stated is not None
            width, height = facts.upright
            fault = f"states an image of {stated[0]}x{stated[1]} pixels, and {reading.relative(annotation.image)} has "
            remedy = "give the image that was annotated, or correct the size if the boxes fit"
            findings.append(refused("image-size", annotation.file, f"{fault}{width}x{height}", remedy))
            continue
        pairs.append((replace(annotation, size=stated), facts))
    return pairs


def _frame(annotation: Annotation, facts: ImageFacts) -> tuple[int, int]:
    """Width and height of the image as the person saw it who drew the boxes."""
    return annotation.size or facts.upright


def _check_meaning(reading: Reading, annotations: Sequence[Annotation], frames: Sequence[tuple[int, int]]) -> None:
    found = [(box.numbers, frame) for one, frame in zip(annotations, frames, strict=True) for box in one.boxes]
    if not found:
        return
    numbers, sizes = (np.array(values, dtype=np.float64) for values in zip(*found, strict=True))
    what = other_meaning(numbers, sizes, reading.code, reading.unit)
    if what:
        files = Counter(annotation.file for annotation in annotations)
        where = next(iter(files)) if len(files) == 1 else str(reading.root)
        raise UserError(f"{where}: its {len(numbers):,} boxes {what}: {reading.advice}")


def _counts_from_one(annotations: Sequence[Annotation]) -> bool:
    """Whether nothing speaks against it: an edge at 0, or between two pixels.

    Choice: as the VOC's own code, whose first pixel is 1 and whose last one counts.
    """
    numbers = [value for one in annotations for box in one.boxes for value in box.numbers]
    return all(value >= 1 and value == int(value) for value in numbers if np.isfinite(value))


def _drawn_on_stored(reading: Reading, pairs: _Pairs, findings: list[BoxFinding]) -> list[bool]:
    """Whether the boxes of each image were drawn on its pixels as stored, not upright as its EXIF has it.

    The size that the annotation states tells it, or boxes that fit in one of the two only; where neither does, the
    other images of the set.
    """
    stored = [_is_stored(reading, annotation, facts) for annotation, facts in pairs]
    votes = Counter(
        one for one, (_, facts) in zip(stored, pairs, strict=True) if one is not None and facts.orientation != 1
    )
    usual = votes[True] > votes[False]
    result = []
    for one, (annotation, _) in zip(stored, pairs, strict=True):
        is_stored = usual if one is None else one
        if is_stored:
            fault = "its boxes are on the image as stored, which EXIF turns"
            findings.append(BoxFinding("box-turned", annotation.file, fault, "turned with it"))
        elif one is None and not votes and annotation.boxes:
            fault = "EXIF turns its image, and nothing says whether the boxes are"
            findings.append(BoxFinding("box-turned", annotation.file, fault, "taken as upright"))
        result.append(is_stored)
    return result


def _is_stored(reading: Reading, annotation: Annotation, facts: ImageFacts) -> bool | None:
    if facts.orientation == 1:
        return False
    if facts.stored == facts.upright:
        return None
    if annotation.size is not None:
        return annotation.size == facts.stored
    if reading.unit == "shares" or not annotation.boxes:
        return None
    numbers = np.array([box.numbers for box in annotation.boxes], dtype=np.float64)
    corners = to_corners(numbers, reading.code, reading.unit, np.ones((1, 2)))
    fits = [bool((corners.max(0)[2:] <= np.array(size) + SMALL_PIXELS).all()) for size in (facts.stored, facts.upright)]
    return None if fits[0] == fits[1] else fits[0]


def _check_labels(reading: Reading, pairs: _Pairs, findings: list[BoxFinding]) -> _Pairs:
    """Leaves out boxes of classes that are not named, differ from another by case only, or that train does not have."""
    boxes = [(annotation, box) for annotation, _ in pairs for box in annotation.boxes]
    counts = Counter(box.label for _, box in boxes)
    spellings: dict[str, list[str]] = defaultdict(list)
    for label, _ in counts.most_common():
        spellings[label.casefold()].append(label)
    has_splits = any(annotation.split for annotation, _ in pairs)
    in_train = {box.label for one, box in boxes if one.split == "train"} if has_splits else set(counts)

    def fault(annotation: Annotation, box: RawBox) -> BoxFinding | None:
        usual = spellings[box.label.casefold()][0]
        if not box.label:
            what, remedy = "has a class without a name", "name the class, or correct its number"
            return refused("unknown-class", annotation.file, f"{box.place} {what}", remedy)
        if box.label != usual:
            what = f"{box.place} is of class {box.label!r}, which is {usual!r} in {counts[usual]:,} others"
            return refused("class-spelling", annotation.file, what, f"write {usual!r}")
        if box.label not in in_train:
            what = f"{box.place} is of class {box.label!r}, which train does not have"
            return refused("unknown-class", annotation.file, what, "add training images of it")
        return None

    checked = []
    for annotation, facts in pairs:
        kept = []
        for box in annotation.boxes:
            found = fault(annotation, box)
            if found is None:
                kept.append(box)
            else:
                findings.append(found)
        checked.append((replace(annotation, boxes=kept) if len(kept) < len(annotation.boxes) else annotation, facts))
    return checked


def _check_boxes(
    annotation: Annotation,
    raw: Float64[ndarray, "m 4"],
    corners: Float64[ndarray, "m 4"],
    size: tuple[int, int],
    findings: list[BoxFinding],
) -> tuple[Bool[ndarray, "m"], Float64[ndarray, "m 4"]]:
    """Which boxes of an image are kept, and all of them clipped to it.

    ``raw`` are the corners as they stand in the file, ``corners`` the same on the upright image, of width and height.
    """
    sides = np.array([*size, *size], dtype=np.float64)
    clipped = np.clip(corners, 0, sides)
    over = np.concatenate([-corners[:, :2], corners[:, 2:] - sides[2:]], axis=1)
    has_area = (raw[:, 2:] > raw[:, :2]).all(1) & (clipped[:, 2:] > clipped[:, :2]).all(1)
    is_kept = np.isfinite(raw).all(1) & has_area & (over <= _ROUNDING).all(1)
    for index in np.flatnonzero(~is_kept).tolist():
        box = annotation.boxes[index]
        found = _fault_of_numbers(annotation, box, raw[index])
        if found is None:
            worst = int(over[index].argmax())
            beyond = f"{format_number(over[index, worst])} pixels {_BEYOND[worst]}"
            what = f"{box.place} ends {beyond} of its image of {size[0]}x{size[1]}"
            is_small = (over[index] <= np.maximum(SMALL_OVERRUN * sides, SMALL_PIXELS)).all()
            if is_small and has_area[index]:
                found = BoxFinding("box-clipped", annotation.file, what, "clipped")
            else:
                found = refused("box-outside", annotation.file, what, "correct the box")
        findings.append(found)
        is_kept[index] = not found.is_refused
    return is_kept, clipped


def _fault_of_numbers(annotation: Annotation, box: RawBox, corners: Float64[ndarray, "4"]) -> BoxFinding | None:
    """Says what is wrong with a box whatever its image; None where nothing is."""
    numbers = ", ".join(f"{value:g}" for value in box.numbers)
    if not np.isfinite(corners).all():
        fault = f"{box.place} has no four numbers ({numbers})"
        return refused("not-a-number", annotation.file, fault, "draw the box again")
    left, top, right, bottom = corners
    if right < left or bottom < top:
        fault = f"{box.place} has swapped corners ({numbers})"
        return refused("box-swapped", annotation.file, fault, "put left before right and top before bottom")
    if right == left or bottom == top:
        fault = f"{box.place} has no area ({numbers})"
        return refused("box-no-area", annotation.file, fault, "draw the box again")
    return None


def _classes(reading: Reading, images: Sequence[CheckedImage]) -> tuple[str, ...]:
    there = {label for image in images for label in image.labels}
    declared = [name for name in dict.fromkeys(reading.classes) if name in there]
    return tuple(declared) + tuple(sorted(there - set(declared), key=natural_key))
