"""Who gives the class scores of a localiser: the classifier it grows from, or one that is fitted before it.

Paper: appendix A; the linear classifier is our addition.
"""

from pathlib import Path
from typing import Any

import numpy as np

from verydeep.data.dataset import DataSet
from verydeep.device import Compute
from verydeep.distributed import processes
from verydeep.nets.model_card import ModelCard, make_card
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.progress import Progress
from verydeep.runs.finish import data_card
from verydeep.testing.evaluate import evaluate
from verydeep.training.stored_maps import store_maps
from verydeep.transfer.classifier import fit_classifier
from verydeep.transfer.metrics import one_against_rest, score_accuracy
from verydeep.transfer.write import linear_net


def scores_classes(card: ModelCard, classes: tuple[str, ...]) -> bool:
    """Whether a model is a classifier of exactly these classes."""
    return (
        card.boxes is None and not card.features_only and card.classes is not None and set(card.classes) == set(classes)
    )


def fit_linear(
    net: VeryDeep, data: DataSet, compute: Compute, file: Path, *, seed: int, source: str | None, progress: Progress
) -> dict[str, Any]:
    """Fits a linear classifier to mean descriptors of whole images, writes it, and returns its validation errors."""
    side = net.geometry.crop
    stored = store_maps(
        net,
        data.train,
        compute,
        side=side,
        views=range(1),
        first_block=None,
        seed=seed,
        mirror=data.mirror,
        progress=progress,
    )
    fitted = fit_classifier(
        stored.descriptors,
        one_against_rest(np.asarray(data.train.labels), len(data.classes)),
        data.classes,
        score_accuracy,
        seed=seed,
        progress=progress,
    )
    linear = linear_net(net, fitted, data.classes, side)
    linear.mirror = data.mirror
    result = evaluate(linear, data.val, device=compute.device, progress=progress)
    errors = {
        "split": result.split,
        "protocol": result.protocol,
        "num_images": len(result.labels),
        "top1_error": result.top1_error,
        "top5_error": result.top5_error,
    }
    card = make_card(
        linear,
        recipe={"name": "linear", "kind": fitted.kind, "c": fitted.c, "seed": seed},
        data=data_card(data),
        errors=errors,
        selected_on=None,
        source=f"a linear classifier on the convolutions of {source}",
    )
    if processes().is_first:
        save(linear, file, card=card)
    return errors
