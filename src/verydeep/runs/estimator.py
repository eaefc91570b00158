"""The scikit-learn estimator: a classifier of images for pipelines, cross-validation and grid searches.

Paper: appendix B.
"""

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data
from torch import Tensor

from verydeep.data.image_set import ImageSet
from verydeep.data.mapped import MappedSource
from verydeep.device import find_device, fp32_choice
from verydeep.errors import UsageError, UserError
from verydeep.nets.model_card import make_card
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.nets.stored_net import MODEL_FILE
from verydeep.runs.fit import train
from verydeep.testing.classifier import Classifier as ImageClassifier
from verydeep.testing.classifier import pixels_of
from verydeep.testing.descriptors import DescriptorOptions, describe, find_settings
from verydeep.testing.measure import MeanPosterior, measure, softmax
from verydeep.transfer.classifier import LinearClassifier, fit_classifier
from verydeep.transfer.metrics import one_against_rest, score_accuracy
from verydeep.transfer.write import linear_net
from verydeep.weights.resolve import load, read_card

DEFAULT_RECIPE: Final = "linear"
"""Of the estimator: a linear classifier on descriptors. Any other name is a recipe of ``verydeep.train``."""


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A scikit-learn classifier of images.

    ``fit(files, labels)`` describes each image once by the convolutions of a trained net and fits a linear classifier,
    its C by cross-validation. With the name of a recipe it trains a net as ``verydeep.train`` does. It works in
    ``Pipeline``, ``cross_val_score`` and ``GridSearchCV``.

    X is a list of files, of images of Pillow, of arrays h,w,3 or h,w (uint8) or of tensors 3,h,w, of different kinds
    too; an array of files (a column of a table); or an array n,h,w,3 or n,h,w of uint8. RGB in 0..255. A table n,d of
    numbers holds descriptors, as ``verydeep.extract_features`` computes them: the linear classifier is then fitted on
    these.

    Args:
        model: whose weights it begins with: a published name, a model file or a run folder. None: random weights, for a
            recipe that trains.
        minutes: for recipes that end in a time.
        recipe: ``linear``, or the name of a recipe of ``verydeep.train``.
        seed: of the cross-validation, or of the training: equal seeds give equal classifiers.
        out: a folder for what is trained: the model file, or the run. None keeps it in memory alone.
        test_scale: Q of ``linear``, pixels: the shorter side that images are rescaled to. [at most 160]
        device: cpu, cuda or mps; by default the fastest there is.
        options: further keywords of ``verydeep.train``, such as ``{"epochs": 3}``, for a recipe that trains.

    Attributes:
        classes_: labels of the classes, sorted.
        net_: the net, a ``VeryDeep``; None where it was fitted on descriptors.
        linear_: the linear classifier; None where a recipe trained a net.
        n_features_in_: numbers of a descriptor, where it was fitted on descriptors.

    Paper: appendix B.
    """

    def __init__(
        self,
        model: str | Path | None = "vgg16-features",
        *,
        minutes: float | None = None,
        recipe: str = DEFAULT_RECIPE,
        seed: int = 0,
        out: str | Path | None = None,
        test_scale: int | None = None,
        device: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.minutes = minutes
        self.recipe = recipe
        self.seed = seed
        self.out = out
        self.test_scale = test_scale
        self.device = device
        self.options = options

    def fit(self, X: Any, y: Any) -> "Classifier":  # noqa: ANN401, N803 - as scikit-learn has it
        """Fits it to images and their classes.

        Args:
            X: images, or descriptors n,d.
            y: the class of each: strings or integers.

        Raises:
            UserError: an image cannot be read, there is one class, or the model cannot be used.
            UsageError: options that cannot be right.
        """
        if y is None:
            raise ValueError("Classifier requires y to be passed, but the target y is None")
        images = _images_of(X)
        rows = None if images is not None else validate_data(self, X, dtype=np.float64)
        labels = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y")
        check_consistent_length(rows if images is None else images, labels)
        check_classification_targets(labels)
        self.classes_, indices = np.unique(labels, return_inverse=True)
        names = tuple(map(str, self.classes_))
        if len(names) < 2:
            raise UserError(f"there is one class, {names[0]}: a classifier needs at least two")
        if images is None:
            if self.recipe not in ("linear", DEFAULT_RECIPE):
                raise UsageError(f"the recipe {self.recipe} trains on images: a table of numbers takes recipe='linear'")
            self.linear_: LinearClassifier | None = self._fit_linear(np.asarray(rows), indices, names)
            self.net_: VeryDeep | None = None
        else:
            self.net_, self.linear_ = self._fit_net(images, indices, names)
        return self

    def predict(self, X: Any) -> ndarray:  # noqa: ANN401, N803
        """The most likely class of each image, as y has it."""
        found: ndarray = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[found])

    def predict_proba(self, X: Any) -> Float[ndarray, "n k"]:  # noqa: ANN401, N803
        """Posteriors of the classes, in the order of ``classes_``, by the protocol ``single``."""
        check_is_fitted(self)
        images = _images_of(X)
        if images is None:
            if self.linear_ is None or self.net_ is not None:
                raise UsageError("this classifier was fitted on images: give files, images, or an array n,h,w,3")
            return softmax(self.linear_.scores(validate_data(self, X, dtype=np.float64, reset=False)))
        if self.net_ is None:
            raise UsageError("this classifier was fitted on descriptors: give a table n,d of numbers")
        one = ImageClassifier(self.net_, device=find_device(self.device))
        given = _image_set(images, np.zeros(len(images), np.int64), tuple(map(str, self.classes_)), "test")
        posteriors = lambda: MeanPosterior(len(given), len(self.classes_))  # noqa: E731
        (measured,) = measure(one.backend, given, [one.test], posteriors, mirror=self.net_.mirror)
        self.net_.to("cpu")  # a pickle is for machines without a GPU too
        return measured.result.astype(np.float64)

    def _fit_net(
        self, images: Sequence[object], labels: Int[ndarray, "n"], names: tuple[str, ...]
    ) -> tuple[VeryDeep, LinearClassifier | None]:
        """Gives the net of images; the one place that knows what the recipe ``linear`` is."""
        if self.recipe == "linear":
            return self._fit_descriptors(images, labels, names)
        given = dict(self.options or {}) | {"recipe": self.recipe, "seed": self.seed, "device": self.device}
        given |= {} if self.minutes is None else {"minutes": self.minutes}
        given |= {} if self.model is None else {"init_from": self.model}
        with tempfile.TemporaryDirectory(prefix="verydeep-") as folder:
            out = Path(folder) / "run" if self.out is None else Path(self.out)
            data = {"train": Labelled(images, labels, names)}
            trained = train(data, data_source="<X>", out=out, **given)
            # copied: weights of the best epoch are mapped from the file
            return copy.deepcopy(trained.net).to("cpu").eval(), None

    def _fit_descriptors(
        self, images: Sequence[object], labels: Int[ndarray, "n"], names: tuple[str, ...]
    ) -> tuple[VeryDeep, LinearClassifier]:
        if self.model is None or self.minutes is not None or self.options:
            wrong = "model=None" if self.model is None else "minutes" if self.minutes is not None else "options"
            raise UsageError(f"{wrong} is for a recipe that trains: name one, or leave it out")
        net = load(self.model, features_only=True)
        scales = None if self.test_scale is None else (self.test_scale,)
        describing = DescriptorOptions(layer="pool5", test_scales=scales, normalise=False)
        (settings,) = find_settings([net], describing)
        compute = fp32_choice(find_device(self.device))
        rows = describe([net], _image_set(images, labels, names, "train"), describing, compute=compute)
        linear = self._fit_linear(rows, labels, names)
        found = linear_net(net, linear, names, settings.scales[0])
        found.mirror = settings.mirror
        if self.out is not None:
            card = read_card(self.model)
            source = f"a linear classifier fitted by verydeep.sklearn to descriptors of {self.model} ({card.source})"
            recipe = {"name": "linear", "classifier": linear.kind, "c": linear.c, "seed": self.seed}
            file = Path(self.out) / MODEL_FILE
            file.parent.mkdir(parents=True, exist_ok=True)
            save(found, file, card=make_card(found, recipe=recipe, licence=card.licence, source=source))
        return found.to("cpu"), linear

    def _fit_linear(
        self, rows: Float[ndarray, "n d"], labels: Int[ndarray, "n"], names: tuple[str, ...]
    ) -> LinearClassifier:
        targets = one_against_rest(labels, len(names))
        return fit_classifier(rows, targets, names, score_accuracy, seed=self.seed)

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        """Declares the inputs for scikit-learn's checks: files and images too."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = tags.input_tags.string = True
        return tags


@dataclass(frozen=True)
class Labelled:
    """Images of any kind with their classes, as a map-style data set."""

    images: Sequence[object]
    labels: Int[ndarray, "n"]
    classes: tuple[str, ...]

    @property
    def targets(self) -> list[int]:
        return [int(label) for label in self.labels]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[ndarray, int]:
        return pixels_of(self.images[index]), int(self.labels[index])


def _image_set(images: Sequence[object], labels: Int[ndarray, "n"], classes: tuple[str, ...], split: str) -> ImageSet:
    return ImageSet(
        split=split,
        classes=classes,
        names=[f"{index:06d}.png" for index in range(len(images))],
        labels=labels.astype(np.int64),
        source=MappedSource("X", Labelled(images, labels, classes)),
    )


def _images_of(given: object) -> Sequence[object] | None:
    """The images of X; None where it is a table of numbers, or what scikit-learn's check is to refuse."""
    if isinstance(given, str | Path | bytes | Image.Image):
        raise UsageError(f"X is one {type(given).__name__}: give a list of files or images, [X]")
    if isinstance(given, list | tuple):
        return given if given and all(map(_is_image, given)) else None
    if isinstance(given, Tensor):
        return list(given) if given.ndim == 4 else None
    array = np.asarray(given)
    if array.dtype.kind in "OU":  # a column of files, or of images
        is_column = array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)
        column = array.ravel().tolist() if is_column else []
        return column if column and all(map(_is_image, column)) else None
    if array.ndim in (3, 4):
        if array.dtype != np.uint8:
            raise UsageError(f"images {array.shape} of {array.dtype}: give uint8, in 0..255")
        return list(array)
    return None


def _is_image(item: object) -> bool:
    """Whether an item of X is an image, and not a number or a row of numbers."""
    if isinstance(item, ndarray | Tensor):
        return item.ndim >= 2
    return isinstance(item, str | Path | bytes | Image.Image)
