"""What became of weights that were imported or exported, for a person to read."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verydeep.cli.weights_verb import Exported, Imported


def print_imported(imported: "Imported") -> None:
    """Prints what a third-party file was and what it became."""
    net, geometry = imported.net, imported.net.geometry
    scores = "convolutions only" if net.features_only else f"{geometry.num_classes:,} classes"
    print(
        f"{imported.asked.file}: {imported.weights.kind}, {geometry.title}, {scores}, "
        f"{imported.num_parameters:,} parameters"
    )
    mean, divisor = (", ".join(f"{number:.6g}" for number in part.tolist()) for part in (net.mean, net.divisor))
    print(f"input: {imported.weights.convention}; here RGB in 0..255, less ({mean}), divided by ({divisor})")
    if agreement := imported.agreement:
        print(
            f"verified: {agreement.package} with its own preprocessing gives the same scores on "
            f"{agreement.num_images} images, largest relative difference {agreement.largest_difference:.1e}"
        )
    print(f"{imported.asked.out} is written. Next:")
    print(f"  verydeep {'inspect' if net.features_only else 'predict'} {imported.asked.out}", end="")
    print("" if net.features_only else " IMAGE...")


def print_exported(exported: "Exported") -> None:
    """Prints what was written and what the other program has to do to an image."""
    print(f"{exported.file} is written for {exported.target}. Load it there with:")
    for call in exported.calls:
        print(f"  {call}")
    print(f"input there: {exported.preprocessing}")
