"""The one file that knows devices, precisions and memory layouts."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from verydeep.errors import UsageError
from verydeep.machine import free_memory

PRECISIONS = ("fp32", "bf16")
DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How a net is computed, decided once for a run and stored in it.

    Attributes:
        device: cpu, cuda or mps.
        precision: of the products: fp32 or bf16; weights stay float32.
        channels_last: memory layout of weights and activations.
        threads: threads of the processor.
        micro_batch: images computed at a time, where a batch is computed in parts whose gradients add up; else None.
        gradient_checkpointing: compute the activations of a block again in the backward pass, instead of keeping them.
        kernel: verydeep's own kernel computes the 3x3 convolutions, forward and backward.
    """

    device: str
    precision: str
    channels_last: bool
    threads: int
    micro_batch: int | None = None
    gradient_checkpointing: bool = False
    kernel: bool = False

    def move(self, *tensors: Tensor) -> list[Tensor]:
        """Moves tensors to the device."""
        return [tensor.to(self.device, non_blocking=True) for tensor in tensors]

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which the products are computed in the precision chosen."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    @contextmanager
    def thread_count(self) -> Iterator[None]:
        """A context with as many threads as chosen: another number would add up in another order."""
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
    """Checks the name of a device, or finds the fastest kind there is.

    Raises:
        UsageError: an unknown name, or a device this machine has not.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name is None:
        return next(device for device in ("cuda", "mps", "cpu") if available[device])
    if name not in available:
        raise UsageError(f"unknown device {name!r}: choose one of {', '.join(DEVICES)}")
    if not available[name]:
        raise UsageError(f"this machine has no {name} device that PyTorch can use: choose cpu")
    return name


def check_precision(name: str | None) -> None:
    """Checks the name of a precision; None leaves it open.

    Raises:
        UsageError: an unknown name.
    """
    if name is not None and name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}: choose one of {', '.join(PRECISIONS)}")


def has_fast_bf16(device: str) -> bool:
    """Whether the device computes bf16 products in hardware."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "mps":
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") or capabilities.get("bf16"))


def free_bytes(device: str) -> int:
    """Bytes of memory that are free on a device."""
    if device == "cuda":
        torch.cuda.empty_cache()  # what torch holds and does not use is free too
        free: int = torch.cuda.mem_get_info()[0]
        return free
    return free_memory()


def choose(
    make_step: Callable[[Compute], Callable[[], object]],
    *,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    micro_batch: int | None = None,
    gradient_checkpointing: bool = False,
    kernel: bool = False,
) -> tuple[Compute, dict[str, float]]:
    """Chooses precision, layout and what computes by measuring a step with each.

    Args:
        make_step: prepares a step for a choice; the step is timed.
        device: a name, or None for the fastest kind there is.
        precision: fp32 or bf16, or None to choose the faster.
        threads: of the processor, or None for as many as torch uses now.
        micro_batch: images computed at a time, as given.
        gradient_checkpointing: as given.
        kernel: whether there is a kernel to be tried too; it computes in float32 on the processor.

    Returns:
        The fastest choice, and the seconds of a step with each that was tried.

    Raises:
        UsageError: an unknown device or precision.
    """
    device = find_device(device)
    check_precision(precision)
    precisions = [precision] if precision else ["fp32", "bf16"] if has_fast_bf16(device) else ["fp32"]
    candidates = [
        Compute(
            device=device,
            precision=name,
            channels_last=last,
            threads=threads or torch.get_num_threads(),
            micro_batch=micro_batch,
            gradient_checkpointing=gradient_checkpointing,
            kernel=own,
        )
        for name in precisions
        for last, own in ((True, True), (True, False), (False, False))
        if not own or (kernel and device == "cpu" and name == "fp32")
    ]
    if device != "cpu" and precision is None:
        candidates = [choice for choice in candidates if choice.precision == precisions[-1]]
    seconds = {}
    for choice in candidates:
        step = make_step(choice)
        with choice.thread_count():
            step()
            seconds[choice] = min(_timed(step, device) for _ in range(2))
    best = min(candidates, key=lambda choice: seconds[choice])
    return best, {str(choice): taken for choice, taken in seconds.items()}


def synchronise(device: str) -> None:
    """Waits for the work that was given to a device; the processor's is done when the call returns."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def _timed(step: Callable[[], object], device: str) -> float:
    synchronise(device)  # or the step before would be timed too
    start = time.perf_counter()
    step()
    synchronise(device)
    return time.perf_counter() - start
