"""What to train from noise in a given time: the net and the recipe that learn the most on this machine.

The rules, each for batch norm, a linear head, a cosine to zero, Nesterov's momentum and label smoothing:

- A net sees each image about 20 times where there are 100,000 (mirrored ones count as others), and oftener the fewer
  there are: 20 (100,000 / n)^0.2 epochs. 26 epochs of B at width 0.37 leave 13.3% on held-out images of cifar10-jpeg,
  60 leave 12.2% (docs/decisions.md, results/).
- Of what the time allows for so many epochs, the widest net is taken; a larger crop where half width is left for it.
- Batches are of 32 to 128 images, so that there are some 2,000 updates: clothing has 36% in batches of 128, 19% in
  batches of 32 (docs/decisions.md). The rate goes with the root of the batch.
- B for crops of 32, where all blocks cost alike; A above, where the second convolutions of large maps cost most.

Paper: section 3.1, whose days are minutes here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any, Final

from verydeep.data.dataset import DataSet
from verydeep.nets.architecture import ARCHITECTURES, Geometry, Head, layers
from verydeep.nets.net import empty_net
from verydeep.runs.options import TrainOptions
from verydeep.runs.timing import rates_of, time_update
from verydeep.speed.train_net import choose_training
from verydeep.training.recipe import Recipe, find_recipe

RECIPE: Final = "small-images"
"""The recipe whose fields a plan changes."""

WIDTHS: Final = (1.0, 0.75, 0.5, 0.375, 0.25, 0.125)
CROPS: Final = (32, 64, 96, 128, 160, 192, 224)

_FIRST_WIDTH = 0.375
"""Width of the net whose speed is measured first."""

_WIDTH_FOR_A_LARGER_CROP = 0.5
_LARGEST_UPSCALED = 48
"""Longest side of images that are trained at crop 32, pixels."""

_SHARE_FOR_TRAINING = 0.85
"""Of the time; the rest is for validation, checkpoints, the last test and the report."""

_EPOCHS_OF_100_000, _MORE_FOR_FEWER = 20, 0.2
_FEWEST_OF_WANTED, _MOST_TIMES_WANTED = 0.8, 3
_UPDATES, _BATCHES = 2_000, (32, 64, 128)
_RATE_OF_128 = 0.05
_JITTER = 1.3
"""Largest over smallest training scale."""

_MOST_EPOCHS_AS_ASKED = 100
"""Of a net whose shape is pinned."""


@dataclass(frozen=True, kw_only=True)
class NoisePlan:
    """A training from noise: the shape of its net and what differs from the recipe ``small-images``.

    Attributes:
        architecture: a column of Table 1.
        batch_norm: whether a batch norm follows each convolution.
        head: ``linear`` or ``paper``.
        width: factor on the channels of every layer but the last.
        crop: side of the training crop, pixels.
        train_scale: smallest and largest training scale S, pixels.
        epochs: passes over the training images.
        batch_size: images per update.
        learning_rate: after the warm-up.
        warmup: epochs.
        dropout: probability on fc6 and fc7.
        reason: one line for the user.
    """

    architecture: str
    batch_norm: bool = True
    head: Head = "linear"
    width: float
    crop: int
    train_scale: tuple[int, int]
    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float
    dropout: float = 0.0
    reason: str

    def recipe_changes(self) -> dict[str, Any]:
        """The fields of the recipe that differ."""
        names = ("train_scale", "epochs", "batch_size", "learning_rate", "warmup", "dropout")
        return {name: getattr(self, name) for name in names}

    def recipe(self) -> Recipe:
        return find_recipe(RECIPE, **self.recipe_changes())

    @property
    def net(self) -> dict[str, Any]:
        """The fields that make the net."""
        return {name: getattr(self, name) for name in ("architecture", "batch_norm", "width", "crop", "head")}

    def geometry(self, num_classes: int) -> Geometry:
        row = ARCHITECTURES[self.architecture]
        return Geometry(**self.net | {"architecture": row, "num_classes": num_classes})


Speed = Callable[[Geometry, int], float]
"""Images a second that a net learns from in batches of so many, such as ``training_speed`` measures."""


def plan_from_noise(
    *,
    num_images: int,
    num_classes: int,
    side: int,
    mirror: bool,
    seconds: float,
    speed: Speed,
    pinned: Mapping[str, Any] | None = None,
) -> NoisePlan:
    """Plans a training from noise; equal arguments give equal plans.

    Args:
        num_images: training images.
        num_classes: their classes.
        side: their shorter side as a rule, pixels.
        mirror: whether mirrored images show their class.
        seconds: for the training with its validation.
        speed: called for two nets: one to choose by, then the one that is chosen; and for the one that is pinned.
        pinned: what the user has fixed of architecture, batch_norm, width, crop and batch_size.
    """
    wanted = _EPOCHS_OF_100_000 * (100_000 / (num_images * (2 if mirror else 1))) ** _MORE_FOR_FEWER
    wanted = max(1, round(wanted))
    batch_size = _batch_size(num_images, num_images * wanted)
    crops = [crop for crop in CROPS if crop <= max(side, CROPS[0])] if side > _LARGEST_UPSCALED else [CROPS[0]]
    smallest = crops[min(1, len(crops) - 1)] if side > _LARGEST_UPSCALED else crops[0]
    first = _geometry(_architecture(smallest), num_classes, smallest, _FIRST_WIDTH)
    fewest = _FEWEST_OF_WANTED * wanted * num_images
    macs = speed(first, batch_size) * _macs(first) * seconds * _SHARE_FOR_TRAINING / fewest

    def widest(crop: int) -> float:
        """The widest net that gets through the epochs wanted, nearly; 0 where none does."""
        affordable = (
            width for width in WIDTHS if _macs(_geometry(_architecture(crop), num_classes, crop, width)) <= macs
        )
        return next(affordable, 0.0)

    larger = [crop for crop in crops if crop > smallest and widest(crop) >= _WIDTH_FOR_A_LARGER_CROP]
    crop = larger[-1] if larger else smallest
    if not widest(crop) and crop > CROPS[0]:
        crop = CROPS[0]
    architecture, width = _architecture(crop), widest(crop) or WIDTHS[-1]
    chosen = _geometry(architecture, num_classes, crop, width)
    per_second = speed(chosen, batch_size)
    fitting = int(seconds * _SHARE_FOR_TRAINING * per_second / num_images)
    epochs = max(1, min(fitting, _MOST_TIMES_WANTED * wanted))
    limit = "" if fitting <= epochs else ", more would gain little"
    plan = NoisePlan(
        architecture=architecture,
        width=width,
        crop=crop,
        train_scale=_jitter(crop),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=round(_RATE_OF_128 * (batch_size / 128) ** 0.5, 4),
        warmup=_warmup(epochs),
        reason=(
            f"{chosen.title}: the widest net that sees {num_images:,} images about {wanted} times in {seconds:.0f} s "
            f"at {per_second:.0f} images/s; {epochs} epoch{'s' if epochs > 1 else ''}{limit}"
        ),
    )
    shape = {name: value for name, value in (pinned or {}).items() if name in plan.net}
    if not shape:
        return plan
    plan = replace(plan, **shape)
    geometry = plan.geometry(num_classes)
    per_second = speed(geometry, (pinned or {}).get("batch_size", batch_size))
    fitting = int(seconds * _SHARE_FOR_TRAINING * per_second / num_images)
    epochs = max(1, min(fitting, _MOST_EPOCHS_AS_ASKED))
    return replace(
        plan,
        train_scale=_jitter(plan.crop),
        epochs=epochs,
        warmup=_warmup(epochs),
        reason=f"{geometry.title}, as asked: {epochs} epochs at {per_second:.0f} images/s",
    )


def _jitter(crop: int) -> tuple[int, int]:
    return crop, round(_JITTER * crop)


def _warmup(epochs: int) -> float:
    return min(1.0, round(0.2 * epochs, 1))


def _batch_size(num_images: int, views: int) -> int:
    fitting = [size for size in _BATCHES if size <= views / _UPDATES and size <= num_images]
    return fitting[-1] if fitting else _BATCHES[0]


def _architecture(crop: int) -> str:
    return "B" if crop == CROPS[0] else "A"


def _geometry(architecture: str, num_classes: int, crop: int, width: float) -> Geometry:
    return Geometry(
        architecture=ARCHITECTURES[architecture],
        batch_norm=True,
        num_classes=num_classes,
        crop=crop,
        width=width,
        head="linear",
    )


def _macs(geometry: Geometry) -> int:
    return sum(layer.macs for layer in layers(geometry))


def training_speed(data: DataSet, geometry: Geometry, batch_size: int, options: TrainOptions) -> float:
    """Measures for a moment how many images a second a net learns from, crops included, as ``options`` compute it."""
    asked = TrainOptions(
        recipe=RECIPE,
        batch_size=batch_size,
        train_scale=_jitter(geometry.crop),
        workers=options.workers,
    )
    compute = choose_training(
        geometry, device=options.device, precision=options.precision, micro_batch=options.micro_batch
    )
    update_time = time_update(empty_net(geometry), asked.find_recipe(), compute, batch_size, average=mean)
    return rates_of(data, asked, geometry.crop, compute, update_time).together
