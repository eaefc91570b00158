"""What is trained from noise: plans for known speeds, and the speed that is measured."""

import itertools

import pytest

from verydeep.data.open import open_data
from verydeep.errors import UsageError
from verydeep.nets.architecture import ARCHITECTURES, Geometry, layers
from verydeep.runs.noise import NoisePlan, plan_from_noise, training_speed
from verydeep.runs.options import TrainOptions
from verydeep.training.recipe import find_recipe

TRAINING_MACS_PER_SECOND = 75e9
"""Of two cores of an AMD EPYC: B with batch norm at width 0.37, batches of 128, crops included."""


def speed(geometry, batch_size):
    return TRAINING_MACS_PER_SECOND / (3 * sum(layer.macs for layer in layers(geometry)))


def plan(num_images, side, seconds, speed=speed, mirror=True, pinned=None):
    return plan_from_noise(
        num_images=num_images, num_classes=10, side=side, mirror=mirror, seconds=seconds, speed=speed, pinned=pinned
    )


@pytest.mark.parametrize(
    ("num_images", "side", "mirror", "seconds", "wanted"),
    [
        (1_297, 8, False, 45, ("B", 0.25, 32, (32, 42), 32)),
        (45_000, 32, True, 27 * 60, ("B", 0.375, 32, (32, 42), 128)),
        (1_487, 100, True, 240, ("A", 0.375, 64, (64, 83), 32)),
        (3_068, 256, True, 10 * 3600, ("A", 1.0, 224, (224, 291), 32)),
    ],
)
def test_plans(num_images, side, mirror, seconds, wanted):
    made = plan(num_images, side, seconds, mirror=mirror)
    assert (made.architecture, made.width, made.crop, made.train_scale, made.batch_size) == wanted
    assert made.batch_norm
    assert made.head == "linear"
    assert made == plan(num_images, side, seconds, mirror=mirror)
    assert "\n" not in made.reason
    assert f"{made.epochs} epochs" in made.reason


@pytest.mark.parametrize(
    ("num_images", "side", "seconds"),
    list(itertools.product((90, 1_500, 50_000), (8, 32, 64, 200), (1, 30, 600, 36_000))),
)
def test_a_plan_fits_its_time_and_its_recipe_can_be_trained(num_images, side, seconds):
    made = plan(num_images, side, seconds)
    geometry = made.geometry(10)
    taken = made.epochs * num_images / speed(geometry, made.batch_size)
    assert taken <= seconds or made.epochs == 1
    assert made.width in (1, 0.75, 0.5, 0.375, 0.25, 0.125)
    assert made.crop <= max(32, side)
    recipe = made.recipe()
    assert recipe.scales(made.crop) == made.train_scale
    assert recipe == find_recipe("small-images", **made.recipe_changes())
    assert 0 < recipe.warmup < recipe.epochs


def test_more_time_is_never_a_smaller_net_and_stops_where_little_is_gained():
    plans = [plan(1_297, 8, 15 * 2**doublings) for doublings in range(12)]
    costs = [sum(layer.macs for layer in layers(made.geometry(10))) for made in plans]
    assert costs == sorted(costs)
    assert plans[-1].width == 1
    assert plans[-1].epochs == plans[-2].epochs
    assert "more would gain little" in plans[-1].reason


def test_the_epochs_are_those_of_the_speed_of_the_net_that_is_chosen():
    asked = []

    def half_as_fast_when_asked_again(geometry, batch_size):
        asked.append((geometry.width, batch_size))
        return speed(geometry, batch_size) / len(asked)

    made = plan(45_000, 32, 1620, speed=half_as_fast_when_asked_again)
    assert asked == [(0.375, 128), (made.width, 128)]
    assert made.epochs == plan(45_000, 32, 1620).epochs // 2


def test_what_is_pinned_is_kept_and_the_epochs_are_those_of_its_speed():
    asked = []

    def noted(geometry, batch_size):
        asked.append((geometry, batch_size))
        return speed(geometry, batch_size)

    free = plan(45_000, 32, 1620)
    pinned = {"architecture": "E", "batch_norm": False, "width": 0.125, "crop": 64, "batch_size": 16}
    made = plan(45_000, 32, 1620, speed=noted, pinned=pinned)
    assert made.net == {name: pinned[name] for name in ("architecture", "batch_norm", "width", "crop")} | {
        "head": "linear"
    }
    assert asked[-1] == (made.geometry(10), 16)
    assert made.train_scale == (64, 83)
    assert made.epochs == int(1620 * 0.85 * speed(*asked[-1]) / 45_000)
    assert "as asked" in made.reason
    assert (made.batch_size, made.learning_rate) == (free.batch_size, free.learning_rate)
    assert plan(45_000, 32, 1620, pinned={"batch_size": 16}) == free  # the recipe's change is made later


def test_a_pinned_net_is_not_trained_for_ever():
    assert plan(1_297, 8, 36_000, pinned={"width": 0.125}).epochs == 100


def test_the_speed_is_measured_on_the_net_and_its_crops(make_folder):
    data = open_data(make_folder("photos", {"dark": 8, "bright": 8}))
    small = Geometry(architecture=ARCHITECTURES["A"], batch_norm=True, num_classes=2, crop=32, width=0.125)
    assert 1 < training_speed(data, small, 4, TrainOptions(device="cpu")) < 1e6
    with pytest.raises(UsageError, match="device"):
        training_speed(data, small, 4, TrainOptions(device="abacus"))


def test_what_a_plan_says_is_one_line_with_its_net():
    made = plan(90, 8, 1)
    assert isinstance(made, NoisePlan)
    assert made.reason.startswith(made.geometry(10).title)
