"""Published weights: fetched with what a person sees meanwhile, and listed."""

from pathlib import Path
from typing import Any

from verydeep.apps.terminal import reporting
from verydeep.convnets.shipped import SHIPPED, SHIPPED_FILE
from verydeep.convnets.weights import PUBLISHED, find_published, known_weights, weights_folder
from verydeep.download import shown_size


def is_to_fetch(model: str) -> bool:
    """Whether a MODEL argument is a published name whose weights are not here yet; files and folders come first."""
    row = None if Path(model).exists() else find_published(model)
    return row is not None and not row.is_here


def fetch_shown(name: str, accept_hash: str | None = None) -> Path:
    """Fetches published weights and shows how far that is.

    Raises:
        MistakeError: they cannot be had.
        WrongUseError: an unknown name.
    """
    row = known_weights(name)
    if row.is_here:
        return row.file
    from verydeep.convnets.weights_cache import fetch_weights  # which needs torch

    with reporting() as reporter:
        reporter.note(f"{row.name} is fetched from {row.publisher} ({shown_size(row.size)}); licence: {row.licence}")
        file = fetch_weights(row.name, accept_hash=accept_hash, progress=reporter.progress)
        reporter.note(f"{row.name} is in {file}")
    return file


def weights_record() -> dict[str, Any]:
    """All published weights and the net that comes with the package, for JSON."""
    return {
        "folder": str(weights_folder()),
        "weights": [row.as_record() for row in PUBLISHED.values()],
        "shipped": {"name": SHIPPED, "file": str(SHIPPED_FILE), "here": SHIPPED_FILE.is_file()},
    }
