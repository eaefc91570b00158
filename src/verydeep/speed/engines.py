"""What can compute a net, by precision: verydeep's own kernel, PyTorch, OpenVINO."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Num
from torch import Tensor

from verydeep.device import Compute, has_fast_bf16
from verydeep.errors import UsageError, UserError
from verydeep.nets.checks import check_images, check_size
from verydeep.nets.graph import Backend
from verydeep.nets.net import VeryDeep
from verydeep.speed.bfloat16 import TorchBf16
from verydeep.speed.choosing import Candidate
from verydeep.speed.engine import KernelBackend
from verydeep.speed.library import VARIABLE, Kernel, NoKernelError, find_kernel
from verydeep.speed.openvino_net import INSTALL, OpenVinoNet, nncf_version, openvino_version

PRECISIONS = ("fp32", "bf16", "int8", "auto")

Images = Tensor | Iterable[Tensor]
"""Images of one size, n,3,h,w, or batches of them."""


def candidates(precision: str, calibrate: Sequence[Tensor] | None = None) -> list[Candidate]:
    """Lists what can compute a net here in a precision.

    Args:
        precision: one of ``PRECISIONS``.
        calibrate: batches of images for int8.

    Raises:
        UserError: int8 is asked for, and what computes it is not installed.
        UsageError: int8 is asked for without images.
    """
    match precision:
        case "fp32":
            return [_fp32()]
        case "bf16":
            if not has_fast_bf16("cpu"):
                warnings.warn("this processor has no bf16 products: fp32 is faster, and exact", stacklevel=3)
            return _bf16()
        case "int8":
            if calibrate is None:
                raise UsageError(
                    "int8 needs images to find its scales by: give calibrate=images, some hundred such as the net will "
                    "see, n,3,h,w, RGB in 0..255"
                )
            if openvino_version() is None or nncf_version() is None:
                raise UserError(f"int8 needs OpenVINO and NNCF, which are not installed: {INSTALL}")
            return [_int8(calibrate)]
    found = [_fp32()]
    if has_fast_bf16("cpu"):
        found += _bf16()
    if calibrate is not None and openvino_version() and nncf_version():
        found.append(_int8(calibrate))
    return found


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


def _fp32() -> Candidate:
    try:
        return own_kernel(find_kernel())
    except NoKernelError as error:
        if os.environ.get(VARIABLE) != "none":
            warnings.warn(f"computing with torch instead of verydeep's kernel: {error}", stacklevel=4)
        return Candidate(f"torch, channels last, fp32: {error}", _Eager)


def _bf16() -> list[Candidate]:
    found = [Candidate(f"PyTorch {torch.__version__.partition('+')[0]} bf16, channels last", TorchBf16, "bf16")]
    if number := openvino_version():
        found.append(Candidate(f"OpenVINO {number} bf16", lambda net: OpenVinoNet(net, "bf16"), "bf16"))
    return found


def _int8(calibrate: Sequence[Tensor]) -> Candidate:
    name = f"OpenVINO {openvino_version()} int8, quantised by NNCF {nncf_version()}"
    return Candidate(name, lambda net: OpenVinoNet(net, "int8", calibrate), "int8")


def _on_the_processor() -> Compute:
    return Compute(device="cpu", precision="fp32", channels_last=True, threads=torch.get_num_threads())
