"""Every recipe makes every net of the paper learn, without batch norm too: its loss falls clearly below chance."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from verydeep.data.batches import training_batches
from verydeep.data.image_set import count_per_class
from verydeep.data.open import open_data
from verydeep.data.pixels import measure_pixels
from verydeep.images.augment import TrainingView, principal_shifts
from verydeep.nets.net import VeryDeep
from verydeep.speed.train_net import choose_training
from verydeep.training.loop import make_state, set_learning_rate
from verydeep.training.objective import chance_for, classification_for
from verydeep.training.recipe import RECIPES, find_recipe
from verydeep.training.update import update

BATCH, CLASSES, LAST = 32, 3, 10


@cache
def three_digits():
    images = open_data("digits").train
    some = images.subset(np.flatnonzero(images.labels < CLASSES)[: 12 * BATCH].tolist()).checked(memory=2**30)[0]
    return some, measure_pixels(some)


def losses(name, architecture, updates, *, batch_norm=False, **changes):
    """The loss of each update of a recipe whose epochs, and whose batches, are shortened to so many updates."""
    images, pixels = three_digits()
    per_epoch = math.ceil(len(images) / BATCH)
    recipe = find_recipe(name, **{"epochs": math.ceil(updates / per_epoch), "batch_size": BATCH} | changes)
    net = VeryDeep(
        architecture, num_classes=10, batch_norm=batch_norm, initialisation=recipe.initialisation, crop=32,
        width=0.125, dropout=recipe.dropout, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    measured = pixels.as_record()
    net.set_input(measured["mean"], measured["deviation"] if recipe.input_divisor == "deviation" else np.ones(3))
    shifts = principal_shifts(np.array(measured["covariance"])) if recipe.colour_shift else None
    view = TrainingView(crop=32, train_scale=recipe.scales(32), mirror=False, colour_shift=shifts)
    compute = choose_training(net.geometry, device="cpu", precision="fp32", threads=1)
    state = make_state(net, recipe, compute, seed=0, num_images=len(images), momentum={})
    net.train()
    objective, found = classification_for(recipe, images), []
    for epoch in range(recipe.epochs):
        for batch, labels, _ in training_batches(images, view, batch_size=BATCH, seed=0, epoch=epoch):
            state.position = type(state.position)(epoch=epoch, iteration=len(found) - epoch * per_epoch)
            set_learning_rate(state)
            seed = (0, epoch, state.position.iteration)
            most = recipe.most_gradient
            loss, _ = update(net, state.optimiser, batch, labels, compute, objective, seed=seed, most_gradient=most)
            found.append(float(loss) / len(batch))
    return found


PLAIN, WITH_BATCH_NORM = False, True
ARCHITECTURES = ("A", "A-LRN", "B", "C", "D", "E")
UPDATES = {"paper": 156, "quick": 84, "small-images": 108, "fine-tune": 168}


def test_no_recipe_for_training_from_noise_is_left_out():
    assert set(UPDATES) == {name for name in RECIPES if not name.startswith("paper-")} - {"auto"}  # it fine-tunes


def assert_learns(recipe, architecture, batch_norm):
    found = losses(recipe, architecture, UPDATES[recipe], batch_norm=batch_norm)
    images, _ = three_digits()
    chance = chance_for(find_recipe(recipe), count_per_class(images)).loss
    assert sum(found[-LAST:]) / LAST < 0.8 * chance, [round(loss, 2) for loss in found[::6]]


@pytest.mark.parametrize(
    ("recipe", "architecture", "batch_norm"),
    [("small-images", "E", PLAIN), ("paper", "A", PLAIN), ("quick", "E", WITH_BATCH_NORM)],
)
def test_recipes_learn(recipe, architecture, batch_norm):
    assert_learns(recipe, architecture, batch_norm)


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", [PLAIN, WITH_BATCH_NORM])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("recipe", UPDATES)
def test_every_recipe_learns_with_every_net(recipe, architecture, batch_norm):
    assert_learns(recipe, architecture, batch_norm)
