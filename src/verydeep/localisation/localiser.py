"""A localiser: a net whose outputs are boxes, with what its outputs mean and who gives the scores of its classes.

Paper: appendix A.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from verydeep.errors import UserError
from verydeep.files import atomic_write, parse_json
from verydeep.nets.boxes_card import BoxesCard, Regression
from verydeep.nets.model_card import make_card
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.weights.resolve import find_model_file, load, read_card

if TYPE_CHECKING:
    from verydeep.localisation.predict import LocalisedObject
    from verydeep.testing.classifier import ImageLike

_TUNED: Final = ".tuned.json"
"""Ending of the file beside a model file that has what was chosen on validation data."""

_TUNED_FIELDS: Final = ("merge_threshold", "test_scales")


@dataclass(init=False)
class Localiser:
    """Predicts the boxes of objects.

    Args:
        net: a model file, a run folder, or a net with its ``regression`` and ``classes``.
        regression: ``scr`` or ``pcr``; by default as the net has it.
        classes: names of the classes; by default as the net has them.
        merge_threshold: IoU above which two boxes are merged.
        test_scales: Q of ``full``, pixels; None is the default of the net.
        classifier: the MODEL that gives the class scores; by default the one the localiser grew from.

    Raises:
        UserError: there is no such model, or it is a classifier.

    Paper: appendix A.
    """

    net: VeryDeep
    regression: Regression
    classes: tuple[str, ...]
    merge_threshold: float = 0.5
    test_scales: tuple[int, ...] | None = None
    classifier: str | None = None

    def __init__(
        self,
        net: VeryDeep | str | Path,
        regression: Regression | None = None,
        classes: Sequence[str] | None = None,
        merge_threshold: float | None = None,
        test_scales: Sequence[int] | None = None,
        classifier: str | None = None,
    ) -> None:
        known = None
        if isinstance(net, VeryDeep):
            self.net, known = net, net.boxes
        else:
            known = read_boxes(net)
            self.net = load(net)
        if known is None:
            if regression is None or classes is None:
                raise UserError(f"this net of {self.net.geometry.title} is no localiser: say regression and classes")
            known = BoxesCard(regression=regression, classes=tuple(classes))
        self.regression = regression or known.regression
        self.classes = tuple(classes or known.classes)
        self.merge_threshold = known.merge_threshold if merge_threshold is None else merge_threshold
        self.test_scales = known.test_scales if test_scales is None else tuple(test_scales)
        self.classifier = classifier or known.classifier
        if self.net.geometry.num_classes != self.boxes.num_outputs:
            raise UserError(
                f"this net has {self.net.geometry.num_classes} outputs, and {self.regression} of {len(self.classes)} "
                f"classes needs {self.boxes.num_outputs}"
            )

    @staticmethod
    def load(model: str | Path) -> "Localiser":
        """Loads a localiser from a model file or run folder, with what was tuned for it."""
        return Localiser(model)

    @property
    def boxes(self) -> BoxesCard:
        """What its model file says of its outputs."""
        return BoxesCard(
            regression=self.regression,
            classes=self.classes,
            classifier=self.classifier,
            merge_threshold=self.merge_threshold,
            test_scales=self.test_scales,
        )

    def save(self, file: str | Path) -> None:
        """Writes a model file."""
        self.net.boxes = self.boxes
        save(self.net, file, card=make_card(self.net))

    def predict(
        self, image: "ImageLike", classifier: VeryDeep | str | Path | None = None, top: int = 5
    ) -> "list[LocalisedObject]":
        """Says what an image shows and where: a box for each of the most likely classes, the most likely first.

        Args:
            image: as for ``Classifier.predict``: a file, its bytes, an image, an array or a tensor.
            classifier: what gives the class scores; by default the classifier that the localiser grew from.
            top: number of classes to name.

        Raises:
            UserError: the image cannot be read, or there is no classifier for several classes.
        """
        from verydeep.localisation.predict import Predictor

        return Predictor(self, classifier or self.classifier).predict(image, top)


def read_boxes(model: str | Path) -> BoxesCard:
    """Reads what a localiser's file says of its boxes, and what was tuned for it since.

    Raises:
        UserError: the model is a classifier, or there is none.
    """
    file = find_model_file(model)
    boxes = read_card(file).boxes
    if boxes is None:
        raise UserError(
            f"{model} is no localiser: verydeep localise train DATA --init-from {model} makes one of a classifier"
        )
    tuned = {name: value for name, value in _read_tuned(file).items() if name in _TUNED_FIELDS}
    classifier = boxes.classifier
    if classifier is not None and (file.parent / classifier).is_file():
        classifier = str(file.parent / classifier)
    try:
        return BoxesCard(**boxes.model_dump() | tuned | {"classifier": classifier})
    except ValueError as error:
        raise UserError(f"{_tuned_file(file)} is damaged: remove it, or tune again") from error


def save_tuned(model: str | Path, **chosen: Any) -> Path:  # noqa: ANN401 - fields of BoxesCard
    """Writes what was chosen on validation data beside a model file, which stays as it is; returns the file."""
    file = _tuned_file(find_model_file(model))
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")
    return file


def _read_tuned(file: Path) -> dict[str, Any]:
    try:
        record = parse_json(_tuned_file(file).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{_tuned_file(file)} cannot be read ({error}): remove it, or tune again") from error
    return record if isinstance(record, dict) else {}


def _tuned_file(file: Path) -> Path:
    return file.with_suffix(_TUNED)
