"""The faults of annotations."""

from collections.abc import Sequence
from typing import Any


def describe_findings(found: Sequence[Any]) -> list[str]:
    """One line for each kind of fault."""
    return [str(one) for one in found]
