"""A classifier of descriptors as a MODEL: a folder with its nets, how they describe images, and its weights.

``transfer`` writes one where a net with a linear head cannot hold the classifier: several nets or scales, another layer
than pool5, several classes an image.

Paper: appendix B.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from verydeep.data.image_set import ImageSet
from verydeep.device import Compute
from verydeep.download import digest_of
from verydeep.errors import UserError
from verydeep.nets.model_card import DataCard, Figures
from verydeep.progress import Progress
from verydeep.testing.descriptors import Describer, DescriptorOptions, describe
from verydeep.testing.measure import softmax
from verydeep.testing.result import LabelledImages, Member, Result
from verydeep.weights.resolve import TRANSFER_FILE, find_model_file, is_transfer_folder, open_net

CLASSIFIER_FILE = "classifier.safetensors"


class NetReference(BaseModel):
    """A net of the folder: a name of published weights, or a file in the folder."""

    model_config = ConfigDict(frozen=True)

    name: str | None = None
    file: str | None = None
    sha256: str


class TransferCard(BaseModel):
    """What a classifier of descriptors says of itself: the contents of model.json.

    Attributes:
        format_version: raised when an older reader would go wrong.
        classes: in the order of the scores.
        multi_label: an image may show several classes: posteriors are sigmoids of the scores, not their soft-max.
        nets: whose descriptors are stacked.
        descriptors: how images are described.
        classifier: its kind, C, temperature, seed and how C was chosen.
        data: what it was fitted on.
        selected_on: a split besides train whose images it was fitted on; None where there is none.
        results: what was measured, with split and protocol.
        licence: of the nets.
        source: where the nets come from.
        environment: the software and machine that made it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["verydeep classifier of descriptors"] = "verydeep classifier of descriptors"
    format_version: Literal[1] = 1
    classes: tuple[str, ...]
    multi_label: bool
    nets: tuple[NetReference, ...]
    descriptors: DescriptorOptions
    classifier: dict[str, Any]
    data: DataCard
    selected_on: str | None = None
    results: tuple[Figures, ...] = ()
    licence: str | None = None
    source: str | None = None
    environment: dict[str, str | int] = {}


class TransferredModel:
    """A classifier of descriptors, read from its folder.

    Args:
        folder: that ``transfer`` wrote.
        compute: device and precision of the nets; by default the CPU in float32.

    Raises:
        UserError: a file is missing or damaged, or a net is another one than it was fitted with.
    """

    def __init__(self, folder: str | Path, compute: Compute | None = None) -> None:
        self.folder = Path(folder)
        self.card = read_transfer_card(self.folder)
        self.weight, self.bias = self._read_weights()
        self.nets = [open_net(_find(self.folder, reference)) for reference in self.card.nets]
        self._compute = compute
        self.describer = Describer(self.nets, self.card.descriptors, compute=compute)
        if self.weight.shape[1] != self.describer.dimensions:
            raise UserError(
                f"{self.folder / CLASSIFIER_FILE} is for {self.weight.shape[1]:,} numbers an image and its nets give "
                f"{self.describer.dimensions:,}: run transfer again"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        return self.card.classes

    @property
    def test_scales(self) -> tuple[int, ...]:
        return tuple(sorted({scale for settings in self.describer.settings for scale in settings.scales}))

    def _read_weights(self) -> tuple[Float[ndarray, "k d"], Float[ndarray, "k"]]:
        file = self.folder / CLASSIFIER_FILE
        try:
            tensors = load_file(file)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file} is missing, damaged or cut short ({error}): run transfer again") from error
        weight, bias = tensors.get("weight"), tensors.get("bias")
        count = len(self.card.classes)
        if (
            weight is None
            or bias is None
            or weight.ndim != 2
            or len(weight) != count
            or bias.shape != (count,)
            or not (np.isfinite(weight).all() and np.isfinite(bias).all())
        ):
            raise UserError(f"{file} holds no weight and bias of {count:,} classes: run transfer again")
        return weight, bias

    def posteriors_of(self, descriptors: Float[ndarray, "n d"]) -> Float[ndarray, "n k"]:
        """The soft-max of the scores; their sigmoids where an image may show several classes."""
        return posteriors(descriptors.astype(np.float64) @ self.weight.T + self.bias, self.card.multi_label)

    def predict(self, images: Sequence[UInt8[ndarray, "_ _ 3"]]) -> Float[ndarray, "n k"]:
        """Posteriors of decoded images, RGB."""
        return self.posteriors_of(self.describer.of(images))

    def results(
        self,
        images: ImageSet,
        described: LabelledImages,
        choice: Compute,
        progress: Progress,
        note: Callable[[str], None] | None,
    ) -> list[Result]:
        """Tests it on labelled images, as ``evaluate`` does."""
        begun = time.perf_counter()
        rows = describe(self.nets, images, self.card.descriptors, compute=choice, progress=progress)
        member = Member(
            model=str(self.folder),
            architecture=" & ".join(net.geometry.architecture.name for net in self.nets),
            protocol="descriptors",
            test_scales=self.test_scales,
            selected_on=self.card.selected_on,
            precision=choice.precision,
        )
        return [
            Result(
                **vars(described),
                posteriors=self.posteriors_of(rows).astype(np.float32),
                members=(member,),
                seconds=time.perf_counter() - begun,
            )
        ]

    @property
    def largest_scale(self) -> int:
        return max(self.test_scales)

    def check_images(self, images: ImageSet) -> None:
        """Checks that error rates of it can be measured on images."""
        if self.card.multi_label:
            raise UserError(
                f"{self.folder} names several classes an image, and error rates are of one class an image: verydeep "
                "transfer prints its mean average precision, and verydeep predict ranks its classes"
            )
        if self.classes != images.classes:
            pairs = zip(self.classes, images.classes, strict=False)
            ours, theirs = next(
                (pair for pair in pairs if pair[0] != pair[1]), (len(self.classes), len(images.classes))
            )
            raise UserError(
                f"the classes of {self.folder} are not the data's: it has {ours!r} where the data have {theirs!r}"
            )


def posteriors(scores: Float[ndarray, "n k"], multi_label: bool) -> Float[ndarray, "n k"]:
    """Posteriors of scores: their sigmoids where an image may show several classes, else their soft-max."""
    if multi_label:
        found: ndarray = 1 / (1 + np.exp(-np.clip(scores, -700, 700)))
        return found
    return softmax(scores)


def read_transfer_card(folder: Path) -> TransferCard:
    """Reads what a classifier of descriptors says of itself.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    file = folder / TRANSFER_FILE
    if not is_transfer_folder(folder):
        raise UserError(f"{folder} holds no {TRANSFER_FILE}: give a folder that transfer wrote")
    try:
        return TransferCard.model_validate_json(file.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"])) or "its JSON"
        raise UserError(f"{file} cannot be read at {field}: {problem['msg']}") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error


def _find(folder: Path, reference: NetReference) -> Path:
    """Finds the file of a net, and checks that it is the one that the classifier was fitted with."""
    if reference.file is not None:
        file = folder / reference.file
        if not file.resolve().is_relative_to(folder.resolve()) or not file.is_file():
            raise UserError(f"{folder} holds no {reference.file}: copy the whole folder")
    elif reference.name is not None and not Path(reference.name).exists():
        file = find_model_file(reference.name)
    else:
        raise UserError(f"{folder / TRANSFER_FILE}: {reference.name or 'a net without a name'} is no published name")
    found = digest_of(file, "sha256", f"checking {file.name}")
    if found != reference.sha256:
        raise UserError(
            f"{file} is another net than {folder} was fitted with (sha256 {found[:12]}): run transfer again"
        )
    return file
