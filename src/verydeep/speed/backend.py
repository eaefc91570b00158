"""Who computes a net: what a backend is, and the written rule by which one is chosen on a machine.

The rule looks at machine and net and at no stop-watch, so that equal commands give equal runs. The figures beside it,
and beside that of ``train_net.py``, are images/s, D at 224 unless another is named. With AMX: two cores of a Xeon.
Without: CPUs of AMD that multiply bf16 in AVX-512, two cores of Zen 4 in inference and one of Zen 5 in training.
``verydeep inspect MODEL --speed`` says what holds on another machine. PyTorch is imported where it is to compute.
"""

import os
import typing
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float32, UInt8
from numpy import ndarray

from verydeep.device import Compute, find_device, fp32_choice, has_amx, has_fast_bf16, has_fast_int8
from verydeep.errors import UsageError, UserError
from verydeep.nets.activations import check_layers
from verydeep.nets.architecture import layers
from verydeep.nets.described import DescribedNet
from verydeep.speed.kernel_backend import KernelBackend, kernel_layers
from verydeep.speed.library import VARIABLE, Kernel, NoKernelError, find_kernel, has_kernel
from verydeep.speed.memory import Pixels
from verydeep.speed.openvino_backend import INSTALL, OpenVinoBackend, installed_version, nncf_version, openvino_version


@typing.runtime_checkable
class Backend(typing.Protocol):
    """Computes a net on images, from any thread, with the weights that the net had when the backend was made.

    Attributes:
        crop: side of the net's crops, pixels.
        head_kernel: side of the window of the map after pool5 that a score sees, so that the smallest images with a
            score have 32 times as many pixels; that of fc6, or 1 for a linear head.
        layers: whose maps it gives, from the image to the scores: ``fc8`` are the raw scores, before the soft-max;
            ``pool5`` is the map before fc6; the kernel and PyTorch give inner layers too.
        num_classes: of the scores.
    """

    @property
    def crop(self) -> int:
        """Side of the net's crops, pixels."""

    @property
    def head_kernel(self) -> int:
        """Side of the window of the map after pool5 that a score sees."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Whose maps it gives."""

    @property
    def num_classes(self) -> int:
        """Of the scores."""

    def maps(self, images: UInt8[ndarray, "n h w 3"], layer: str = "fc8") -> Float32[ndarray, "n k i j"]:
        """Computes the maps of a layer, and nothing after it; pool5 and fc8 have one position for 32 pixels.

        Args:
            images: RGB; the backends of this room take float32 in 0..255 too.
            layer: one of ``layers``.
        """

    def head(self, pool5_maps: Float32[ndarray, "n c y x"]) -> Float32[ndarray, "n k i j"]:
        """Computes the class score maps from parts of the maps after pool5, for images that are computed in parts."""


@typing.runtime_checkable
class LayersBackend(Backend, typing.Protocol):
    """A backend that gives the maps of several layers at once: the kernel and PyTorch."""

    def activations(self, images: Pixels, names: Sequence[str]) -> dict[str, Float32[ndarray, "n c y x"]]:
        """Computes the outputs of several layers in one pass, and nothing after the last."""


@dataclass(frozen=True)
class BackendKind:
    """A kind of backend that this machine has.

    Attributes:
        name: what computes, with its version and precision.
        make: makes it for a net.
        precision: fp32, bf16 or int8.
    """

    name: str
    make: Callable[[DescribedNet], Backend]
    precision: str = "fp32"


def make_backend(
    net: DescribedNet, compute: Compute, *, rounds_up: bool = False, layer: str | None = None
) -> "LayersBackend":
    """Returns the fastest backend for a net on a device.

    Rule: the kernel for float32 on the CPU, PyTorch for everything else and for what the kernel never writes: outputs
    of convolutions, batch norms and A-LRN's normalisation.

    Args:
        net: the net.
        compute: device, precision and layout.
        rounds_up: whether the pooling rounds sizes up, as Caffe's does.
        layer: the last layer that will be asked for, of any name; None is the net's last.

    Raises:
        UsageError: the environment asks for a kernel that there is not, or the net has no such layer.
    """
    if layer is not None:
        known = [row.name for row in layers(net.geometry, features_only=net.features_only)]
        check_layers([layer], known, net.geometry)
    given = layer is None or layer in kernel_layers(net)
    is_float32 = compute.device == "cpu" and compute.precision == "fp32" and _is_float32(net)
    if is_float32 and given and not rounds_up and has_kernel():
        return KernelBackend(net, find_kernel(), until=layer)
    from verydeep.speed.torch_backend import TorchBackend

    return TorchBackend(net, compute, rounds_up=rounds_up)


def find_compute(device: str | None, precision: str = "fp32", *, is_here: bool = True) -> Compute:
    """Checks a precision, and where this machine computes the device and what ``auto`` means on it.

    Args:
        device: a name, or None for the fastest there is.
        precision: fp32, bf16, or auto for the faster of the two by a rule over the machine.
        is_here: whether this machine computes, and not the workers of a cluster.

    Raises:
        UsageError: an unknown device or precision.
    """
    if precision not in (known := ("fp32", "bf16", "auto")):
        raise UsageError(f"precision {precision}: choose one of {', '.join(known)}")
    compute = fp32_choice(find_device(device) if is_here else device or "cpu")
    if precision == "auto" and compute.device == "cpu":
        precision = fastest_precision()
    elif precision == "auto":
        is_fast = has_fast_bf16(compute.device) if is_here else compute.device == "cuda"
        precision = "bf16" if is_fast else "fp32"
    return replace(compute, precision=precision)


def make_test_backend(net: DescribedNet, compute: Compute, *, rounds_up: bool = False) -> Backend:
    """Returns what computes the scores of a net that is tested: bf16 on the CPU as ``accelerate`` has it."""
    if compute.device == "cpu" and compute.precision == "bf16" and not rounds_up:
        return choose_backend("bf16").make(net)
    return make_backend(net, compute, rounds_up=rounds_up)


def choose_backend(precision: str, calibrate: Sequence[ndarray] | None = None) -> BackendKind:
    """Chooses what computes the scores of a net on the CPU.

    Args:
        precision: fp32, bf16, int8 or auto.
        calibrate: batches of images for int8, n,h,w,3.

    Raises:
        UserError: int8 is asked for, and what computes it is not installed.
        UsageError: int8 is asked for without images.
    """
    if precision == "auto":
        precision = fastest_precision(can_calibrate=calibrate is not None)
    if precision == "int8":
        return _int8_kind(calibrate)  # the only one there is
    if precision == "bf16":
        if not has_fast_bf16("cpu"):
            warnings.warn("this processor has no bf16 products: fp32 is faster, and exact", stacklevel=3)
        torch_bf16, *openvino = bf16_kinds()
        # OpenVINO 70, PyTorch 42 with AMX; 14.7 and 14.0 without; without bf16 at all it would compute in fp32 unasked
        return openvino[0] if openvino and has_fast_bf16("cpu") else torch_bf16
    return fp32_kind()  # the kernel 20.7, OpenVINO 7.4, PyTorch 7.0; with AMX 28.5, 10.1 and 8.2


def fastest_precision(*, can_calibrate: bool = False) -> str:
    """Chooses the precision of ``auto``; there may be images to find the scales of int8 by."""
    if can_calibrate and openvino_version() and nncf_version() and has_fast_int8():
        return "int8"  # 131, bf16 70 with AMX; without 32 where the kernel does 23, on one core
    if has_amx():
        return "bf16"  # 70, the kernel 28.5
    if has_fast_bf16("cpu") and not has_kernel():
        return "bf16"  # 14.0, PyTorch in fp32 7.0
    return "fp32"  # the kernel 20.7, bf16 in AVX-512 alone 14.7: Winograd saves more than the shorter numbers


def every_kind() -> list[BackendKind]:
    """The kinds of backends for the CPU of this machine, but for int8, which needs images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where there is no kernel its place in the list says so
        kinds = [fp32_kind()]
    if has_kernel():
        kinds.append(BackendKind("torch, channels last, fp32", _torch_fp32))
    return [*kinds, *bf16_kinds()]


def fp32_kind() -> BackendKind:
    """The kernel, and PyTorch with a warning where it was not built."""
    try:
        return _kernel_kind(find_kernel())
    except NoKernelError as error:
        if os.environ.get(VARIABLE) != "none":
            warnings.warn(f"computing with torch instead of verydeep's kernel: {error}", stacklevel=4)
        return BackendKind(f"torch, channels last, fp32: {error}", _torch_fp32)


def bf16_kinds() -> list[BackendKind]:
    """PyTorch, and OpenVINO where it is installed."""
    name = f"PyTorch {installed_version('torch') or 'missing'} bf16, channels last"
    kinds = [BackendKind(name, _torch_bf16, "bf16")]
    if number := openvino_version():
        kinds.append(BackendKind(f"OpenVINO {number} bf16", lambda net: OpenVinoBackend(net, "bf16"), "bf16"))
    return kinds


def _kernel_kind(kernel: Kernel) -> BackendKind:
    return BackendKind(f"verydeep's kernel ({kernel.name}), fp32", lambda net: KernelBackend(net, kernel))


def _torch_fp32(net: DescribedNet) -> Backend:
    from verydeep.speed.torch_backend import TorchBackend

    return TorchBackend(net, fp32_choice("cpu"))


def _torch_bf16(net: DescribedNet) -> Backend:
    from verydeep.speed.torch_backend import TorchBf16Backend

    return TorchBf16Backend(net)


def _int8_kind(calibrate: Sequence[ndarray] | None) -> BackendKind:
    if calibrate is None:
        raise UsageError(
            "int8 needs images to find its scales by: give calibrate=images, some hundred such as the net will "
            "see, n,3,h,w, RGB in 0..255"
        )
    if openvino_version() is None or nncf_version() is None:
        raise UserError(f"int8 needs OpenVINO and NNCF, which are not installed: {INSTALL}")
    name = f"OpenVINO {openvino_version()} int8, quantised by NNCF {nncf_version()}"
    return BackendKind(name, lambda net: OpenVinoBackend(net, "int8", calibrate), "int8")


def _is_float32(net: DescribedNet) -> bool:
    try:
        net.check_float32()
    except UserError:
        return False
    return True
