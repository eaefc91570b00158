"""What the golden subjects share: the command line in this process, masks, nets made without our initialisation."""

import json
import os
import re
import runpy
import shutil
import sys
import zlib
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from verydeep import VeryDeep

HERE = Path(__file__).parent
PICTURES, FORMATS, MADE = HERE / "pictures", HERE / "formats", HERE / "made_by_0_1_0"
CLASSES = ("bright", "dark", "grey")

MASK = "*"
_MASKED_KEYS = re.compile(
    r".*seconds.*|.*per_second|num_bytes|time|began|environment|choice|machine|version|sha256|.*memory.*"
)
"""Keys whose values are times, rates, versions, hashes of files or facts of a machine, matched as a whole."""


@dataclass(frozen=True)
class Answer:
    """What a command gave."""

    status: object
    out: str
    err: str

    def complaint(self) -> str:
        """The lines of standard error that begin with the program's name."""
        return "\n".join(line for line in self.err.splitlines() if line.startswith("verydeep: ")) or self.err

    def record(self) -> object:
        """The JSON on standard output, masked."""
        try:
            return masked(json.loads(self.out))
        except json.JSONDecodeError:
            return {"status": self.status, "out": self.out, "err": self.err}


def command(*arguments: object) -> Answer:
    """Runs the command line in this process, as ``python -m verydeep`` does."""
    out, err = StringIO(), StringIO()
    before, sys.argv = sys.argv, ["verydeep", *map(str, arguments)]
    status: object = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            runpy.run_module("verydeep", run_name="__main__")
    except SystemExit as ended:
        status = ended.code
    except Exception as error:
        status = f"raised {type(error).__name__}: {error}"
    finally:
        sys.argv = before
    return Answer(status, shown(out.getvalue()), shown(err.getvalue()))


def shown(text: str) -> str:
    """Leaves the folders of this moment and of the package out of a text."""
    here = Path.cwd()
    for package in _package():
        text = text.replace(package, "PACKAGE")
    return text.replace(f"{here}/", "").replace(str(here), ".").replace(str(here.parent), "..")


@cache
def _package() -> list[str]:
    found = find_spec("verydeep")
    return [] if found is None else [str(Path(place).parent) for place in found.submodule_search_locations or ()]


def masked(value: object) -> object:
    """Puts ``*`` where a value is of a machine or a moment, by its key; the key stays."""
    if isinstance(value, dict):
        return {
            key: MASK if _MASKED_KEYS.fullmatch(key) and inner is not None else masked(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(inner) for inner in value]
    return value


def message(call, *arguments: object, **options: object) -> str:
    """The one line of the error that a Python function raises; ValueError is the contract."""
    try:
        result = call(*arguments, **options)
    except ValueError as error:
        return shown(str(error))
    except Exception as error:
        return f"raised {type(error).__name__}: {shown(str(error))}"
    return f"nothing was raised: {result!r}"


def enter(folder: Path) -> None:
    """Makes a folder the present one, with what the cases read: photos/, pictures/ and the files of 0.1.0."""
    folder.mkdir(parents=True)
    os.chdir(folder)
    shutil.copytree(PICTURES, "pictures")
    for entry in MADE.iterdir():
        (shutil.copytree if entry.is_dir() else shutil.copy)(entry, entry.name)


NETS: dict[str, dict[str, Any]] = {
    "A-bn": {"architecture": "A", "batch_norm": True, "width": 0.1},
    "A-bn-tiny": {"architecture": "A", "batch_norm": True, "width": 0.01},
    "A-bn-narrow": {"architecture": "A", "batch_norm": True, "width": 0.05},
    "A-wide": {"architecture": "A", "width": 0.25},
    "A-LRN": {"architecture": "A-LRN", "width": 0.05},
    "B": {"architecture": "B", "width": 0.05},
    "B-5x5": {"architecture": "B-5x5", "width": 0.05},
    "C": {"architecture": "C", "width": 0.125},
    "D-64": {"architecture": "D", "width": 0.05, "crop": 64},
    "E-bn": {"architecture": "E", "batch_norm": True, "width": 0.05},
}
"""Small nets by name; the crop is 32 where none is given."""


def make_net(name: str, *, classes: tuple[str, ...] = CLASSES) -> "VeryDeep":
    """A net whose weights are drawn by the names of its tensors, from numpy and not by our initialisation."""
    import verydeep

    net = verydeep.VeryDeep(num_classes=len(classes), **{"crop": 32} | NETS[name])
    net.load_state_dict({tensor: _drawn(tensor, like) for tensor, like in net.state_dict().items()})
    net.classes = classes
    return net.eval()


def _drawn(name: str, like: "Tensor") -> "Tensor":
    import numpy as np
    import torch

    random = np.random.default_rng(zlib.crc32(name.encode()))
    shape, (layer, _, part) = tuple(like.shape), name.rpartition(".")
    match part:
        case "mean":
            numbers = np.array([120.0, 112.0, 104.0])
        case "divisor":
            numbers = np.array([60.0, 58.0, 62.0])
        case "num_batches_tracked":
            return torch.tensor(3)
        case "running_var":
            numbers = random.uniform(0.5, 1.5, shape)
        case "weight" if layer.startswith("bn"):
            numbers = random.uniform(0.7, 1.3, shape)
        case "weight":
            numbers = random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        case _:
            numbers = random.normal(0, 0.1, shape)
    return torch.from_numpy(np.asarray(numbers, dtype=np.float32))


def save_net(name: str, file: str, *, classes: tuple[str, ...] = CLASSES) -> str:
    """Writes the model file of a net; gives its name."""
    import verydeep

    verydeep.save(make_net(name, classes=classes), file)
    return file


def statistics_of(model: str) -> dict[str, Any]:
    """Of each tensor of a model file: mean, mean of the absolute values, and the first five numbers."""
    import verydeep

    found = {}
    for name, tensor in verydeep.load(model).state_dict().items():
        numbers = tensor.double().flatten()
        found[name] = {
            "mean": float(numbers.mean()),
            "abs_mean": float(numbers.abs().mean()),
            "first": numbers[:5].tolist(),
        }
    return found
