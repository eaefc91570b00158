"""What descriptors say of the training images, kept in the run folder and laid out for its page.

The learning curve, and the labels that are probably wrong.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from verydeep.files import atomic_write, parse_json
from verydeep.report.pages import Section, sentence
from verydeep.report.plots import Point, points
from verydeep.report.worst import small_picture
from verydeep.training.run_folder import IMAGES_FILE
from verydeep.transfer.labels import DoubtfulLabel, describe_doubtful
from verydeep.transfer.learning_curve import LearningCurve

ReadPicture = Callable[[int], Image.Image]


def record_findings(
    curve: LearningCurve | None, labels: Sequence[DoubtfulLabel] | None, num_images: int
) -> dict[str, Any]:
    """What was found in the training images, for JSON; None is what was not looked for."""
    return {
        "num_images": num_images,
        "learning_curve": None if curve is None else curve.as_record(),
        "doubtful_labels": None if labels is None else [label.as_record() for label in labels],
        "text": None if labels is None else describe_doubtful(labels, num_images),
    }


def save_findings(folder: Path, record: Mapping[str, Any]) -> None:
    """Keeps what was found in the run folder: its report shows it, after ``--resume`` too."""
    with atomic_write(folder / IMAGES_FILE) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_findings(folder: Path) -> dict[str, Any] | None:
    try:
        record = parse_json((folder / IMAGES_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def sections_of_findings(
    record: Mapping[str, Any] | None,
    classes: Sequence[str],
    names: Sequence[str],
    read: ReadPicture | None,
) -> list[Section]:
    """Lays out what was found in the training images.

    Args:
        record: of ``record_findings``.
        classes: names of the classes.
        names: of the training images.
        read: reads a training image; None for a page without pictures.
    """
    if record is None:
        return []
    labels: Any = None
    if record["doubtful_labels"] is not None:
        rows = [
            {
                "name": names[label["index"]],
                "given": classes[label["given"]],
                "suggested": classes[label["suggested"]],
                "posterior": label["posterior"],
                "picture": None if read is None else small_picture(read(label["index"])),
            }
            for label in record["doubtful_labels"]
        ]
        labels = rows and {"text": record["text"], "rows": rows}
    return [
        Section("What more images would bring", "drawing", _curve(record["learning_curve"])),
        Section("Labels to look at", "labels", labels),
    ]


def _curve(curve: Mapping[str, Any] | None) -> dict[str, str] | None:
    if curve is None or not curve["points"]:
        return None
    measured = [_point(point, "held-out training images") for point in curve["points"]]
    series = {"measured": measured}
    if curve["forecast"] is not None:
        series["to expect"] = [
            measured[-1],
            _point(curve["present"], "to expect with all images"),
            _point(curve["forecast"], "to expect with twice as many"),
        ]
    marks = {float(point["num_images"]): f"{point['num_images']:,}" for point in curve["points"]}
    if curve["forecast"] is not None:
        marks[float(curve["forecast"]["num_images"])] = f"{curve['forecast']['num_images']:,}"
    drawing = points(
        "Error by images", "%", "training images", series, marks=marks, logarithmic=True, dashed=["to expect"]
    )
    return {
        "caption": f"{sentence(curve['text'])} Measured: the error of linear classifiers fitted to fewer images, on "
        "training images held out from them, with 95% intervals.",
        "drawing": Markup(drawing),
    }


def _point(point: Mapping[str, Any], what: str) -> Point:
    low, high = point["interval95"]
    name = f"{point['num_images']:,} images: {100 * point['error']:.1f}% ({100 * low:.1f} to {100 * high:.1f}%), {what}"
    return Point(point["num_images"], 100 * point["error"], 100 * low, 100 * high, name)
