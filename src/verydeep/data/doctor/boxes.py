"""Rules of the doctor: the boxes of a data set that has some."""

from collections import defaultdict
from collections.abc import Sequence

from verydeep.data.boxes.findings import BOX_KINDS, BoxFinding
from verydeep.data.doctor.findings import Finding, Severity

_OF_IMAGES = frozenset({"damaged", "missing-image", "image-name", "no-boxes"})
_OF_FILES = frozenset({"annotation", "image-size"})
_MENDED = {
    "image-size": "without a size, read from the image",
    "image-name": "found under another name",
    "box-turned": "of images that EXIF turns",
    "not-a-box": "that are none left out",
}
_NOTHING = "nothing, unless they are more than you expect"


def box_findings(found: Sequence[BoxFinding]) -> list[Finding]:
    """Reports the faults of boxes, those of one kind together; ``faults`` lists each, and what is done about it."""
    groups: dict[tuple[str, bool], list[BoxFinding]] = defaultdict(list)
    for one in found:
        groups[one.kind, one.is_refused].append(one)
    return [_finding(kind, faults) for (kind, _), faults in groups.items()]


def _finding(kind: str, faults: Sequence[BoxFinding]) -> Finding:
    first = faults[0]
    severity: Severity = "fatal" if first.is_refused else "note"
    if severity not in BOX_KINDS.get(kind, ("fatal",))[0]:
        severity = "warning"
    noun = "image" if kind in _OF_IMAGES else "annotation" if kind in _OF_FILES else "box"
    number = f"{len(faults):,} {noun if len(faults) == 1 else noun + ('es' if noun == 'box' else 's')}"
    message = f"{number} {'refused' if first.is_refused else _MENDED.get(kind, first.done)}"
    remedy = f"{first.remedy}; or leave such out with --damaged skip" if first.is_refused else _NOTHING
    return Finding(
        kind=kind,
        severity=severity,
        message=f"{message}; the first, {first.file}: {first.fault}",
        remedy=remedy,
        files=list(dict.fromkeys(one.file for one in faults)),
        details={"faults": [one.as_record() for one in faults]},
    )
