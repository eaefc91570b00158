"""What is looked at on request, and not at each load: the hash of a model file, and whether every number is finite."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verydeep.download import digest_of
from verydeep.errors import UserError
from verydeep.nets.model_file import Opened, load_file
from verydeep.progress import Progress, ignore_progress


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the bytes of a model file are.

    Attributes:
        file: the file.
        sha256: of its bytes.
        num_bytes: its size.
        num_tensors: tensors it holds, those of a training too.
        not_finite: numbers that are NaN or infinite, by the name of their tensor.
    """

    file: Path
    sha256: str
    num_bytes: int
    num_tensors: int
    not_finite: dict[str, int]

    def as_record(self) -> dict[str, Any]:
        """The findings, for JSON."""
        return vars(self) | {"file": str(self.file)}

    def refuse_not_finite(self) -> None:
        """Ends in one line where a number is not finite.

        Raises:
            UserError: one is not.
        """
        for name, count in self.not_finite.items():
            others = f" and {len(self.not_finite) - 1} more tensors have them" if len(self.not_finite) > 1 else ""
            raise UserError(
                f"{self.file}: tensor {name} has NaN or infinity in {count:,} of its numbers{others}: fetch or train "
                "it again"
            )


def check_model(file: Path, progress: Progress = ignore_progress) -> Checked:
    """Reads a model file through: its net, then every number.

    Args:
        file: a model file.
        progress: told how far it is.

    Raises:
        UserError: it is no model file, or one that cannot be loaded.
    """
    load_file(file)
    opened = Opened(file)
    not_finite = {}
    names = sorted(opened.tensors.keys())
    for done, name in enumerate(names, start=1):
        tensor = opened.tensors.get_tensor(name)
        if tensor.is_floating_point() and (count := tensor.numel() - int(tensor.isfinite().sum())):
            not_finite[name] = count
        progress("checking tensors", done, len(names))
    return Checked(
        file=opened.file,
        sha256=digest_of(opened.file, "sha256", f"hashing {opened.file.name}", progress),
        num_bytes=opened.file.stat().st_size,
        num_tensors=len(names),
        not_finite=not_finite,
    )
