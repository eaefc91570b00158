"""The page of a transfer, as data for the report.

Paper: appendix B, Tables 11 and 12.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verydeep.errors import UserError
from verydeep.machine import environment
from verydeep.report.pages import MOST_CLASSES, REPORT_FILE, Card, Errors, Page, Section, percent, write_page
from verydeep.runs.image_findings import record_findings, sections_of_findings
from verydeep.testing.metrics import confusion_counts, errors_by_class
from verydeep.testing.transferred import posteriors
from verydeep.transfer.metrics import average_precisions
from verydeep.transfer.result import TITLES, TransferResult

_FOOTER = (
    "Splits drawn anew give the mean over the splits ± their standard deviation; the data's own split an interval that "
    "holds for other images with 95% confidence. Validation images are never called test."
)


@dataclass(frozen=True)
class _Laid:
    """A table as the page takes it."""

    caption: str
    columns: list[str]
    rows: list[list[str]]
    first_number: int = 1


def write_transfer_report(folder: Path, result: TransferResult, command: str, *, pictures: bool = True) -> Path:
    """Writes the page of a transfer to its folder; ``command`` gave the result."""
    title = TITLES[result.metric]
    interval = result.interval95()
    spread = "" if result.spread is None else f" ± {100 * result.spread:.2f}"
    below = (
        f"95% interval {100 * interval[0]:.2f} to {percent(interval[1])}" if interval else f"{title} over the splits"
    )
    cards = [Card(title, f"{percent(result.value)}{spread}", below)]
    if result.top1_error is not None:
        cards.append(Card("top-1 error", percent(result.top1_error), f"of {len(result.classes):,} classes"))
    one = result.splits[0]
    each = ", each split" if len(result.splits) > 1 else ""
    cards.append(Card(f"{one.measured_on} images", f"{one.num_images:,}", f"{one.num_train:,} to fit on{each}"))
    page = Page(
        title=f"{' & '.join(result.models)} transferred to {result.data}",
        cards=cards,
        remarks=[f"{result.about_split[:1].upper()}{result.about_split[1:]}."],
        sections=[
            Section("Beside the paper", "table", _beside(result)),
            Section("Each split", "table", _splits(result)),
            Section("Average precision", "table", _precisions(result)),
            *_errors(result),
            *_findings(result, pictures),
            Section("The commands", "commands", [command]),
            Section("The descriptors", "facts", dict(result.describing)),
            Section("The data", "facts", {"name": result.data, "fingerprint": result.fingerprint}),
            Section("How it was computed", "facts", environment() | {"seconds": dict(result.seconds)}),
        ],
        footer=_FOOTER,
    )
    try:
        return write_page(folder / REPORT_FILE, page)
    except OSError as error:
        raise UserError(f"{folder / REPORT_FILE} cannot be written: {error.strerror or error}") from error


def _beside(result: TransferResult) -> _Laid | None:
    if not (rows := result.beside()):
        return None
    ours = f"{100 * result.value:.1f}" + ("" if result.spread is None else f" ± {100 * result.spread:.1f}")
    return _Laid(
        f"{TITLES[result.metric]}, per cent; the paper's Table 11",
        ["method", result.data],
        [*([method, value] for method, value in rows), [f"this page: {' & '.join(result.models)}", ours]],
    )


def _splits(result: TransferResult) -> _Laid:
    names = list(result.splits[0].values)
    return _Laid(
        f"C was chosen by {TITLES[result.metric]} in cross-validation on the images to fit on",
        ["seed", "measured on", "to fit on", "images", "C", "temperature", *(TITLES[name] for name in names)],
        [
            [
                str(one.seed),
                one.measured_on,
                f"{one.num_train:,}",
                f"{one.num_images:,}",
                f"{one.c:g}",
                f"{one.temperature:.3g}",
                *(percent(one.values[name]) for name in names),
            ]
            for one in result.splits
        ],
        2,
    )


def _precisions(result: TransferResult) -> _Laid | None:
    """Class by class, where an image may show several."""
    if not result.multi_label:
        return None
    one = result.splits[0]
    values = average_precisions(one.scores, one.targets, "eleven-points" if result.eleven_points else "area")
    shown = (one.targets > 0).sum(0)
    measured_by = "VOC 2007's eleven points" if result.eleven_points else "the area under the curve"
    return _Laid(
        f"by {measured_by}",
        ["class", "images that show it", "average precision"],
        [
            [name, f"{count:,}", "-" if value is None else percent(value)]
            for name, count, value in zip(result.classes, shown.tolist(), values, strict=True)
        ],
    )


def _findings(result: TransferResult, pictures: bool) -> list[Section]:
    """What the images of the first split to fit on say: what more of them would bring, labels to look at."""
    record = record_findings(result.curve, result.doubtful, result.splits[0].num_train)
    return sections_of_findings(record, result.classes, result.all_names, result.read if pictures else None)


def _errors(result: TransferResult) -> list[Section]:
    if result.multi_label:
        return []
    one = result.splits[0]
    tested = posteriors(one.scores, multi_label=False), one.targets.argmax(1)
    classes = errors_by_class(*tested, result.classes)
    indices = sorted(row.index for row in classes[:MOST_CLASSES])
    rows: list[dict[str, Any]] = [vars(row) for row in classes]
    several = len(result.splits) > 1
    return Errors(
        classes=rows,
        counts=confusion_counts(*tested, indices),
        remark=f"Of the first split, seed {one.seed}." if several else "",
    ).sections
