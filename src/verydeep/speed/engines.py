"""What can compute a net, by precision: verydeep's own kernel, PyTorch, OpenVINO."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor

from verydeep.device import Compute
from verydeep.errors import UsageError, UserError
from verydeep.nets.checks import check_images, check_size
from verydeep.nets.graph import Backend
from verydeep.nets.net import VeryDeep
from verydeep.speed.bfloat16 import TorchBf16
from verydeep.speed.engine import KernelBackend
from verydeep.speed.library import VARIABLE, Kernel, NoKernelError, find_kernel, has_kernel
from verydeep.speed.openvino_net import INSTALL, OpenVinoNet, nncf_version, openvino_version

PRECISIONS = ("fp32", "bf16", "int8", "auto")

Images = Tensor | Iterable[Tensor]
"""Images of one size, n,3,h,w, or batches of them."""


@dataclass(frozen=True)
class Candidate:
    """A way to compute a net.

    Attributes:
        name: what computes, with its version and precision.
        make: prepares it for a net.
        precision: fp32, bf16 or int8.
    """

    name: str
    make: Callable[[VeryDeep], Backend]
    precision: str = "fp32"


def own_kernel(kernel: Kernel) -> Candidate:
    """What computes a net in fp32 by a kernel."""
    return Candidate(f"verydeep's kernel ({kernel.name}), fp32", lambda net: KernelBackend(net, kernel))


def calibration(net: VeryDeep, images: Images) -> list[Tensor]:
    """Checks images that int8 is to be calibrated on, and keeps them.

    Args:
        net: the net.
        images: n,3,h,w, RGB in 0..255, or an iterable of such batches.

    Raises:
        UserError: they are smaller than the crop, not RGB in 0..255, or none.
        UsageError: they are no tensors.
    """
    if isinstance(images, str) or not isinstance(images, Iterable):
        raise UsageError(f"calibrate={images!r}: give images, a tensor n,3,h,w, or an iterable of such batches")
    batches = [images] if isinstance(images, Tensor) else list(images)
    for batch in batches:
        check_images(batch)
        check_size(batch, net.geometry.crop)
    if not sum(len(batch) for batch in batches):
        raise UserError("calibrate: there are no images: give some hundred such as the net will see")
    return [(batch if batch.dtype == torch.uint8 else batch.float()).detach().cpu() for batch in batches]


class _Eager(Backend):
    """The net itself, in evaluation mode, channels last."""

    def __init__(self, net: VeryDeep) -> None:
        net.place(_on_the_processor())
        self._net = net

    def features(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        with self._evaluating():
            return self._net.features(images)

    def head(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k i j"]:
        with self._evaluating():
            return self._net.head(map_)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self._net.training
        self._net.eval()
        try:
            yield
        finally:
            self._net.train(training)


def fp32_backend() -> Candidate:
    """What computes a net in fp32: verydeep's kernel, and PyTorch with a warning where it was not built."""
    try:
        return own_kernel(find_kernel())
    except NoKernelError as error:
        if os.environ.get(VARIABLE) != "none":
            warnings.warn(f"computing with torch instead of verydeep's kernel: {error}", stacklevel=4)
        return Candidate(f"torch, channels last, fp32: {error}", _Eager)


def bf16_backends() -> list[Candidate]:
    """What can compute a net in bf16: PyTorch, and OpenVINO where it is installed."""
    found = [Candidate(f"PyTorch {torch.__version__.partition('+')[0]} bf16, channels last", TorchBf16, "bf16")]
    if number := openvino_version():
        found.append(Candidate(f"OpenVINO {number} bf16", lambda net: OpenVinoNet(net, "bf16"), "bf16"))
    return found


def every_backend() -> list[Candidate]:
    """What can compute a net on this processor, but for int8, which needs images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where there is no kernel its place in the list says so
        found = [fp32_backend()]
    if has_kernel():
        found.append(Candidate("torch, channels last, fp32", _Eager))
    return [*found, *bf16_backends()]


def int8_backend(calibrate: Sequence[Tensor] | None) -> Candidate:
    """What computes a net in int8.

    Args:
        calibrate: batches of images.

    Raises:
        UserError: it is not installed.
        UsageError: there are no images.
    """
    if calibrate is None:
        raise UsageError(
            "int8 needs images to find its scales by: give calibrate=images, some hundred such as the net will "
            "see, n,3,h,w, RGB in 0..255"
        )
    if openvino_version() is None or nncf_version() is None:
        raise UserError(f"int8 needs OpenVINO and NNCF, which are not installed: {INSTALL}")
    name = f"OpenVINO {openvino_version()} int8, quantised by NNCF {nncf_version()}"
    return Candidate(name, lambda net: OpenVinoNet(net, "int8", calibrate), "int8")


def _on_the_processor() -> Compute:
    return Compute(device="cpu", precision="fp32", channels_last=True, threads=torch.get_num_threads())
