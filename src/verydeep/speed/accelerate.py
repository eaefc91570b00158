"""The same net, faster: what computes it is chosen here."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from verydeep import paper
from verydeep.convnets.architecture import Geometry
from verydeep.convnets.net import VeryDeep, check_images, check_size
from verydeep.device import Choice
from verydeep.mistakes import MistakeError, WrongUseError
from verydeep.speed.engine import Engine
from verydeep.speed.library import VARIABLE, Kernel, NoKernelError, find_kernel

PRECISIONS = ("fp32", "auto")


class Accelerated:
    """A net in evaluation mode, computed by verydeep's own kernel: the same calls, the same answers.

    Made by ``accelerate``. It follows the net: weights that were changed since are laid out anew at the next call. It
    gives no gradients. Threads may share it and take turns. A process that has computed with several threads and is
    then forked may not compute with several in the child, as with torch itself: start children by ``spawn``.

    Args:
        net: in float32, on the processor.
        precision: ``fp32``, or ``auto`` for the fastest there is.

    Attributes:
        net: the net.
        engine: what computes, in words.
    """

    def __init__(self, net: VeryDeep, precision: str) -> None:
        self.net = net
        self._lock = threading.Lock()
        self._versions: list[tuple[int, int]] = []
        self._laid_out: Engine | None = None
        self._kernel: Kernel | None = None
        try:
            self._kernel = find_kernel()
            self.engine = f"verydeep's kernel ({self._kernel.name}), {precision.replace('auto', 'fp32')}"
        except NoKernelError as error:
            self.engine = f"torch, channels last, fp32: {error}"
            net.place(_on_the_processor())
            if os.environ.get(VARIABLE) != "none":
                warnings.warn(f"computing with torch instead of verydeep's kernel: {error}", stacklevel=3)
        with self._ready():
            pass

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
            MistakeError: the images are smaller than the crop, or not RGB in 0..255, or the net has convolutions only.

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
            MistakeError: the images are smaller than the crop, or not RGB in 0..255, or the net has convolutions only.

        Paper: section 3.2.
        """
        self.net.require_scores()
        check_size(images, self.geometry.crop)
        with self._ready() as computing:
            return computing.head(computing.features(_checked(images)))

    def features(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Computes the map after the last pooling: one place for 32 pixels.

        Args:
            images: RGB in 0..255, uint8 or floating point, each side at least 32.

        Raises:
            MistakeError: the images are smaller, or not RGB in 0..255.
        """
        check_size(images, paper.TOTAL_STRIDE)
        with self._ready() as computing:
            return computing.features(_checked(images)).clone()

    def head(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k i j"]:
        """Computes the class score map from the map after the last pooling.

        Args:
            map_: of at least fc6's size.

        Raises:
            MistakeError: the net has convolutions only.

        Paper: section 3.2.
        """
        self.net.require_scores()
        with self._ready() as computing:
            return computing.head(map_)

    @contextmanager
    def _ready(self) -> "Iterator[Engine | VeryDeep]":
        # tensors made in inference mode could not be written to outside of it, and the buffers stay
        with self._lock, torch.inference_mode(False), torch.no_grad():
            if self._kernel is None:
                training = self.net.training
                self.net.eval()
                try:
                    yield self.net
                finally:
                    self.net.train(training)
            else:
                yield self._current(self._kernel)

    def _current(self, kernel: Kernel) -> Engine:
        versions = _check_net(self.net)
        if self._laid_out is None or versions != self._versions:
            self._laid_out = None  # the old weights go before the new come
            self._laid_out, self._versions = Engine(self.net, kernel), versions
        return self._laid_out


Computing = VeryDeep | Accelerated
"""A net, or what computes the same faster."""


def fastest(net: VeryDeep) -> Computing:
    """Gives what computes a net fastest where it is: an accelerated net where the kernel can take it, else the net.

    Args:
        net: its convolutions are laid channels last where the kernel takes it.

    Raises:
        WrongUseError: the environment asks for a kernel that there is not.
    """
    try:
        find_kernel()
    except NoKernelError:
        return net
    try:
        _check_net(net)
    except MistakeError:
        return net
    net.place(_on_the_processor())
    return Accelerated(net, "fp32")


def accelerate(net: nn.Module, *, precision: str = "fp32") -> Accelerated:
    """Gives a net that computes the same faster: by verydeep's own kernel, on the processor.

    The 3x3 convolutions take Winograd's F(4x4,3x3), a quarter of the multiplications; bias, ReLU and pooling happen
    while the numbers are at hand; batch norm is folded into the weights. The scores differ from the net's by rounding,
    some millionths of their size. Where no kernel was built the net computes as well as torch can, and a warning says
    so. The environment variable ``VERYDEEP_KERNEL`` names another kernel than the best: avx512, avx2, plain or none.

    Args:
        net: a ``VeryDeep`` in float32, on the processor.
        precision: ``fp32``, or ``auto`` for the fastest there is, which is fp32 today.

    Returns:
        The net in evaluation mode, with ``__call__``, ``score_map``, ``features`` and ``head`` as the net has them.

    Raises:
        MistakeError: the net is on another device or in another precision.
        WrongUseError: not a net of this package, or an unknown precision.
    """
    if not isinstance(net, VeryDeep):
        raise WrongUseError(
            f"{type(net).__name__} is no net of this package: give a VeryDeep, such as verydeep.load gives"
        )
    if precision not in PRECISIONS:
        raise WrongUseError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    _check_net(net)
    return Accelerated(net, precision)


def _on_the_processor() -> Choice:
    return Choice(device="cpu", precision="fp32", channels_last=True, threads=torch.get_num_threads())


def _check_net(net: VeryDeep) -> list[tuple[int, int]]:
    """Checks that the kernel can take a net; gives what changes when a weight does."""
    tensors = [*net.parameters(), *net.buffers()]
    for tensor in tensors:
        if tensor.device.type != "cpu":
            raise MistakeError(f"this net is on {tensor.device.type}: move it with net.cpu() first")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise MistakeError(f"this net is in {str(tensor.dtype).removeprefix('torch.')}: make it net.float() first")
    return [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]


def _checked(images: Tensor) -> Tensor:
    check_images(images)
    if images.device.type != "cpu":
        raise MistakeError(
            f"these images are on {images.device.type}: this net computes on the processor, give images.cpu()"
        )
    return images if images.dtype in (torch.uint8, torch.float32) else images.float()
