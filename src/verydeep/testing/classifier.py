"""One image: its class posteriors, the classes ranked by them, and its class score map."""

import io
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image, ImageOps

from verydeep.device import Compute, fp32_choice
from verydeep.errors import UsageError
from verydeep.images.decode import decode_pixels, read_image, to_rgb
from verydeep.images.geometry import rescaled_size, size_of
from verydeep.images.views import whole
from verydeep.nets.described import DescribedNet
from verydeep.paper.constants import TOTAL_STRIDE
from verydeep.speed.backend import Backend, find_compute, make_test_backend
from verydeep.speed.tiling import score_map
from verydeep.testing.measure import compute, posteriors_of
from verydeep.testing.metrics import check_finite
from verydeep.testing.protocols import ViewPlan, at_scales, find_protocol
from verydeep.weights.resolve import is_transfer_folder, open_net

if TYPE_CHECKING:
    from torch import Tensor

    from verydeep.testing.transferred import TransferredModel

    ImageLike = str | Path | bytes | Image.Image | ndarray | Tensor
else:
    ImageLike = Any
"""A file, its bytes, an image of any size and mode, an array h,w,3 or h,w (uint8), or a tensor 3,h,w; RGB in 0..255."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|data:")

_REMEDY = "give a file, bytes, an image of Pillow, an array h,w,3 of uint8 or a tensor 3,h,w, RGB in 0..255"


@dataclass(frozen=True)
class ScoreMap:
    """The class score map of an image."""

    scores: Float[ndarray, "k i j"] = field(repr=False)  # before the soft-max
    test_scale: int  # Q, pixels
    size: tuple[int, int]  # of the rescaled image, pixels
    first: tuple[float, float]  # centre of the first position's window, pixels of the rescaled image


@dataclass(frozen=True)
class RankedClass:
    """A class that an image may show, with its index among the scores."""

    name: str
    index: int
    posterior: float


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of one image."""

    file: str
    classes: tuple[RankedClass, ...]  # the most likely first
    # the largest that the posteriors come from; None where the protocol has crops only
    score_map: ScoreMap | None = field(default=None, repr=False, compare=False)

    def as_record(self) -> dict[str, Any]:
        return {"file": self.file, "classes": [vars(ranked) for ranked in self.classes]}


@runtime_checkable
class ComputedNet(Protocol):
    """A net with its backend: what ``accelerate`` gives."""

    @property
    def net(self) -> DescribedNet:
        """The net."""

    @property
    def backend(self) -> Backend:
        """Computes it."""


class Classifier:
    """Ranks the classes that images show.

    Args:
        model: a net, taken as it is at the first prediction, a model file, a run folder, a published name, or a folder
            that ``transfer`` wrote.
        protocol: how posteriors are computed, a name in ``PROTOCOLS``.
        device: cpu, cuda or mps; by default where the net is, or the fastest there is for a model that is loaded.
        precision: fp32, bf16, or auto for the faster of the two by a rule over the machine, as ``accelerate`` has them.

    Raises:
        UserError: there is no such model, or it has convolutions only.
        UsageError: an unknown protocol, device or precision.

    Paper: section 3.2.
    """

    def __init__(
        self,
        model: DescribedNet | str | Path,
        *,
        protocol: str = "single",
        device: str | None = None,
        precision: str = "fp32",
    ) -> None:
        row = find_protocol(protocol)
        self.transferred: "TransferredModel | None" = None
        if not isinstance(model, DescribedNet) and is_transfer_folder(model):
            if protocol != "single":
                raise UsageError(f"protocol {protocol}: {model} is a classifier of descriptors and has its own scales")
            self.transferred = _open_transferred(model, find_compute(device, precision))
            self.classes = self.transferred.classes
            return
        if isinstance(model, DescribedNet):
            self.net, device = model, device or model.device_type
        else:
            self.net = open_net(model)
        self.net.require_classes()
        self.compute, self.test = find_compute(device, precision), at_scales(row, self.net)
        count = self.net.geometry.num_classes
        self.classes = self.net.classes or tuple(str(index) for index in range(count))

    @cached_property
    def backend(self) -> Backend:
        """Computes the net; made for the first image."""
        return make_test_backend(self.net, self.compute, rounds_up=self.test.protocol.rounds_up)

    @cached_property
    def _plan(self) -> ViewPlan:
        return ViewPlan([self.test], self.backend.crop, mirror=self.net.mirror)

    @overload  # a str is an iterable too, of str
    def predict(self, image: ImageLike, *, top: int = 5) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, image: Iterator[ImageLike], *, top: int = 5) -> Iterator[Prediction]: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, image: Iterable[ImageLike], *, top: int = 5) -> list[Prediction]: ...

    def predict(self, image: object, *, top: int = 5) -> Prediction | list[Prediction] | Iterator[Prediction]:
        """Ranks the classes of an image, or of several.

        Args:
            image: a file, its bytes, an image of Pillow of any size and mode, an array h,w,3 or h,w (uint8), or a
                tensor 3,h,w, RGB in 0..255. Or several: an array n,h,w,3, a tensor n,3,h,w, or a list, a tuple, a
                generator or another iterable of any of these, of different kinds too.
            top: number of classes to name.

        Returns:
            A prediction of one image, a list of several; of a generator or another iterator an iterator, which takes an
            image when its prediction is asked for, so that there may be more images than memory holds.

        Raises:
            UserError: an image cannot be read.
            UsageError: ``top`` is below 1, or this is no image.
        """
        if top < 1:
            raise UsageError(f"top {top}: name at least one class")
        several = images_in(image)
        if several is None:
            return self._predict_one(image, top)
        predictions = (self._predict_one(one, top) for one in several)
        return predictions if isinstance(image, Iterator) else list(predictions)

    def _predict_one(self, image: object, top: int) -> Prediction:
        map_ = None
        if self.transferred is not None:
            (posteriors,) = self.transferred.predict([pixels_of(image)])
        else:
            posteriors, map_ = posterior_and_map(self.backend, self._plan, pixels_of(image))
        order = np.argsort(-posteriors, kind="stable")[:top].tolist()
        ranked = tuple(RankedClass(self.classes[index], index, float(posteriors[index])) for index in order)
        return Prediction(str(image) if isinstance(image, str | Path) else "image", ranked, map_)


def _open_transferred(folder: str | Path, compute: Compute) -> Any:  # noqa: ANN401 - a TransferredModel
    from verydeep.testing.transferred import TransferredModel  # with the room for descriptors

    return TransferredModel(folder, compute)


def posterior(
    net: DescribedNet | ComputedNet,
    image: ImageLike,
    *,
    protocol: str = "single",
    test_scales: Sequence[int] | None = None,
) -> Float[ndarray, "k"]:
    """Computes the class posteriors of one image by a protocol.

    Args:
        net: the net, which stays where it is, or an accelerated one.
        image: as for ``Classifier.predict``.
        protocol: a name in ``PROTOCOLS``, such as ``multi-scale``.
        test_scales: Q, pixels; by default what the protocol says for the net's training scale.

    Returns:
        Probabilities in the order of the classes.

    Raises:
        UserError: the image cannot be read.
        UsageError: an unknown protocol or a scale below the crop.
    """
    row = find_protocol(protocol)
    plain = net if isinstance(net, DescribedNet) else net.net
    plain.require_classes()
    test = at_scales(row, plain, test_scales)
    if isinstance(net, DescribedNet) or row.rounds_up:
        from verydeep.speed.torch_backend import TorchBackend  # the net as it is, and not accelerated

        choice = fp32_choice(plain.device_type)
        backend: Backend = TorchBackend(plain, choice, rounds_up=row.rounds_up)
    else:
        backend = net.backend
    return posterior_and_map(backend, ViewPlan([test], backend.crop, mirror=plain.mirror), pixels_of(image))[0]


def posterior_and_map(
    backend: Backend, plan: ViewPlan, pixels: UInt8[ndarray, "h w 3"]
) -> tuple[Float[ndarray, "k"], ScoreMap | None]:
    """Computes the class posteriors of one image by one test, and the score map of its largest dense view."""
    total, largest = np.zeros(backend.num_classes), None
    for found in compute(backend, plan, [plan.cut(pixels)]):
        for _, maps, weight, _ in found.uses():
            total += weight * posteriors_of(maps).sum(0)
        view = found.view
        if view.method.is_dense and not view.method.rounds_up and (not largest or view.scale > largest.test_scale):
            largest = _placed(found.maps[0], size_of(pixels), view.scale, backend)
    check_finite(total)
    return total.astype(np.float32), largest


def score_map_at(backend: Backend, pixels: UInt8[ndarray, "h w 3"], scale: int) -> ScoreMap:
    """Computes the class score map of one image at a test scale Q.

    Paper: section 3.2.
    """
    (view,) = whole(pixels, scale, backend.crop)
    return _placed(score_map(backend, view[None])[0], size_of(pixels), scale, backend)


def _placed(scores: Float[ndarray, "k i j"], size: tuple[int, int], scale: int, backend: Backend) -> ScoreMap:
    width, height = rescaled_size(size, scale)
    window = backend.head_kernel * TOTAL_STRIDE
    # the view is trimmed about the centre to multiples of the stride
    first = (width % TOTAL_STRIDE // 2 + window / 2, height % TOTAL_STRIDE // 2 + window / 2)
    return ScoreMap(scores, scale, (width, height), first)


def images_in(given: Any) -> Iterable[object] | None:  # noqa: ANN401 - whatever it is
    """The images of what holds several, not yet checked; None of a single one, or of what is no image at all."""
    if isinstance(given, ndarray):
        is_several = given.ndim == 4 or (given.ndim == 1 and given.dtype.kind in "OU")  # of files or objects
        return given if is_several else None
    if _is_tensor(given):
        return given if given.ndim == 4 else None
    if isinstance(given, str | Path | bytes | Image.Image | Mapping | io.IOBase) or not isinstance(given, Iterable):
        return None
    return given


def _is_tensor(given: object) -> bool:
    torch = sys.modules.get("torch")  # without which there are none
    return torch is not None and isinstance(given, torch.Tensor)


def pixels_of(image: Any) -> UInt8[ndarray, "h w 3"]:  # noqa: ANN401 - whatever it is
    """Converts any kind of image to upright RGB; raises UsageError where it is none."""
    if isinstance(image, str | Path | bytes):
        begin = image[:20].decode("ascii", "replace") if isinstance(image, bytes) else str(image)
        if _ADDRESS.match(begin):
            raise UsageError(f"{begin[:60]} is an address: download it, and give the file or its bytes")
        return decode_pixels(image, "the image") if isinstance(image, bytes) else np.asarray(read_image(image))
    if _is_tensor(image):
        from verydeep.nets.checks import pixels_of_tensor

        return pixels_of_tensor(image)
    if isinstance(image, ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
            raise UsageError(f"an array {image.shape} of {image.dtype}: {_REMEDY}")
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise UsageError(f"{type(image).__name__} is not an image: {_REMEDY}")
    return np.asarray(to_rgb(ImageOps.exif_transpose(image), image))
