"""The comparison of the linear classifier with what is trained after it, by cross-validation on the training images."""

import copy
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from verydeep.data.dataset import DataSet
from verydeep.nets.net import VeryDeep
from verydeep.nets.upper import UpperBlocks
from verydeep.progress import Progress
from verydeep.runs.plan import Plan
from verydeep.speed.train_net import release
from verydeep.training.loop import make_state, train
from verydeep.training.objective import classification_for
from verydeep.training.state import Callback, TrainState
from verydeep.training.stored_maps import StoredMaps
from verydeep.transfer.classifier import fit_classifier, folds
from verydeep.transfer.metrics import one_against_rest, score_accuracy
from verydeep.transfer.write import linear_net

FEWEST_BETTER: Final = 2
"""Images that what is trained later must get right beyond the linear classifier: fewer are a tie."""


@dataclass(frozen=True)
class Comparison:
    """Images that the linear classifier and what is trained after it get wrong."""

    before: int
    after: int
    where: str  # how many images of what

    @property
    def is_better(self) -> bool:
        return self.before - self.after >= FEWEST_BETTER


def cross_validate(
    plan: Plan, start: VeryDeep, trained: TrainState, stored: StoredMaps, data: DataSet, progress: Progress
) -> Comparison:
    """Counts the training images that the linear classifier and what is trained after it get wrong, held out.

    In each of ``plan.folds`` parts both are fitted on the other parts and tested on this one: the linear classifier on
    whole images, the other on their central squares.
    """
    seed = trained.seed
    targets = one_against_rest(data.train.labels, len(data.classes))
    parts = folds(targets, seed, plan.folds)
    before = after = 0
    for part in range(plan.folds):
        inside, held_out = np.flatnonzero(parts != part), np.flatnonzero(parts == part)
        images, kept = data.train.subset(inside.tolist()), stored.subset(inside)
        classifier = fit_classifier(
            kept.descriptors, targets[inside], data.classes, score_accuracy, kind="svm", seed=seed, progress=progress
        )
        net = copy.deepcopy(linear_net(start, classifier, data.classes, plan.side))
        state = make_state(net, trained.recipe, trained.compute, seed=seed, num_images=len(images), momentum={})
        state.model = UpperBlocks(net, plan.first_block)
        maps = stored.maps[0][held_out]
        before += int(
            (classifier.scores(stored.descriptors[held_out]).argmax(1) != stored.labels[held_out].numpy()).sum()
        )
        batches = kept.batches(trained.recipe, seed=seed, images=images)
        train(state, batches, classification_for(trained.recipe, images), [_Watch(progress, part, plan.folds)])
        after += int((scores_on_maps(state, maps).argmax(1) != stored.labels[held_out]).sum())
        release(net)
    return Comparison(before, after, f"{int((parts >= 0).sum()):,} training images in cross-validation")


class _Watch(Callback):
    """Reports the epochs of a cross-validation."""

    def __init__(self, progress: Progress, part: int, parts: int) -> None:
        self._progress, self._part, self._parts = progress, part, parts

    def after_epoch(self, state: TrainState) -> None:
        epochs = state.recipe.epochs
        self._progress("cross-validation", self._part * epochs + state.position.epoch + 1, self._parts * epochs)


def scores_on_maps(state: TrainState, maps: Tensor) -> Float[Tensor, "n k"]:
    """The scores of stored maps in evaluation mode; the next epoch sets the mode of training again."""
    assert state.model is not None
    state.net.eval()
    with torch.inference_mode(), state.compute.autocast():
        parts = [state.model(*state.compute.move(part)).float().cpu() for part in maps.split(64)]
    return torch.cat(parts)
