"""What a person sees of weights: fetched, listed, imported and exported."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from verydeep.cli.printed import percent, print_table
from verydeep.cli.terminal import reporting
from verydeep.files import format_bytes
from verydeep.weights.published import (
    PUBLISHED,
    SHIPPED,
    SHIPPED_FILE,
    PublishedWeights,
    find_published,
    known_weights,
    weights_folder,
)

if TYPE_CHECKING:
    from verydeep.cli.weights_verb import Exported, Imported


def is_to_fetch(model: str) -> bool:
    """Whether a MODEL argument is a published name whose weights are not here yet; files and folders come first."""
    row = None if Path(model).exists() else find_published(model)
    return row is not None and not row.is_here


def fetch_shown(name: str, accept_hash: str | None = None) -> Path:
    """Fetches published weights and shows how far that is.

    Raises:
        UserError: they cannot be had.
        UsageError: an unknown name.
    """
    row = known_weights(name)
    if row.is_here and accept_hash is None:
        return row.file
    from verydeep.weights.fetch import fetch_weights  # which needs torch

    with reporting() as reporter:
        if not row.is_here:
            reporter.note(
                f"{row.name} is fetched from {row.publisher} ({format_bytes(row.size)}); licence: {row.licence}"
            )
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


def print_weights(rows: Sequence[PublishedWeights], folder: Path) -> None:
    """Lists the published weights, and says which of them are here."""
    table = Table("name", "net", "top-1", "top-5 error", "file", "hash", "here")
    notes: dict[str, list[str]] = {}
    for row in rows:
        measured = f"; errors: {row.errors.measured}" if row.errors else ""
        note = f"{row.publisher}. Hash: {row.digest_source}{measured}. Licence: {row.licence}."
        if note not in notes:
            table.add_section()
        notes.setdefault(note, []).append(row.name)
        table.add_row(
            row.name,
            row.architecture
            + (" with batch norm" if row.batch_norm else "")
            + (", convolutions only" if row.features_only else ""),
            percent(row.errors.top1_error if row.errors else None),
            percent(row.errors.top5_error if row.errors else None),
            format_bytes(row.size),
            f"{row.digest.algorithm} {row.digest.digits[:8]}" if row.digest else "none",
            "yes" if row.is_here else "",
        )
    print_table(table)
    for note, names in notes.items():
        print(f"{names[0]}{' ... ' + names[-1] if len(names) > 1 else ''}: {note}")
    print(
        "Errors are on the validation images of ILSVRC-2012, as published. A name stands where a MODEL does, and is "
        f"fetched on first use into {folder} (VERYDEEP_CACHE sets another cache, VERYDEEP_OFFLINE=1 forbids it)."
    )
    missing = "" if SHIPPED_FILE.is_file() else ", though not with this copy of it"
    print(f"{SHIPPED} comes with the package{missing}.")


def print_imported(imported: "Imported") -> None:
    """Prints what a third-party file was and what it became."""
    net, geometry = imported.net, imported.net.geometry
    scores = "convolutions only" if net.features_only else f"{geometry.num_classes:,} classes"
    print(
        f"{imported.options.file}: {imported.weights.kind}, {geometry.title}, {scores}, "
        f"{imported.num_parameters:,} parameters"
    )
    mean, divisor = (", ".join(f"{number:.6g}" for number in part.tolist()) for part in (net.mean, net.divisor))
    print(f"input: {imported.weights.convention}; here RGB in 0..255, less ({mean}), divided by ({divisor})")
    if agreement := imported.agreement:
        print(
            f"verified: {agreement.package} with its own preprocessing gives the same scores on "
            f"{agreement.num_images} images, largest relative difference {agreement.largest_difference:.1e}"
        )
    print(f"{imported.options.out} is written. Next:")
    print(f"  verydeep {'inspect' if net.features_only else 'predict'} {imported.options.out}", end="")
    print("" if net.features_only else " IMAGE...")


def print_exported(exported: "Exported") -> None:
    """Prints what was written and what the other program has to do to an image."""
    print(f"{exported.file} is written for {exported.target}. Load it there with:")
    for call in exported.calls:
        print(f"  {call}")
    print(f"input there: {exported.preprocessing}")
