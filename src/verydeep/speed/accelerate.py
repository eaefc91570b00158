"""The same net, faster: what computes it is chosen here."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from verydeep.errors import UsageError, UserError
from verydeep.nets.architecture import Geometry
from verydeep.nets.checks import check_images, check_size
from verydeep.nets.graph import Backend
from verydeep.nets.net import VeryDeep
from verydeep.paper import constants
from verydeep.speed.choosing import choose_backend
from verydeep.speed.engines import PRECISIONS, Candidate, Images, calibration, own_kernel
from verydeep.speed.library import NoKernelError, find_kernel


class Accelerated:
    """A net in evaluation mode, computed faster: the same calls, the same answers.

    Made by ``accelerate``. It is a snapshot of the net: it does not follow changes of the weights or of the number of
    threads. It gives no gradients. Threads may share it and take turns. A process that has computed with several and is
    then forked may not compute with several in the child, as with torch itself: start children by ``spawn``.

    Args:
        net: in float32, on the processor.
        candidate: what computes.

    Raises:
        UserError: the net is elsewhere or in another precision; or, at a call, its weights were changed since.

    Attributes:
        net: the net.
        engine: what computes, in words, such as ``verydeep's kernel (avx512), fp32`` or ``OpenVINO 2026.4.1 bf16``.
        precision: fp32, bf16 or int8.
    """

    def __init__(self, net: VeryDeep, candidate: Candidate) -> None:
        self.net, self.engine, self.precision = net, candidate.name, candidate.precision
        self._lock = threading.Lock()
        _check_net(net)
        with _computing_plainly():
            self._computes = candidate.make(net)
        # the last layers are not copied: after a training the old convolutions would meet new ones
        self._last = list(net.parameters())[-1].detach()
        self._version = _version(self._last)

    @property
    def geometry(self) -> Geometry:
        """What fixes the shapes."""
        return self.net.geometry

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of the scores, where known."""
        return self.net.classes

    @property
    def mirror(self) -> bool:
        """Whether a mirrored image still shows its class."""
        return self.net.mirror

    @property
    def train_scale(self) -> tuple[int, int]:
        """Smallest and largest training scale S, pixels."""
        return self.net.train_scale

    def __repr__(self) -> str:
        """Such as ``Accelerated(D (VGG-16), verydeep's kernel (avx2), fp32)``."""
        return f"Accelerated({self.geometry.title}, {self.engine})"

    def __call__(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """The same as ``forward``."""
        return self.forward(images)

    def forward(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Computes the scores: the mean of the class score map over its places.

        Args:
            images: RGB in 0..255, uint8 or floating point, each side at least the crop.

        Returns:
            Scores before the soft-max.

        Raises:
            UserError: the images are smaller than the crop, or not RGB in 0..255, or the net has convolutions only.

        Paper: section 3.2.
        """
        return self.score_map(images).mean((2, 3))

    def score_map(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n k i j"]:
        """Computes the class score map: the net applied densely to whole images.

        Args:
            images: RGB in 0..255, uint8 or floating point, each side at least the crop.

        Returns:
            Scores before the soft-max, one place for 32 pixels: 1x1 for a crop.

        Raises:
            UserError: the images are smaller than the crop, or not RGB in 0..255, or the net has convolutions only.

        Paper: section 3.2.
        """
        self.net.require_scores()
        check_size(images, self.geometry.crop)
        with self._ready() as computing:
            return computing.score_map(_checked(images))

    def features(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Computes the map after the last pooling: one place for 32 pixels.

        Args:
            images: RGB in 0..255, uint8 or floating point, each side at least 32.

        Raises:
            UserError: the images are smaller, or not RGB in 0..255.
        """
        check_size(images, constants.TOTAL_STRIDE)
        with self._ready() as computing:
            return computing.features(_checked(images)).clone()

    def head(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k i j"]:
        """Computes the class score map from the map after the last pooling.

        Args:
            map_: of at least fc6's size, on the processor.

        Raises:
            UserError: the map is smaller, has other channels or is elsewhere, or the net has convolutions only.

        Paper: section 3.2.
        """
        self.net.require_scores()
        self.net.check_map(map_)
        _check_on_processor("this map is", map_)
        with self._ready() as computing:
            return computing.head(map_.detach().float())

    @contextmanager
    def _ready(self) -> Iterator[Backend]:
        with self._lock, _computing_plainly():
            if _version(self._last) != self._version:
                raise UserError("the weights of this net were changed after it was accelerated: accelerate it again")
            yield self._computes


@contextmanager
def _computing_plainly() -> Iterator[None]:
    # tensors made in inference mode could not be written to outside of it, and the buffers stay
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        yield


Computing = VeryDeep | Accelerated
"""A net, or what computes the same faster."""


def fastest(net: VeryDeep) -> Computing:
    """Gives what computes a net fastest where it is: an accelerated net where the kernel can take it, else the net.

    Args:
        net: the net.

    Raises:
        UsageError: the environment asks for a kernel that there is not.
    """
    try:
        kernel = find_kernel()
    except NoKernelError:
        return net
    try:
        _check_net(net)
    except UserError:
        return net
    return Accelerated(net, own_kernel(kernel))


def accelerate(net: nn.Module, *, precision: str = "fp32", calibrate: Images | None = None) -> Accelerated:
    """Gives a net that computes the same faster, on the processor.

    ``fp32`` is verydeep's own kernel: the 3x3 convolutions take Winograd's F(4x4,3x3), a quarter of the
    multiplications; bias, ReLU and pooling happen while the numbers are at hand; batch norm is folded into the weights.
    The scores differ from the net's by rounding, some millionths of their size. Where no kernel was built the net
    computes as well as torch can, and a warning says so. The environment variable ``VERYDEEP_KERNEL`` names another
    kernel than the best: avx512, avx2, plain or none.

    The lower precisions are computed by libraries. ``bf16`` is OpenVINO where it is installed, else PyTorch; the scores
    differ by up to a hundredth of their size. It is fast where the processor multiplies bfloat16, and a warning says
    where it does not. ``int8`` is OpenVINO, with scales that NNCF finds from images; some top-1 classes differ, so
    measure what it costs. ``auto`` is the fastest by a written rule (``speed/choosing.py``): ``int8`` where images to
    calibrate on are given, ``bf16`` where the processor multiplies it in tiles (AMX), else ``fp32``.

    Args:
        net: a ``VeryDeep`` in float32, on the processor.
        precision: fp32, bf16, int8 or auto.
        calibrate: for int8, images such as the net will see, some hundred, without labels: n,3,h,w, RGB in 0..255, or
            an iterable of such batches.

    Returns:
        A snapshot of the net in evaluation mode, with ``__call__``, ``score_map``, ``features`` and ``head`` as the net
        has them; its ``engine`` says what computes. It does not follow the net: accelerate that again when its weights
        have changed. The memory of the fully connected layers is shared, so the old one cannot be used then, and says
        so where they were trained or loaded anew.

    Raises:
        UserError: the net is on another device or in another precision; what int8 needs is not installed; or the
            images cannot be.
        UsageError: not a net of this package, an unknown precision, or int8 without images.
    """
    if not isinstance(net, VeryDeep):
        raise UsageError(
            f"{type(net).__name__} is no net of this package: give a VeryDeep, such as verydeep.load gives"
        )
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    _check_net(net)
    images = None if calibrate is None else calibration(net, calibrate)
    return Accelerated(net, choose_backend(precision, images))


def _check_net(net: VeryDeep) -> None:
    """Checks that a net is in float32, on the processor."""
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.device.type != "cpu":
            raise UserError(f"this net is on {tensor.device.type}: move it with net.cpu() first")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise UserError(f"this net is in {str(tensor.dtype).removeprefix('torch.')}: make it net.float() first")


def _version(tensor: Tensor) -> int:
    try:
        return tensor._version
    except RuntimeError:  # what was made in inference mode counts no changes, and does not always say that it was
        return 0


def _checked(images: Tensor) -> Tensor:
    check_images(images)
    _check_on_processor("these images are", images)
    return images.detach() if images.dtype in (torch.uint8, torch.float32) else images.detach().float()


def _check_on_processor(what: str, tensor: Tensor) -> None:
    if tensor.device.type != "cpu":
        raise UserError(f"{what} on {tensor.device.type}: this net computes on the processor, give .cpu()")
