"""Several processes of this command on one machine, as ``torchrun`` starts them.

Paper: section 3.3.
"""

import logging
import os
import sys
import uuid
from collections.abc import Sequence

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from verydeep.errors import UsageError


def launch(num_processes: int, arguments: Sequence[str], device: str) -> int:
    """Runs this command once per device and returns the exit status; when one process fails, all end.

    Raises:
        UsageError: fewer GPUs, or fewer than one process.
    """
    if num_processes < 1:
        raise UsageError(f"--devices {num_processes}: give 1 or more")
    if device == "cuda":
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
