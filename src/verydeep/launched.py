"""Who the processes of a job are. A job of many processes is started by torchrun, or by ``train --devices``."""

import os
from dataclasses import dataclass

from verydeep.errors import UserError


@dataclass(frozen=True)
class Processes:
    """The processes that train or test together.

    Attributes:
        rank: number of this one, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Which of ``count`` things are this process's: each belongs to exactly one."""
        return range(self.rank, count, self.size)

    def __str__(self) -> str:
        """Such as ``4 processes``."""
        return f"{self.size} process" + ("es" if self.size != 1 else "")


def launched() -> Processes:
    """What torchrun has told this process, before it joins the others.

    Raises:
        UserError: the environment variables of torchrun are not numbers.
    """
    try:
        return Processes(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    except ValueError as error:
        raise UserError(f"RANK and WORLD_SIZE of the environment are not numbers ({error}): unset them") from error


def local_rank() -> int:
    """Number of this process on its machine: which of its devices it uses."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def num_local_processes() -> int:
    """How many processes of the job run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
