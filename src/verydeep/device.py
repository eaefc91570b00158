"""Device, precision, memory layout and threads that a net is computed with.

Torch is imported where it is asked of a GPU, and not for the CPU.
"""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from verydeep import machine
from verydeep.errors import UsageError
from verydeep.machine import cpu_features, free_memory

if TYPE_CHECKING:
    from torch import Tensor

PRECISIONS = ("fp32", "bf16")
DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Device, precision and memory layout of a run: chosen once, and stored in it.

    Attributes:
        device: cpu, cuda or mps.
        precision: of matrix multiplications and convolutions: fp32 or bf16; weights stay float32.
        channels_last: memory layout of weights and activations.
        threads: number of CPU threads.
        micro_batch: images per forward pass, where the gradients of a batch are accumulated; else None.
        gradient_checkpointing: whether the backward pass computes activations again instead of keeping them.
        kernel: whether verydeep's kernel computes the 3x3 convolutions, forward and backward.
    """

    device: str
    precision: str
    channels_last: bool
    threads: int
    micro_batch: int | None = None
    gradient_checkpointing: bool = False
    kernel: bool = False

    def move(self, *tensors: "Tensor") -> "list[Tensor]":
        """Moves tensors to the device."""
        return [tensor.to(self.device, non_blocking=True) for tensor in tensors]

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which PyTorch computes in the precision."""
        import torch

        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    @contextmanager
    def thread_count(self) -> Iterator[None]:
        """A context with this number of threads: with another, sums are rounded in another order."""
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def __str__(self) -> str:
        """Such as ``cpu, bf16, channels last, 2 threads``."""
        layout = "channels last" if self.channels_last else "channels first"
        threads = f", {self.threads} thread" + ("s" if self.threads != 1 else "") if self.device == "cpu" else ""
        parts = f", {self.micro_batch} images at a time" if self.micro_batch else ""
        again = ", gradient checkpointing" if self.gradient_checkpointing else ""
        by = ", verydeep's kernel" if self.kernel else ""
        return f"{self.device}, {self.precision}, {layout}{by}{threads}{parts}{again}"

    def as_record(self) -> dict[str, object]:
        """The fields, for JSON."""
        return asdict(self)


def find_device(name: str | None = None) -> str:
    """Checks that this machine has a device; without a name, returns the fastest kind it has."""
    if name is not None and name not in DEVICES:
        raise UsageError(f"unknown device {name!r}: choose one of {', '.join(DEVICES)}")
    if name == "cpu" or (name is None and not _may_have_gpu()):
        return "cpu"
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name is None:
        return next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available[name]:
        raise UsageError(f"this machine has no {name} device that PyTorch can use: choose cpu")
    return name


def _may_have_gpu() -> bool:
    """Whether torch is to be asked for a GPU, which takes a second: on Linux only where a driver is."""
    drivers = ("nvidiactl", "nvmap", "dxg", "kfd")  # Nvidia's, for Jetson, in Windows, AMD's
    if sys.platform == "linux" and not any(Path("/dev", driver).exists() for driver in drivers):
        return False
    return find_spec("torch") is not None


def num_threads() -> int:
    """Number of threads of the CPU: torch's where torch is loaded, for somebody may have set it, else the machine's."""
    torch = sys.modules.get("torch")
    return machine.num_threads() if torch is None else int(torch.get_num_threads())


def fp32_choice(device: str) -> Compute:
    """How nets are tested on a device: in float32."""
    return Compute(device=device, precision="fp32", channels_last=True, threads=num_threads())


def check_precision(name: str | None) -> None:
    """Checks the name of a precision; None is allowed."""
    if name is not None and name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}: choose one of {', '.join(PRECISIONS)}")


def has_fast_bf16(device: str) -> bool:
    """Whether the device multiplies bf16 in hardware."""
    if device == "cuda":
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and not cpu_features().isdisjoint(("amx_bf16", "avx512_bf16", "bf16"))


def has_amx() -> bool:
    """Whether the CPU multiplies bf16 matrices in tiles, several times as fast as by vectors."""
    return "amx_bf16" in cpu_features()


def has_fast_int8() -> bool:
    """Whether the CPU multiplies int8 in hardware."""
    return not cpu_features().isdisjoint(("amx_int8", "avx512_vnni", "avx_vnni"))


def free_bytes(device: str) -> int:
    """Bytes of free memory on a device."""
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()  # what torch holds and does not use is free too
        free: int = torch.cuda.mem_get_info()[0]
        return free
    return free_memory()


def synchronise(device: str) -> None:
    """Waits for the work queued on a device; the CPU queues none."""
    if device != "cpu":
        import torch

        (torch.cuda if device == "cuda" else torch.mps).synchronize()
