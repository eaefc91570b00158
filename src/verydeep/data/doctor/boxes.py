"""Rules of the doctor: the boxes of a data set that has some."""

from collections.abc import Sequence

from verydeep.data.boxes.findings import BOX_KINDS, BoxFinding, describe_group, grouped
from verydeep.data.doctor.findings import Finding, Severity

_NOTHING = "nothing, unless they are more than you expect"


def box_findings(found: Sequence[BoxFinding]) -> list[Finding]:
    """Reports the faults of boxes, those of one kind together; ``faults`` lists each, and what is done about it."""
    return [_finding(faults) for faults in grouped(found)]


def _finding(faults: Sequence[BoxFinding]) -> Finding:
    first = faults[0]
    severity: Severity = "fatal" if first.is_refused else "note"
    if severity not in BOX_KINDS.get(first.kind, ("fatal",))[0]:
        severity = "warning"
    return Finding(
        kind=first.kind,
        severity=severity,
        message=describe_group(faults, "refused"),
        remedy=f"{first.remedy}; or leave such out with --damaged skip" if first.is_refused else _NOTHING,
        files=list(dict.fromkeys(one.file for one in faults)),
        details={"faults": [one.as_record() for one in faults]},
    )
