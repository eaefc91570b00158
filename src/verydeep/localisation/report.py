"""The page of a localiser, as data for the report: errors, boxes on pictures, the worst misses, the tables.

Paper: appendix A, Tables 8 to 10.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from verydeep.errors import UserError
from verydeep.localisation.boxes import RIGHT_OVERLAP
from verydeep.localisation.evaluate import Boxed
from verydeep.localisation.metrics import SHARES, overlap_counts
from verydeep.localisation.result import LocalisationResult
from verydeep.localisation.tables import Laid
from verydeep.machine import environment
from verydeep.report import plots
from verydeep.report.box_pictures import BoxPicture, box_picture
from verydeep.report.pages import Card, Page, Section, percent, write_page
from verydeep.testing.metrics import interval95

_MOST_PICTURES = 12
_FOOTER = (
    f"A box is right where its intersection over union (IoU) with an object of the class is above {RIGHT_OVERLAP:g}. "
    "Errors are shares of the images, in per cent; intervals hold the error on many more such images with 95% "
    "confidence (Wilson)."
)


def write_localisation_report(
    file: Path,
    result: LocalisationResult,
    data: Boxed,
    *,
    title: str,
    tables: Sequence[Laid] = (),
    commands: Sequence[str] = (),
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    of_training: Sequence[Section] = (),
    pictures: bool = True,
) -> Path:
    """Writes the page of a test of a localiser.

    Args:
        file: to write.
        result: of the test.
        data: the images of the result, in its order.
        title: which localiser on which data.
        tables: of ``tables_of``.
        commands: that give the test again.
        facts: tables of names and values, by their titles.
        of_training: sections about the training, where it is known.
        pictures: whether images are shown; without, the names of their files stand there.

    Raises:
        UserError: the file cannot be written.
    """
    page = Page(
        title=title,
        cards=_cards(result),
        remarks=[_meaning(result)],
        sections=[
            *of_training,
            *sections_of_boxes(result, data, pictures=pictures),
            *(Section(table.caption.partition(":")[0], "table", table) for table in tables),
            Section("Errors by class", "table", _by_class(result)),
            Section("The commands", "commands", commands),
            *(Section(heading, "facts", table) for heading, table in (facts or {}).items()),
            Section("How it was computed", "facts", environment() | {"seconds": result.seconds}),
        ],
        footer=_FOOTER,
    )
    try:
        return write_page(file, page)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}") from error


def sections_of_boxes(result: LocalisationResult, data: Boxed, *, pictures: bool = True) -> list[Section]:
    """Boxes on pictures, the worst misses, and how the IoU is distributed."""
    read = data.images.read if pictures else None
    order = np.argsort(result.ious, kind="stable")
    spread = order[np.unique(np.linspace(0, len(order) - 1, min(_MOST_PICTURES, len(order))).astype(int))][::-1]
    worst = [index for index in order[:_MOST_PICTURES].tolist() if not result.ious[index] > RIGHT_OVERLAP]
    some = "from the best to the worst" if len(spread) < len(order) else "the best first"
    counts = overlap_counts(result.ious).tolist()
    drawing = plots.histogram(
        "Distribution of the IoU",
        "IoU of the box of the true class",
        counts,
        [number / SHARES for number in range(SHARES + 1)],
        {"wrong": RIGHT_OVERLAP, "right": 1.0},
    )
    middle, mean = np.median(result.ious), result.ious.mean()
    caption = f"Images by the IoU of their box: {middle:.2f} in the middle, {mean:.2f} on average."
    return [
        Section("Boxes", "boxes", _pictures(result, spread.tolist(), read, f"{len(spread)} of the images, {some}")),
        Section("The worst misses", "boxes", worst and _pictures(result, worst, read, "The boxes that overlap least")),
        Section("Distribution of the IoU", "drawing", {"caption": caption, "drawing": Markup(drawing)}),
    ]


def _pictures(
    result: LocalisationResult, indices: Sequence[int], read: Callable[[int], Image.Image] | None, text: str
) -> dict[str, Any]:
    def picture(index: int) -> BoxPicture:
        return box_picture(
            None if read is None else read(index),
            name=str(result.names[index]),
            label=result.classes[int(result.labels[index])],
            iou=float(result.ious[index]),
            objects=result.objects[index],
            answer=result.boxes[index],
        )

    return {"text": text, "pictures": [picture(index) for index in indices]}


def _cards(result: LocalisationResult) -> list[Card]:
    errors = {
        "localisation error, given the class": result.localisation_error,
        "top-1 localisation error": result.top1_localisation_error,
        "top-5 localisation error": result.top5_localisation_error,
    }
    cards = []
    for what, error in errors.items():
        if error is not None:
            low, high = interval95(error, len(result.labels))
            cards.append(Card(what, percent(error), f"95% interval {100 * low:.2f} to {percent(high)}"))
    if result.top1_error is not None and len(result.classes) > 1:
        cards.append(Card("top-1 error of the classes", percent(result.top1_error), "whatever the boxes"))
    scales = ", ".join(map(str, result.test_scales))
    merged = f"; merged above an IoU of {result.merge_threshold:g}" if result.protocol == "full" else ""
    cards.append(Card(f"{result.split} images", f"{len(result.labels):,}", f"of {len(result.classes):,} classes"))
    cards.append(
        Card("protocol", result.protocol, f"test scale Q {scales} pixels{merged}; {result.seconds:.1f} seconds")
    )
    return cards


def _meaning(result: LocalisationResult) -> str:
    how = {
        "centre": "The class of each image is given; its box comes from the central crop (Table 8).",
        "full": "Boxes come from every position of the whole image, and are merged (Table 9).",
    }[result.protocol]
    if result.split == "train":
        return f"{how} The net learned from these images: the error on new ones is higher."
    is_selected = result.selected_on == result.split
    chosen = " Something was selected on them: on new images expect a higher error." if is_selected else ""
    return f"{how} Measured on {result.split} images, which the net did not learn from.{chosen}"


def _by_class(result: LocalisationResult) -> Laid | None:
    counts = np.bincount(result.labels, minlength=len(result.classes))
    rows = []
    for index, (name, error) in enumerate(result.class_errors().items()):
        if error is None:
            continue
        low, high = interval95(error, int(counts[index]))
        rows.append((error, [name, f"{counts[index]:,}", percent(error), f"{100 * low:.1f} to {100 * high:.1f}%"]))
    rows.sort(key=lambda row: -row[0])
    if len(rows) < 2:
        return None
    columns = ["class", "images", "error", "95% interval"]
    return Laid("Given the class, the worst first", columns, [row for _, row in rows], 1)
