"""What a program of this folder is given and what it answers.

``python benchmarks/peers/NAME.py TASK.json ANSWER.json``. The images lie in DATA/train/CLASS and DATA/test/CLASS. Only
the training is timed: neither the imports, nor the warm-up that finds how many updates fit, nor the test.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

Way = TypeVar("Way")

SAFETY = 1.05
"""Seconds of an update while training, beside those of the warm-up."""


@dataclass(frozen=True)
class Task:
    """What to train.

    Attributes:
        data: a folder with train/ and test/.
        seconds: for training.
        seed: of the training.
        cores: to use.
        weights: of the convolutions of vgg16-features, as Keras has them.
        size: side of the images.
    """

    data: str
    seconds: float
    seed: int
    cores: int
    weights: str
    size: int = 224

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @property
    def num_images(self) -> int:
        return sum(1 for _ in Path(self.data, "train").glob("*/*"))

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their indices, the same in all libraries."""
        return sorted(entry.name for entry in Path(self.data, "train").iterdir())

    def test_files(self) -> tuple[list[Path], list[int]]:
        """The test images, with the index of the class of each."""
        files = sorted(Path(self.data, "test").glob("*/*"))
        return files, [self.classes.index(file.parent.name) for file in files]


def begin() -> Task:
    """Reads the task and sets threads and allocator; to be called before a library of nets is imported."""
    from benchmarks.__main__ import set_threads_and_allocator

    task = Task(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    set_threads_and_allocator(task.cores, tuned=True)
    return task


def answer(predicted: Sequence[int], labels: Sequence[int], *, training_seconds: float | None, remark: str) -> None:
    """Writes the number of wrong images and what was done."""
    assert len(predicted) == len(labels) > 0
    wrong = sum(int(one) != int(other) for one, other in zip(predicted, labels, strict=True))
    record = {"wrong": wrong, "num_images": len(labels), "training_seconds": training_seconds, "remark": remark}
    Path(sys.argv[2]).write_text(json.dumps(record), encoding="utf-8")


def fastest(ways: Mapping[str, Way], measure: Callable[[Way], float]) -> str:
    """Name of the way that takes the fewest seconds; a way that the library cannot go is left out."""
    found: dict[str, float] = {}
    for name, way in ways.items():
        try:
            found[name] = measure(way)
        except Exception as error:
            print(f"{name}: left out, {type(error).__name__}: {error}", file=sys.stderr)
        else:
            print(f"{name}: {found[name]:.3f} s", file=sys.stderr, flush=True)
    return min(found, key=found.__getitem__)


def seconds_of(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def has_bf16() -> bool:
    """Whether the CPU multiplies bf16; elsewhere it is emulated and slower."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return "avx512_bf16" in text or "amx_bf16" in text
