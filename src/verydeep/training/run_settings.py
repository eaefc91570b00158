"""Checks what ``run.json`` says of a run: it is a file that people copy, mend and send each other."""

from pathlib import Path
from typing import Any, Final

from verydeep.device import Compute
from verydeep.errors import UserError

_REMEDY: Final = "restore it, or train anew"

_NEEDED: Final[dict[str, type]] = {
    "recipe": dict,
    "choice": dict,
    "choice.device": str,
    "choice.precision": str,
    "data": str,
    "fingerprint": str,
    "skipped": list,
    "seed": int,
    "environment.verydeep": str,
}
"""What a training needs to be resumed, with its types."""


def check_settings(file: Path, settings: object) -> None:
    """Raises UserError where what was read is not of a run."""
    if isinstance(settings, dict):
        parts = settings.get("options") or {}, settings.get("plan") or {}, settings.get("verb", "")
        if isinstance(parts[0], dict) and isinstance(parts[1], dict) and isinstance(parts[2], str):
            return
    raise UserError(f"{file} is not that of a run: {_REMEDY}")


def check_resumable(file: Path, settings: dict[str, Any]) -> None:
    """Raises UserError where something is missing that a training needs to be resumed."""
    from verydeep.training.recipe import Recipe  # torch, which those who only read the folder do without

    for path, kind in _NEEDED.items():
        value: Any = settings
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{file} lacks what a run has ({path}): {_REMEDY}")
    try:
        Recipe(**settings["recipe"])
        Compute(**settings["choice"])
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{file} is damaged ({reason}): {_REMEDY}") from error
