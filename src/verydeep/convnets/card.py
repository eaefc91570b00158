"""What a model file says of itself, in lines for a person."""

import json
from collections.abc import Mapping
from typing import Any

from verydeep.errors import printable
from verydeep.nets.model_card import ModelCard

_FEW_CLASSES = 10


def card_facts(card: ModelCard) -> dict[str, str]:
    """Says what a model file holds, a fact for each line; what is not known is said to be unknown."""
    facts = {
        "architecture": card.geometry.title + (", convolutions only" if card.features_only else ""),
        "weights": f"stored as {card.precision}, format {card.format_version}",
        "input": f"RGB in 0..255, less {_numbers(card.mean)}, divided by {_numbers(card.divisor)}",
        "training scale": "S = " + " to ".join(str(scale) for scale in sorted(set(card.train_scale))) + " pixels",
        "mirror": "a mirrored image shows the same class" if card.mirror else "a mirrored image may show another class",
        "classes": _classes(card),
        "data": _data(card),
        "recipe": _recipe(card),
        "selected on": card.selected_on or "no images: nothing was chosen by an error rate that is known of",
        "errors": "none known",
        "licence": card.licence or "unknown",
        "source": card.source or ("trained by verydeep" if card.recipe else "unknown"),
        "made by": ", ".join(f"{name} {value}" for name, value in card.environment.items()) or "unknown",
    }
    if measured := [*([card.errors] if card.errors else []), *card.results]:
        facts["errors"] = "; ".join(error_line(figures, card.selected_on) for figures in measured)
    return {name: printable(fact) for name, fact in facts.items()}


def error_line(figures: Mapping[str, Any], selected: str | None) -> str:
    """Says error rates with their protocol and split, and whether the split had a say in the weights."""
    rates = [
        f"{name} error {100 * value:.2f}%"
        for name, key in (("top-1", "top1_error"), ("top-5", "top5_error"))
        if (value := figures.get(key)) is not None
    ]
    split = figures.get("split", "unknown")
    images = f"{figures['num_images']:,} {split} images" if figures.get("num_images") is not None else f"{split} images"
    data = f" of {figures['data']}" if "data" in figures else ""
    how = f" ({figures['measured']})" if "measured" in figures else ""
    chosen = ", which the weights were selected on" if selected == split else ""
    return f"{', '.join(rates)} on {images}{data} by {figures.get('protocol', 'unknown')}{how}{chosen}"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _classes(card: ModelCard) -> str:
    if card.features_only:
        return "none: there are no scores"
    if card.classes is None:
        return f"{card.num_classes:,}, without names"
    names = ", ".join(card.classes[:_FEW_CLASSES])
    return f"{card.num_classes:,}: {names}" + (", ..." if card.num_classes > _FEW_CLASSES else "")


def _data(card: ModelCard) -> str:
    if card.data is None:
        return "unknown"
    return (
        f"{card.data.name}: {card.data.num_train:,} training images; validation: {card.data.validation}; "
        f"fingerprint {card.data.fingerprint[:12]}"
    )


def _recipe(card: ModelCard) -> str:
    if card.recipe is None:
        return "unknown"
    fields = ", ".join(f"{key} {json.dumps(value)}" for key, value in card.recipe.items() if key != "name")
    epochs = "" if card.epochs is None else f", {card.epochs} epochs done"
    return f"{card.recipe.get('name', 'unnamed')}{epochs}: {fields}"
