"""The layers of a net in figures: what ``verydeep inspect`` prints."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verydeep.errors import UsageError
from verydeep.nets.architecture import Geometry, find_architecture, layers
from verydeep.paper import constants
from verydeep.weights.published import SHIPPED, find_published

if TYPE_CHECKING:
    from verydeep.nets.model_card import ModelCard
    from verydeep.nets.net import VeryDeep

_BYTES = 4


def find_geometry(
    name: str, *, crop: int | None = None, classes: int | None = None
) -> tuple[Geometry, "ModelCard | None"]:
    """Finds the shapes of an architecture or of a model file.

    Args:
        name: of an architecture, or a model file, run folder or name of weights.
        crop: side of the crop, for an architecture.
        classes: number of classes, for an architecture.

    Returns:
        The shapes, and the card of the model file; for an architecture none.

    Raises:
        UsageError: no such architecture, or a crop or number of classes for a model that has its own.
    """
    if is_model(name):
        from verydeep.weights.resolve import read_card

        if crop or classes:
            raise UsageError(f"{name} has its own crop and classes: --crop and --classes are for architectures")
        card = read_card(name)
        return card.geometry, card
    try:
        row, batch_norm = find_architecture(name)
    except UsageError as error:
        raise UsageError(
            f"{error}; or give a model file, a run folder or a published name (verydeep weights list)"
        ) from error
    geometry = Geometry(
        architecture=row,
        batch_norm=batch_norm,
        num_classes=1000 if classes is None else classes,
        crop=constants.CROP if crop is None else crop,
    )
    return geometry, None


def is_model(name: str) -> bool:
    """Whether a name is of a file or folder, or of weights, and not of an architecture."""
    return Path(name).exists() or name == SHIPPED or find_published(name) is not None


def inspection(geometry: Geometry, card: "ModelCard | None") -> dict[str, Any]:
    """Collects the figures of a net.

    Returns:
        For JSON: ``parameters``, ``weight_layers``, ``macs`` (of one crop), bytes of the weights and of the activations
        of one crop (float32), ``layers``, and for a model file its ``card``.
    """
    rows = layers(geometry, features_only=card is not None and card.features_only)
    parameters = sum(row.parameters for row in rows)
    return {
        "architecture": geometry.architecture.name,
        "aliases": list(geometry.architecture.aliases),
        "batch_norm": geometry.batch_norm,
        "crop": geometry.crop,
        "classes": geometry.num_classes,
        "width": geometry.width,
        "parameters": parameters,
        "weight_layers": geometry.architecture.weight_layers,
        "macs": sum(row.macs for row in rows),
        "weight_bytes": _BYTES * parameters,
        "activation_bytes": _BYTES * sum(row.channels * row.side**2 for row in rows),
        "layers": [asdict(row) for row in rows],
    } | ({"card": card.model_dump(mode="json")} if card else {})


def make_net(name: str, geometry: Geometry, card: "ModelCard | None") -> "VeryDeep":
    """Loads a model, or makes a net of an architecture with random weights of seed 0."""
    import torch

    from verydeep.nets.net import VeryDeep
    from verydeep.weights.resolve import load

    if card is not None:
        return load(name)
    return VeryDeep(
        geometry.architecture.name,
        batch_norm=geometry.batch_norm,
        num_classes=geometry.num_classes,
        crop=geometry.crop,
        generator=torch.Generator().manual_seed(0),
    ).eval()


def stacking_lines() -> list[str]:
    """Says what stacking small filters buys.

    Paper: section 2.3.
    """
    lines = []
    for count, word in ((2, "two"), (3, "three")):
        side = 2 * count + 1
        stacked, single = 9 * count, side * side
        more = 100 * (single - stacked) / stacked
        lines.append(
            f"{word} 3x3 convolutions see {side}x{side} pixels: {stacked}C² weights for C channels, "
            f"where one {side}x{side} takes {single}C² ({more:.0f}% more), with {count} ReLUs instead of one"
        )
    return lines
