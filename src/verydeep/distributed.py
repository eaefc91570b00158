"""What the processes of a training tell each other.

In a single process every function here is trivial, so that the code that calls them has no second path.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from verydeep.errors import UsageError, UserError
from verydeep.launched import Processes, launched, local_rank, num_local_processes


def processes() -> Processes:
    """The processes that have joined; a single one unless ``process_group`` is around."""
    if dist.is_available() and dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size())
    return Processes()


@contextmanager
def process_group(device: str) -> Iterator[Processes]:
    """Joins the other processes of the job, if it has any.

    Args:
        device: kind of device they compute on: NCCL serves tensors on a GPU, gloo all others.

    Yields:
        The processes.
    """
    if launched().size == 1 or dist.is_initialized():
        yield processes()
        return
    if device == "cuda":
        torch.cuda.set_device(local_rank())
    _meet("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        yield processes()
        dist.barrier()  # none is gone while another still listens to it
    finally:
        dist.destroy_process_group()


def _meet(backend: str) -> None:
    """Finds the other processes.

    torchrun keeps one store for all its restarts on a machine, and a restarted process would find the addresses of
    those that are gone (pytorch issue 135712): so each attempt has names of its own. On several machines the count of
    the restarts is not common, and the documentation says what to set instead.
    """
    members, attempt = launched(), os.environ.get("TORCHELASTIC_RESTART_COUNT")
    if attempt is None or num_local_processes() != members.size:
        dist.init_process_group(backend)
        return
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # both are public, and their module only forgets to export them
    store = dist.TCPStore(address, port, is_master=False)  # type: ignore[attr-defined]
    names = dist.PrefixStore(f"attempt-{attempt}", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=names, rank=members.rank, world_size=members.size)


def all_reduce_sum(values: Tensor) -> Tensor:
    """Adds up a tensor over the processes, in place."""
    if processes().size > 1:
        dist.all_reduce(values)
    return values


def all_reduce_any(*asked: bool) -> tuple[bool, ...]:
    """Whether any process asks for it, for each of several things."""
    if processes().size == 1:
        return asked
    return tuple(bool(count) for count in all_reduce_sum(torch.tensor([int(one) for one in asked])).tolist())


def broadcast_from_rank0(decide: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Lets the first process decide something and tells all: as JSON, nothing is pickled.

    Args:
        decide: is called in the first process only.

    Raises:
        UserError: in every process, where the first one raised it.
    """
    if processes().size == 1:
        return decide()
    told: dict[str, Any] = {}
    if processes().is_first:
        try:
            told = {"value": decide()}
        except UserError as error:
            told = {"mistake": str(error), "wrong_use": isinstance(error, UsageError)}
    told = _broadcast(told)
    if "mistake" in told:
        dist.barrier()  # the first process must not be gone before all have heard it
        mistake = (UsageError if told["wrong_use"] else UserError)(told["mistake"])
        mistake.is_reported = not processes().is_first
        raise mistake
    value: dict[str, Any] = told["value"]
    return value


def _broadcast(record: dict[str, Any]) -> dict[str, Any]:
    text = torch.tensor(list(json.dumps(record).encode()), dtype=torch.uint8)
    length = torch.tensor([len(text)])
    dist.broadcast(length, 0)
    if not processes().is_first:
        text = torch.empty(int(length.item()), dtype=torch.uint8)
    dist.broadcast(text, 0)
    told: dict[str, Any] = json.loads(bytes(text.tolist()))
    return told
