"""Writes a transferred classifier as a MODEL: a net with a linear head, or a folder with all that scores an image.

Paper: appendix B.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from safetensors.numpy import save_file

from verydeep.data.dataset import NO_VALIDATION
from verydeep.download import digest_of
from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write
from verydeep.machine import environment
from verydeep.nets.model_card import DataCard, make_card
from verydeep.nets.model_file import STORED, save
from verydeep.nets.net import VeryDeep, empty_net
from verydeep.nets.stored_net import MODEL_FILE
from verydeep.paper.constants import TOTAL_STRIDE
from verydeep.testing.descriptors import DescriptorOptions
from verydeep.testing.metrics import top_error
from verydeep.testing.transferred import CLASSIFIER_FILE, NetReference, TransferCard, posteriors
from verydeep.transfer.classifier import LinearClassifier
from verydeep.transfer.result import TransferResult
from verydeep.transfer.splits import TransferData
from verydeep.weights.published import find_published
from verydeep.weights.resolve import TRANSFER_FILE, find_model_file, read_card
from verydeep.weights.shipped import SHIPPED

RESULT_FILE: Final = "transfer.json"
"""What was measured, beside the model."""

_NETS: Final = "nets"


def rounded(classifier: LinearClassifier, model: str | Path) -> LinearClassifier:
    """Rounds weights to the precision that a model's file stores: what is measured is what is saved."""
    dtype = STORED[read_card(model).precision]
    weight = torch.from_numpy(classifier.weight).to(torch.float32).to(dtype).double().numpy()
    return replace(classifier, weight=weight, bias=classifier.bias.astype(np.float32).astype(np.float64))


def linear_net(net: VeryDeep, classifier: LinearClassifier, classes: tuple[str, ...], scale: int) -> VeryDeep:
    """Returns the convolutions of a net under a classifier of its mean descriptors, whose scores are the classifier's.

    Args:
        net: shares its weights with the result.
        classifier: of the mean of pool5.
        classes: in the order of the scores.
        scale: test scale Q that the classifier was fitted at, pixels.
    """
    crop = min(net.geometry.crop, scale // TOTAL_STRIDE * TOTAL_STRIDE)
    geometry = replace(net.geometry, head="linear", hidden=None, num_classes=len(classes), crop=crop)
    linear = empty_net(geometry)
    ours = net.state_dict()
    weights = {name: ours[name] for name in linear.state_dict() if not name.startswith("fc8.")}
    head = torch.from_numpy(classifier.weight).float()[:, :, None, None]
    weights |= {"fc8.weight": head.contiguous(), "fc8.bias": torch.from_numpy(classifier.bias).float()}
    linear.load_state_dict(weights, assign=True)
    linear.classes, linear.train_scale, linear.input_is_set = classes, (scale, scale), True
    return linear.eval()


@dataclass(frozen=True, kw_only=True)
class ModelWriter:
    """Writes models and results to a folder; made before the long work, so that a folder of no use is found early."""

    folder: Path
    models: Sequence[str | Path]
    nets: Sequence[VeryDeep]
    describing: DescriptorOptions
    data: TransferData
    seed: int

    def __post_init__(self) -> None:
        """Makes the folder; refuses one with other things in it."""
        if self.folder.is_dir() and any(self.folder.iterdir()) and not (self.folder / RESULT_FILE).is_file():
            raise UsageError(f"--out {self.folder} holds other files: give a new folder")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {self.folder} cannot be made: {error.strerror or error}") from error

    def write(self, classifier: LinearClassifier, result: TransferResult, *, as_net: bool) -> Path:
        """Writes the model and what was measured; returns what stands for MODEL elsewhere."""
        try:
            model = self._write_net(classifier, result) if as_net else self._write_folder(classifier, result)
            self._remove_other_form(as_net=as_net)
            record = replace(result, model=str(model)).as_record()
            with atomic_write(self.folder / RESULT_FILE) as temporary:
                temporary.write_text(json.dumps(record, indent=2, allow_nan=False), encoding="utf-8")
        except OSError as error:
            raise UserError(f"--out {self.folder} cannot be written: {error.strerror or error}") from error
        return model

    def _remove_other_form(self, *, as_net: bool) -> None:
        """Removes what an earlier transfer into this folder left of the form that the model does not have now."""
        if not as_net:
            (self.folder / MODEL_FILE).unlink(missing_ok=True)
            return
        for name in (TRANSFER_FILE, CLASSIFIER_FILE):
            (self.folder / name).unlink(missing_ok=True)
        if (self.folder / _NETS).is_dir():
            shutil.rmtree(self.folder / _NETS)

    def _write_net(self, classifier: LinearClassifier, result: TransferResult) -> Path:
        (net,), (model,) = self.nets, self.models
        ((scale, *_),) = result.describing["test_scales"]
        linear = linear_net(net, classifier, self.data.classes, scale)
        linear.mirror = result.describing["mirror"][0]
        card = read_card(model)
        about = self._about(classifier, result)
        file = self.folder / MODEL_FILE
        described = make_card(
            linear,
            recipe={"name": "transfer", **about},
            data=self._data(result),
            selected_on=self._fitted_on(result),
            results=(self._figures(result, "single", linear.mirror),),
            licence=card.licence,
            source=self._source(),
        )
        save(linear, file, card=described, precision=card.precision)
        return file

    def _write_folder(self, classifier: LinearClassifier, result: TransferResult) -> Path:
        references = [self._reference(number, model) for number, model in enumerate(self.models)]
        card = TransferCard(
            classes=self.data.classes,
            multi_label=self.data.multi_label,
            nets=tuple(references),
            descriptors=self.describing,
            classifier=self._about(classifier, result),
            data=self._data(result),
            selected_on=self._fitted_on(result),
            results=() if self.data.multi_label else (self._figures(result, "descriptors", mirror=False),),
            licence="; ".join(filter(None, dict.fromkeys(read_card(model).licence for model in self.models))) or None,
            source=self._source(),
            environment=environment(),
        )
        tensors: dict[str, ndarray] = {
            "weight": np.ascontiguousarray(classifier.weight, dtype=np.float32),
            "bias": np.ascontiguousarray(classifier.bias, dtype=np.float32),
        }
        with atomic_write(self.folder / CLASSIFIER_FILE) as temporary:
            save_file(tensors, temporary)
        with atomic_write(self.folder / TRANSFER_FILE) as temporary:
            temporary.write_text(card.model_dump_json(indent=2), encoding="utf-8")
        return self.folder

    def _reference(self, number: int, model: str | Path) -> NetReference:
        """A published name is kept as a name, a file of the user's is copied."""
        file = find_model_file(model)
        sha256 = digest_of(file, "sha256")
        if not Path(model).exists() and (str(model) in SHIPPED or find_published(str(model)) is not None):
            return NetReference(name=str(model), sha256=sha256)
        copy = self.folder / _NETS / f"{number + 1}.safetensors"
        copy.parent.mkdir(exist_ok=True)
        with atomic_write(copy) as temporary:
            shutil.copyfile(file, temporary)
        return NetReference(file=copy.relative_to(self.folder).as_posix(), sha256=sha256)

    def _about(self, classifier: LinearClassifier, result: TransferResult) -> dict[str, Any]:
        return {
            "classifier": classifier.kind,
            "c": classifier.c,
            "chosen_by": f"{result.metric} in cross-validation on the images fitted on",
            "temperature": classifier.temperature,
            "seed": self.seed,
            "split": result.about_split,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in result.describing.items()},
        }

    def _data(self, result: TransferResult) -> DataCard:
        return DataCard(
            name=self.data.name,
            fingerprint=self.data.fingerprint,
            num_train=result.splits[0].num_train,
            validation=NO_VALIDATION if self._fitted_on(result) else self.data.validation,
        )

    @staticmethod
    def _fitted_on(result: TransferResult) -> str | None:
        """A split besides train whose images were fitted on: ``evaluate`` says so of its errors."""
        if result.is_drawn:
            return "test"
        return "val" if result.splits[0].measured_on == "test" else None

    def _figures(self, result: TransferResult, protocol: str, mirror: bool) -> dict[str, Any]:
        one = result.splits[0]
        averaged = ", scores averaged with the mirror image's" if mirror else ""
        return {
            "top1_error": one.top1_error,
            "top5_error": _top5_error(one.scores, one.targets),
            "num_images": one.num_images,
            "split": "held-out" if result.is_drawn else one.measured_on,
            "protocol": protocol,
            "data": result.data,
            "measured": f"by transfer, {result.about_split}{averaged}",
        }

    def _source(self) -> str:
        sources = [f"{model} ({read_card(model).source or 'source unknown'})" for model in self.models]
        return f"a linear classifier fitted by verydeep transfer to descriptors of {' and '.join(sources)}"


def _top5_error(scores: Float[ndarray, "n k"], targets: ndarray) -> float | None:
    return top_error(posteriors(scores, multi_label=False), targets.argmax(1), 5)
