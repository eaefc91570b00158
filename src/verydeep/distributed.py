"""The processes of a job, started by torchrun or by ``train --devices``, and their collectives.

In a single process every function here is trivial, so that calling code has no second path, and imports no torch.

Paper: section 3.3.
"""

import json
import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy import ndarray

from verydeep.errors import UsageError, UserError

if TYPE_CHECKING:
    from torch import Tensor

_T = TypeVar("_T")


@dataclass(frozen=True)
class Processes:
    """Rank of this process, from 0, and number of processes."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Indices below ``count`` that belong to this process; each belongs to exactly one."""
        return range(self.rank, count, self.size)

    def __str__(self) -> str:
        """Such as ``4 processes``."""
        return f"{self.size} process" + ("es" if self.size != 1 else "")


def launched() -> Processes:
    """Rank and size that torchrun has given to this process, before it joins the group."""
    try:
        return Processes(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    except ValueError as error:
        raise UserError(f"RANK and WORLD_SIZE of the environment are not numbers ({error}): unset them") from error


def local_rank() -> int:
    """Number of this process on its machine, from 0: the device it uses."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def num_local_processes() -> int:
    """Number of processes of the job on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def processes() -> Processes:
    """The processes of the group; a single one outside of ``process_group``."""
    dist = sys.modules.get("torch.distributed")  # without which there is no group
    if dist is not None and dist.is_available() and dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size())
    return Processes()


@contextmanager
def process_group(device: str) -> Iterator[Processes]:
    """A context in which the processes of the job form a group: NCCL for tensors on a GPU, gloo for all others."""
    if launched().size == 1:
        yield processes()
        return
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        yield processes()
        return
    if device == "cuda":
        torch.cuda.set_device(local_rank())
    _init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        yield processes()
        dist.barrier()  # no process leaves while another still waits for it
    finally:
        dist.destroy_process_group()


def _init_process_group(backend: str) -> None:
    """Joins the group.

    torchrun keeps one store for all restarts on a machine, and a restarted process would find the addresses of
    processes that have ended (pytorch issue 135712): so each attempt has names of its own. Machines do not share the
    number of restarts, and the documentation says what to set for several of them.
    """
    import torch.distributed as dist

    members, attempt = launched(), os.environ.get("TORCHELASTIC_RESTART_COUNT")
    if attempt is None or num_local_processes() != members.size:
        dist.init_process_group(backend)
        return
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # both are public, and their module only forgets to export them
    store = dist.TCPStore(address, port, is_master=False)  # type: ignore[attr-defined]
    names = dist.PrefixStore(f"attempt-{attempt}", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=names, rank=members.rank, world_size=members.size)


def all_reduce_sum(values: "Tensor") -> "Tensor":
    """Sums a tensor over the processes, in place."""
    if processes().size > 1:
        import torch.distributed as dist

        dist.all_reduce(values)
    return values


def all_reduce_array(values: ndarray) -> None:
    """Sums an array over the processes, in place."""
    if processes().size > 1:
        import torch

        all_reduce_sum(torch.from_numpy(values))


def all_reduce_any(*flags: bool) -> tuple[bool, ...]:
    """Logical OR over the processes, elementwise."""
    if processes().size == 1:
        return flags
    counts = np.array(flags, np.int64)
    all_reduce_array(counts)
    return tuple(bool(count) for count in counts)


def all_gather(parts: dict[int, _T]) -> dict[int, _T]:
    """Unites what the processes have, each under keys of its own; every one receives all."""
    if processes().size == 1:
        return parts
    import torch.distributed as dist

    of_ranks: list[dict[int, _T]] = [{} for _ in range(processes().size)]
    dist.all_gather_object(of_ranks, parts)
    return {key: value for one in of_ranks for key, value in one.items()}


def broadcast_from_rank0(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Calls ``make`` on rank 0 and broadcasts its result as JSON; a UserError of rank 0 is raised on every rank."""
    if processes().size == 1:
        return make()
    message: dict[str, Any] = {}
    if processes().is_first:
        try:
            message = {"value": make()}
        except UserError as error:
            message = {"error": str(error), "is_usage": isinstance(error, UsageError)}
    message = _broadcast(message)
    if "error" in message:
        wait_for_all()  # rank 0 must not end before all have received it
        failure = (UsageError if message["is_usage"] else UserError)(message["error"])
        failure.is_reported = not processes().is_first
        raise failure
    value: dict[str, Any] = message["value"]
    return value


def wait_for_all() -> None:
    """Waits until every process has come here."""
    if processes().size > 1:
        import torch.distributed as dist

        dist.barrier()


def _broadcast(record: dict[str, Any]) -> dict[str, Any]:
    import torch
    import torch.distributed as dist

    text = torch.tensor(list(json.dumps(record).encode()), dtype=torch.uint8)
    length = torch.tensor([len(text)])
    dist.broadcast(length, 0)
    if not processes().is_first:
        text = torch.empty(int(length.item()), dtype=torch.uint8)
    dist.broadcast(text, 0)
    received: dict[str, Any] = json.loads(bytes(text.tolist()))
    return received


def launch(num_processes: int, arguments: Sequence[str], device: str) -> int:
    """Runs this command in several processes and returns the exit status; when one process fails, all end."""
    from torch.distributed.elastic.multiprocessing.api import SignalException  # slow to import
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if num_processes < 1:
        raise UsageError(f"--devices {num_processes}: give 1 or more")
    if device == "cuda":
        import torch

        if num_processes > torch.cuda.device_count():
            raise UsageError(f"--devices {num_processes}: this machine has {torch.cuda.device_count()} GPUs")
    else:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // num_processes)))
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they would print tracebacks of their own
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.2,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "verydeep", *_without_devices(arguments))
    except ChildFailedError as error:
        status = max(failure.exitcode for failure in error.failures.values())
        return status if status > 0 else 1
    except SignalException:
        return 1
    return 0


def _without_devices(arguments: Sequence[str]) -> list[str]:
    given, kept = iter(arguments), []
    for argument in given:
        if argument == "--devices":
            next(given)
        elif not argument.startswith("--devices="):
            kept.append(argument)
    return kept
