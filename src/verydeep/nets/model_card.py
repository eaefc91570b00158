"""The model card: what a model file says of itself, as data and in words."""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

from verydeep.errors import printable
from verydeep.machine import environment
from verydeep.nets.architecture import Geometry, Head, find_architecture
from verydeep.nets.boxes_card import BoxesCard
from verydeep.nets.described import DescribedNet

FORMAT_VERSION: Final[Literal[2]] = 2
"""1: float32 tensors of a whole net. 2: tensors may be bf16 or fp16, a net may have its convolutions only, and the card
says itself what the weights were selected on."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Divisor = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Pixels = Annotated[int, Field(gt=0, le=10**5)]


class DataCard(BaseModel):
    """The data that a net was trained on.

    Attributes:
        name: name of the data set.
        fingerprint: hash of its file names, sizes and splits.
        num_train: number of training images.
        validation: where the validation images come from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    fingerprint: str
    num_train: int
    validation: str


_MOST_IMAGES: Final = 2**63
_FEW_CLASSES: Final = 10

_FIGURES: Final[dict[str, tuple[type, ...]]] = {
    "top1_error": (int, float),
    "top5_error": (int, float),
    "localisation_error": (int, float),
    "num_images": (int,),
    "split": (str,),
    "protocol": (str,),
    "measured": (str,),
    "data": (str,),
}


def _check_figures(figures: dict[str, Any]) -> dict[str, Any]:
    """Checks the figures that are printed; other entries are left unchanged."""
    for key, kinds in _FIGURES.items():
        value = figures.get(key)
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise ValueError(f"{key} is {str(value)[:40]!r}")
        if isinstance(value, int | float) and not 0 <= value <= (1 if key.endswith("_error") else _MOST_IMAGES):
            raise ValueError(f"{key} is out of range")
    return figures


Figures = Annotated[dict[str, Any], AfterValidator(_check_figures)]
"""Error rates as fractions, and how they were measured."""


class ModelCard(BaseModel):
    """What a model file says of itself: architecture, input, classes, training, errors, licence, source.

    Attributes:
        format_version: raised when an older reader would go wrong.
        architecture: the paper's name.
        batch_norm: whether a batch norm follows each convolution.
        num_classes: number of classes; means nothing where the net has its convolutions only.
        crop: side of the training crop, pixels.
        width: factor on the channels.
        head: ``paper`` or ``linear``, as ``VeryDeep`` has them.
        hidden: channels of fc6 and fc7; None is 4096 times the width.
        boxes: of a localiser: what its outputs say, and its classes.
        features_only: whether the fully connected layers are missing.
        names: whose names the tensors have: verydeep's, or timm's in files that 0.1 wrote for the hub.
        precision: in which the weights are stored: fp32, bf16 or fp16; biases, statistics, mean and divisor are fp32.
        classes: names of the classes in the order of the scores, where known.
        mirror: whether a mirrored image still shows its class.
        train_scale: smallest and largest training scale S, pixels.
        mean: subtracted from the pixels, RGB in 0..255.
        divisor: divides them afterwards.
        recipe: all fields of the recipe.
        data: what it was trained on.
        epochs: epochs trained.
        selected_on: the split that the weights were selected on; None where there is none.
        errors: error rates measured when training ended, as fractions, with their split.
        results: error rates measured by the paper's protocols before the file was written, or as published with weights
            from elsewhere: each as fractions, with its protocol and split.
        licence: licence of the weights.
        source: where the weights come from.
        environment: the software and machine that made it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: Literal[1, 2] = FORMAT_VERSION
    architecture: str
    batch_norm: bool
    num_classes: Annotated[int, Field(gt=0, le=10**7)]
    crop: Pixels
    width: Finite
    head: Head = "paper"
    hidden: int | None = None
    boxes: BoxesCard | None = None
    features_only: bool = False
    names: Literal["verydeep", "timm"] = "verydeep"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    classes: tuple[str, ...] | None
    mirror: bool
    train_scale: tuple[Pixels, Pixels]
    mean: tuple[Finite, Finite, Finite]
    divisor: tuple[Divisor, Divisor, Divisor]
    recipe: dict[str, Any] | None = None
    data: DataCard | None = None
    epochs: int | None = None
    selected_on: str | None
    errors: Figures | None = None
    results: tuple[Figures, ...] = ()
    licence: str | None = None
    source: str | None = None
    environment: dict[str, str | int] = {}

    @model_validator(mode="before")
    @classmethod
    def _say_what_selected(cls, fields: Any) -> Any:  # noqa: ANN401 - whatever the JSON holds
        """Cards of version 1 left it to their recipe."""
        if isinstance(fields, dict) and "selected_on" not in fields:
            recipe = fields.get("recipe")
            return fields | {"selected_on": selected_on(recipe if isinstance(recipe, dict) else None)}
        return fields

    @model_validator(mode="after")
    def _check_classes(self) -> "ModelCard":
        if self.classes is not None and len(self.classes) != self.num_classes:
            raise ValueError(f"{len(self.classes)} names for {self.num_classes} classes")
        if self.boxes is not None and self.num_classes != self.boxes.num_outputs:
            raise ValueError(f"{self.num_classes} outputs for {self.boxes.num_outputs} numbers of boxes")
        return self

    @model_serializer(mode="wrap")
    def _without_what_most_nets_lack(self, serialise: Callable[["ModelCard"], dict[str, Any]]) -> dict[str, Any]:
        """Leaves ``hidden`` and ``boxes`` out where there are none: the files of other nets stay as they are."""
        return {
            name: value
            for name, value in serialise(self).items()
            if value is not None or name not in ("hidden", "boxes")
        }

    @field_validator("train_scale")
    @classmethod
    def _check_train_scale(cls, scales: tuple[int, int], info: Any) -> tuple[int, int]:  # noqa: ANN401 - pydantic's
        low, high = scales
        if low > high:
            raise ValueError(f"{low} to {high}: the smaller one comes first")
        if low < info.data.get("crop", 0):
            raise ValueError(f"{low} to {high} is below the crop of {info.data['crop']}")
        return scales

    @property
    def geometry(self) -> Geometry:
        """The numbers that fix the shapes of the net."""
        row, _ = find_architecture(self.architecture)
        return Geometry(
            architecture=row,
            batch_norm=self.batch_norm,
            num_classes=self.num_classes,
            crop=self.crop,
            width=self.width,
            head=self.head,
            hidden=self.hidden,
        )


def selected_on(recipe: Mapping[str, Any] | None) -> str | None:
    """Returns the split that the weights were selected on, by the fields of their recipe; None where there is none."""
    asks = (recipe or {}).get
    return "val" if asks("schedule") == "plateau" or asks("keep") == "best" else None


def make_card(net: DescribedNet, **known: Any) -> ModelCard:  # noqa: ANN401 - the fields of ModelCard
    """Makes the card of a net; what the net does not know is given as fields of ModelCard.

    ``selected_on`` follows from the recipe, unless it is given.
    """
    return ModelCard(
        architecture=net.geometry.architecture.name,
        batch_norm=net.geometry.batch_norm,
        num_classes=net.geometry.num_classes,
        crop=net.geometry.crop,
        width=net.geometry.width,
        head=net.geometry.head,
        hidden=net.geometry.hidden,
        boxes=net.boxes,
        features_only=net.features_only,
        classes=net.classes,
        mirror=net.mirror,
        train_scale=net.train_scale,
        mean=tuple(net.mean.tolist()),
        divisor=tuple(net.divisor.tolist()),
        environment=environment(),
        **known,
    )


def card_facts(card: ModelCard) -> dict[str, str]:
    """Describes a model file in words, fact by fact; what is not known is said to be unknown."""
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
    """Formats error rates with their protocol and split, and whether the weights were selected on that split."""
    rates = [
        f"{name} error {100 * value:.2f}%"
        for name, key in (("top-1", "top1_error"), ("top-5", "top5_error"), ("localisation", "localisation_error"))
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
    if card.boxes is not None:
        return str(card.boxes)
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
