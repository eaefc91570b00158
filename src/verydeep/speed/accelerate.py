"""The same net, faster: a backend with the calls of a net."""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float, Num
from numpy import ndarray
from torch import Tensor, nn

from verydeep.errors import UsageError, UserError
from verydeep.nets.activations import check_layers, check_reaches
from verydeep.nets.architecture import Geometry
from verydeep.nets.checks import check_images, check_size
from verydeep.nets.net import VeryDeep
from verydeep.nets.plain_weights import unwrapped
from verydeep.paper import constants
from verydeep.speed.backend import Backend, BackendKind, choose_backend
from verydeep.speed.kernel_backend import KernelBackend
from verydeep.speed.memory import Pixels
from verydeep.speed.tiling import pool5_map, score_map
from verydeep.speed.torch_backend import evaluated, ordinary_tensors

PRECISIONS = ("fp32", "bf16", "int8", "auto")

Images = Tensor | Iterable[Tensor]
"""Images of one size, n,3,h,w, or batches of them."""


class Accelerated:
    """A net in evaluation mode, computed faster: the same calls, the same answers.

    Made by ``accelerate``. It is a snapshot of the net: it does not follow changes of the weights or of the number of
    threads. It gives no gradients. Threads may share it. In a process forked from one that has computed with several
    threads the kernel computes with one, and torch may not compute with several: start children by ``spawn``.

    Args:
        net: in float32, on the CPU.
        kind: of backend.

    Raises:
        UserError: the net is elsewhere or in another precision; or, at a call, its weights were changed since.

    Attributes:
        net: the net.
        backend: computes arrays of pixels, n,h,w,3.
        engine: what computes, in words, such as ``verydeep's kernel (avx512), fp32`` or ``OpenVINO 2026.4.1 bf16``.
        precision: fp32, bf16 or int8.
    """

    def __init__(self, net: VeryDeep, kind: BackendKind) -> None:
        net.check_float32()
        _refuse_hooks(net)
        self.net, self.engine, self.precision = net, kind.name, kind.precision
        with ordinary_tensors():
            self.backend = kind.make(net)

    def __reduce__(self) -> tuple[Callable[..., "Accelerated"], tuple[VeryDeep, str]]:
        """Pickles and copies the net, and makes a backend of it anew where it arrives."""
        if self.precision == "int8":
            raise UserError("an int8 net has scales of images that are not kept: pickle its net, and accelerate that")
        return _again, (self.net, self.precision)

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
        """Computes the scores, before the soft-max: the mean of the class score map over its positions.

        Paper: section 3.2.
        """
        return self.score_map(images).mean((2, 3))

    def score_map(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n k i j"]:
        """Computes the class score map: the net applied densely to whole images, large ones in parts.

        Args:
            images: RGB in 0..255, uint8 or floating point, each side at least the crop, or 32 for a linear head.

        Returns:
            Scores before the soft-max, one position for 32 pixels: 1x1 for a crop, but for a linear head.

        Raises:
            UserError: the images are smaller than the crop, or not RGB in 0..255, or the net has convolutions only.

        Paper: section 3.2.
        """
        self.net.require_scores()
        check_size(images, self.geometry.smallest_side)
        return self._maps(images, "fc8", score_map)

    def features(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Computes the map after the last pooling: one position for 32 pixels.

        Args:
            images: RGB in 0..255, uint8 or floating point, each side at least 32.

        Raises:
            UserError: the images are smaller, or not RGB in 0..255.
        """
        check_size(images, constants.TOTAL_STRIDE)
        return self._maps(images, "pool5", pool5_map)

    def activations(self, images: Num[Tensor, "n 3 h w"], names: Sequence[str]) -> dict[str, Tensor]:
        """Computes the outputs of named layers, and no layer after the last of them; they take no gradients.

        In fp32 those that the kernel never writes, before a ReLU, are computed by PyTorch.

        Args:
            images: RGB in 0..255, uint8 or floating point, of any size that leaves the layers a position.
            names: such as ``relu3_3``, ``pool5``, ``fc7`` (before its ReLU) or ``relu7`` (after it).

        Returns:
            The outputs, n,c,y,x, by name.

        Raises:
            UserError: the images are too small for a layer, not on the CPU or not RGB in 0..255.
            UsageError: the net, or in a lower precision its backend, has no layer of this name.
        """
        check_images(images)
        _check_on_cpu("these images are", images)
        known = self.backend.layers if self.precision != "fp32" else [name for name, _ in self.net.named_children()]
        check_layers(names, known, self.geometry)
        check_reaches(images.shape[2:], self.geometry, names)
        if isinstance(self.backend, KernelBackend) and set(names) <= set(self.backend.layers):
            with ordinary_tensors():
                found = self.backend.activations(_pixels(images), names)
                return {name: torch.from_numpy(map_) for name, map_ in found.items()}
        if self.precision == "fp32":
            return self._by_torch(images, names)
        return {name: self._maps(images, name) for name in names}

    def _by_torch(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        with ordinary_tensors():
            return evaluated(self.net).activations(images.detach(), names)

    def head(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k i j"]:
        """Computes the class score map from the map after the last pooling.

        Args:
            map_: of at least fc6's size, on the CPU.

        Raises:
            UserError: the map is smaller, has other channels or is elsewhere, or the net has convolutions only.

        Paper: section 3.2.
        """
        self.net.require_scores()
        self.net.check_map(map_)
        _check_on_cpu("this map is", map_)
        with ordinary_tensors():
            return torch.from_numpy(self.backend.head(map_.detach().float().numpy()))

    def _maps(self, images: Tensor, layer: str, in_parts: Callable[[Backend, Pixels], ndarray] | None = None) -> Tensor:
        _refuse_hooks(self.net)
        check_images(images)
        _check_on_cpu("these images are", images)
        with ordinary_tensors():
            pixels = _pixels(images)
            maps = in_parts(self.backend, pixels) if in_parts and len(pixels) else self.backend.maps(pixels, layer)
            return torch.from_numpy(maps)


def _pixels(images: Num[Tensor, "n 3 h w"]) -> Pixels:
    """The images as an array n,h,w,3, of uint8 or float32."""
    taken = images.detach() if images.dtype == torch.uint8 else images.detach().float()
    pixels: ndarray = taken.permute(0, 2, 3, 1).numpy()
    return pixels


def _again(net: VeryDeep, precision: str) -> Accelerated:
    return accelerate(net, precision=precision)


def _refuse_hooks(net: VeryDeep) -> None:
    """Raises UserError where a layer has a hook that a backend would never call."""
    for name, module in net.named_modules():
        if module._forward_hooks or module._backward_hooks:
            raise UserError(
                f"{name or 'this net'} has a hook, which an accelerated net never calls: say activations(images, "
                "names), or give the net itself"
            )


def accelerate(net: nn.Module, *, precision: str = "fp32", calibrate: Images | None = None) -> Accelerated:
    """Gives a net that computes the same faster, on the CPU.

    ``fp32`` is verydeep's own kernel: the 3x3 convolutions take Winograd's F(4x4,3x3), a quarter of the
    multiplications; bias, ReLU and pooling happen while the numbers are at hand; batch norm is folded into the weights.
    The scores differ from the net's by rounding, some millionths of their size. Where no kernel was built the net
    computes as well as torch can, and a warning says so. The environment variable ``VERYDEEP_KERNEL`` names another
    kernel than the best: avx512, avx2, plain or none.

    The lower precisions are computed by libraries. ``bf16`` is OpenVINO where it is installed, else PyTorch; the scores
    differ by up to a hundredth of their size. It is fast where the CPU multiplies bfloat16, and a warning says where it
    does not. ``int8`` is OpenVINO, with scales that NNCF finds from images; some top-1 classes differ, so measure what
    it costs. ``auto`` is the fastest by a written rule (``speed/backend.py``): ``int8`` where images to calibrate on
    are given, ``bf16`` where the CPU multiplies it in tiles (AMX), else ``fp32``.

    Args:
        net: a ``VeryDeep`` in float32, on the CPU.
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
    net = unwrapped(net)
    if net.input_range != "pixels":
        raise UsageError(
            f"this net's input range is {net.input_range}: accelerate takes RGB in 0..255, say "
            "net.set_input_range('pixels') first"
        )
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    net.check_float32()
    images = None if calibrate is None else _checked_batches(net, calibrate)
    return Accelerated(net, choose_backend(precision, images))


def _checked_batches(net: VeryDeep, images: Images) -> list[ndarray]:
    if isinstance(images, str) or not isinstance(images, Iterable):
        raise UsageError(f"calibrate={images!r}: give images, a tensor n,3,h,w, or an iterable of such batches")
    batches = [images] if isinstance(images, Tensor) else list(images)
    for batch in batches:
        check_images(batch)
        check_size(batch, net.geometry.smallest_side)
    if not sum(len(batch) for batch in batches):
        raise UserError("calibrate: there are no images: give some hundred such as the net will see")
    return [_pixels(batch.cpu()) for batch in batches]


def _check_on_cpu(what: str, tensor: Tensor) -> None:
    if tensor.device.type != "cpu":
        raise UserError(f"{what} on {tensor.device.type}: this net computes on the processor, give .cpu()")
