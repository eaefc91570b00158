"""What computes a net on this machine: rules, not a stop-watch, so that equal commands give equal runs.

The figures beside the rules are images/s, D at 224 unless another is named. With AMX: two cores of a Xeon. Without:
processors of AMD that multiply bf16 in AVX-512, two cores of Zen 4 in inference and one of Zen 5 in training.
``verydeep inspect MODEL --speed`` says what holds on another machine.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from verydeep.device import Compute, check_precision, find_device, has_amx, has_fast_bf16, has_fast_int8
from verydeep.nets.architecture import Geometry
from verydeep.speed.engines import Candidate, bf16_backends, fp32_backend, int8_backend
from verydeep.speed.library import has_kernel
from verydeep.speed.openvino_net import nncf_version, openvino_version

LARGEST_SMALL_CROP = 64
"""Side of the crop up to which bf16 trains faster than the kernel where there is no AMX, pixels."""


def choose_backend(precision: str, calibrate: Sequence[Tensor] | None = None) -> Candidate:
    """Chooses what computes the scores of a net on the processor.

    Args:
        precision: fp32, bf16, int8 or auto.
        calibrate: batches of images for int8.

    Raises:
        UserError: int8 is asked for, and what computes it is not installed.
        UsageError: int8 is asked for without images.
    """
    if precision == "auto":
        precision = fastest_precision(can_calibrate=calibrate is not None)
    if precision == "int8":
        return int8_backend(calibrate)  # the only one there is
    if precision == "bf16":
        if not has_fast_bf16("cpu"):
            warnings.warn("this processor has no bf16 products: fp32 is faster, and exact", stacklevel=3)
        torch_bf16, *openvino = bf16_backends()
        # OpenVINO 70, PyTorch 42 with AMX; 14.7 and 14.0 without; without bf16 at all it would compute in fp32 unasked
        return openvino[0] if openvino and has_fast_bf16("cpu") else torch_bf16
    return fp32_backend()  # the kernel 20.7, OpenVINO 7.4, PyTorch 7.0; with AMX 28.5, 10.1 and 8.2


def fastest_precision(*, can_calibrate: bool = False) -> str:
    """Chooses the precision of ``auto``.

    Args:
        can_calibrate: whether there are images to find the scales of int8 by.
    """
    if can_calibrate and openvino_version() and nncf_version() and has_fast_int8():
        return "int8"  # 131, bf16 70 with AMX; without 32 where the kernel does 23, on one core
    if has_amx():
        return "bf16"  # 70, the kernel 28.5
    if has_fast_bf16("cpu") and not has_kernel():
        return "bf16"  # 14.0, PyTorch in fp32 7.0
    return "fp32"  # the kernel 20.7, bf16 in AVX-512 alone 14.7: Winograd saves more than the shorter numbers


def choose_training(
    geometry: Geometry,
    *,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    micro_batch: int | None = None,
    gradient_checkpointing: bool = False,
) -> Compute:
    """Chooses how a net is trained.

    Args:
        geometry: of the net.
        device: a name, or None for the fastest kind there is.
        precision: fp32 or bf16, or None for the faster.
        threads: of the processor, or None for as many as torch uses now.
        micro_batch: images computed at a time, as given.
        gradient_checkpointing: as given.

    Raises:
        UsageError: an unknown device or precision.
    """
    device = find_device(device)
    check_precision(precision)
    kernel = device == "cpu" and has_kernel()
    if precision is None:
        precision = "bf16" if _bf16_trains_faster(device, geometry.crop, kernel=kernel) else "fp32"
    return Compute(
        device=device,
        precision=precision,
        # 2.25, channels first 2.17; 107 and 100 at 32; tensor cores want it too; PyTorch has nothing for it on mps
        channels_last=device != "mps",
        threads=threads or torch.get_num_threads(),
        micro_batch=micro_batch,
        gradient_checkpointing=gradient_checkpointing,
        kernel=kernel and precision == "fp32",  # it has no other; 5.9, PyTorch 2.3
    )


def _bf16_trains_faster(device: str, crop: int, *, kernel: bool) -> bool:
    if not has_fast_bf16(device):
        return False
    if not kernel:
        return True  # 4.6, PyTorch in fp32 2.3
    if has_amx():
        return True  # 13.7, the kernel 6.6; with batch norm at 32: 232 and 169
    return crop <= LARGEST_SMALL_CROP  # at 32: 168, the kernel 140; at 64: 46 and 44; at 224: 4.6 and 5.4
