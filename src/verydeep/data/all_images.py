"""Training on all images, the validation images too: for a net whose recipe is settled already."""

from dataclasses import replace

import numpy as np

from verydeep.data.datasets import DataSet, fingerprint
from verydeep.data.image_set import ImageSet
from verydeep.errors import UserError

NO_VALIDATION = "none: the images held out for it are trained on too, and errors given for train are of these"
"""Where validation images come from when none are kept."""


def train_on_all(data: DataSet) -> DataSet:
    """Adds the validation images to the training images.

    What stands where the validation images did are the same images under the name of the split that they are now of:
    their error says that a training works, and nothing about new images.

    Raises:
        UserError: the validation images lie elsewhere than the training images.
    """
    train, val = data.train, data.val
    if train.store != val.store or set(train.names) & set(val.names):
        raise UserError(
            f"{data.name} has validation images of its own, apart from its training images: --no-validation is for "
            "those that were held out of the training images"
        )
    held = dict(train.decoded) | {len(train) + index: image for index, image in val.decoded.items()}
    whole = ImageSet(
        split=train.split,
        classes=train.classes,
        names=[*train.names, *val.names],
        labels=np.concatenate([train.labels, val.labels]),
        store=train.store,
        decoded=held,
    )
    trained_on = replace(val, split=train.split)
    return replace(
        data,
        train=whole,
        val=trained_on,
        validation=NO_VALIDATION,
        fingerprint=fingerprint(whole, data.test),
    )
