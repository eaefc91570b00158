"""What is measured: contenders that do the same work, and the figures of each."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from verydeep.errors import UsageError
from verydeep.machine import environment
from verydeep.paper.constants import TOTAL_STRIDE

WHATS = ("inference", "training", "pipeline", "predict", "dense", "features", "perceptual")
"""What can be measured."""

PRECISIONS = ("fp32", "bf16", "int8", "auto")
"""Of a net; ``auto`` is the fastest of ours against the fastest peer of any precision."""

Call = Callable[[], Any]
"""Does the work once; gives what it computed, where that can be compared."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure, and how.

    Attributes:
        what: one of ``WHATS``.
        architecture: a name of a column of Table 1.
        batch_norm: a batch norm after every convolution.
        crop: side of the images, pixels; None for what the paper or the target has.
        width: factor on the channels of every layer.
        batches: images of a call; empty for the usual ones.
        precision: one of ``PRECISIONS``.
        threads: of every contender alike.
        rounds: times that every contender is timed; None for what suits the work.
        tuned: whether the allocator keeps freed memory, for all alike.
        memory: whether to measure the peak of memory of each contender too.
        model: a trained net to take instead of random weights: a model file, run folder or published name.
        data: a folder of photographs, or a photograph; None for those of scikit-learn.
        photographs: how many at most, or again and again until there are as many.
    """

    what: str
    architecture: str = "D"
    batch_norm: bool = False
    crop: int | None = None
    width: float = 1.0
    batches: tuple[int, ...] = ()
    precision: str = "fp32"
    threads: int = 1
    rounds: int | None = None
    tuned: bool = True
    memory: bool = True
    model: str | None = None
    data: Path | None = None
    photographs: int = 64

    def require_fp32(self, what: str) -> None:
        """Raises UsageError where another precision is asked for; ``what`` is the beginning of a sentence."""
        if self.precision != "fp32":
            raise UsageError(f"--precision {self.precision}: {what} measured in fp32")

    def check(self) -> None:
        """Checks what no measurement can make right.

        Raises:
            UsageError: an unknown name, a number out of range, or an option that would say nothing.
        """
        for option, value, known in (("", self.what, WHATS), ("--precision ", self.precision, PRECISIONS)):
            if value not in known:
                raise UsageError(f"{option}{value}: choose one of {', '.join(known)}")
        numbers = {"threads": [self.threads], "photographs": [self.photographs], "batch": list(self.batches)}
        numbers["rounds"] = [] if self.rounds is None else [self.rounds]
        for option, values in numbers.items():
            if any(value < 1 for value in values):
                raise UsageError(f"--{option} {min(values)}: give 1 or more")
        if self.crop is not None and (self.crop < TOTAL_STRIDE or self.crop % TOTAL_STRIDE):
            raise UsageError(f"--crop {self.crop}: give a multiple of {TOTAL_STRIDE}")
        given = {name for name, value in asdict(self).items() if value != _DEFAULTS.get(name)}
        if self.model is not None and given & {"architecture", "crop", "width", "batch_norm"}:
            raise UsageError(
                "--model has its own architecture, crop, width and batch norm: leave out --architecture, --crop, "
                "--width, --batch-norm"
            )
        if ignored := [_OPTIONS[name] for name in _IGNORED[self.what] if name in given]:
            raise UsageError(f"{self.what} has no use for {', '.join(ignored)}: leave it out")

    def as_record(self) -> dict[str, Any]:
        """The fields, for JSON."""
        record = asdict(self)
        return record | {"data": None if self.data is None else str(self.data), "batches": list(self.batches)}


_DEFAULTS = {one.name: one.default for one in fields(Options)}
_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in _DEFAULTS} | {"batches": "--batch"}

_IGNORED = {
    "inference": ("photographs",),
    "training": ("data", "photographs"),
    "pipeline": ("architecture", "batch_norm", "width", "batches", "precision", "model"),
    "predict": ("batches",),
    "dense": ("batches", "photographs"),
    "features": ("batches",),
    "perceptual": ("architecture", "batch_norm", "width", "model", "data", "photographs"),
}
"""By what is measured, the fields that say nothing of it."""


def read_options(record: Mapping[str, Any]) -> Options:
    """Gives the options that ``as_record`` wrote."""
    data = record["data"]
    return Options(**{**record, "data": None if data is None else Path(data), "batches": tuple(record["batches"])})


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to do the work.

    Attributes:
        name: with the version of its library.
        make: prepares everything that is not timed, and gives what is; raises ImportError where a library is missing,
            or LeftOutError.
        is_ours: whether it is verydeep's.
        compared: whether it counts for the ratio; other work, such as a part of this one, stands beside it only.
        package: what its library is called to pip.
        precision: fp32, bf16 or int8.
        precision_taken: says which of them was chosen, once it is prepared; None where there was no choice.
        computed_by: says what computes, once it is prepared; None where the name says it.
    """

    name: str
    make: Callable[[], Call]
    is_ours: bool = False
    compared: bool = True
    package: str = ""
    precision: str = "fp32"
    precision_taken: Callable[[], str] | None = None
    computed_by: Callable[[], str] | None = None


class LeftOutError(Exception):
    """A contender that cannot do this work here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Absent:
    """A contender that could not be measured, and why."""

    name: str
    package: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """Contenders that do the same work.

    Attributes:
        name: such as ``batch 8``.
        contenders: ours first.
        images: that a call takes.
        rounds: times that every contender is timed, where nobody asks for another number.
        macs: multiplications with an addition for an image, computed directly; None where the work is no arithmetic.
        errors: gives the error of what the calls computed, by the name of their contender.
        warm: whether an untimed call comes before each timed one.
        pause: seconds before each call: threads that still wait actively for more of the last work disturb the next.
        error_name: what kind of error it is: relative_error, or pixel_difference in grey levels.
    """

    name: str
    contenders: tuple[Contender, ...]
    images: int
    rounds: int
    macs: int | None = None
    errors: Callable[[Mapping[str, Any]], Mapping[str, float]] | None = None
    error_name: str = "relative_error"
    warm: bool = True
    pause: float = 0.15


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one contender reached.

    Attributes:
        case: of which it is a part.
        name: of the contender.
        is_ours: whether it is verydeep's.
        compared: whether it counts for the ratio.
        precision: fp32, bf16 or int8.
        images_per_second: median.
        slowest: images per second of the slowest round.
        fastest: of the fastest.
        seconds: of a call, median.
        images: of a call.
        peak_memory_bytes: of a process that does this alone; None where it was not measured.
        relative_error: norm of the difference to float64 over the norm of the result; None where it does not apply.
        pixel_difference: to Pillow's recipe, mean over the pixels, grey levels of 255; likewise.
        share_of_product_peak: of direct convolution's multiplications over the peak of a matrix product; likewise.
        ratio_to_best_peer: its speed over that of the fastest that is not ours; None where there is none.
        computed_by: what computes; None where the name says it.
    """

    case: str
    name: str
    is_ours: bool
    compared: bool
    precision: str
    images_per_second: float
    slowest: float
    fastest: float
    seconds: float
    images: int
    peak_memory_bytes: int | None = None
    relative_error: float | None = None
    pixel_difference: float | None = None
    share_of_product_peak: float | None = None
    ratio_to_best_peer: float | None = None
    computed_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a case comes to.

    Attributes:
        case: its name.
        ours: our fastest contender.
        best_peer: the fastest that is not ours; None where there is none.
        ratio_to_best_peer: the speed of the one over that of the other.
    """

    case: str
    ours: str
    best_peer: str | None
    ratio_to_best_peer: float | None


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Everything a measurement gave.

    Attributes:
        options: what was asked for.
        rows: of all cases, in the order in which they were measured.
        absent: contenders that could not be measured.
        product_peak_gflops: of a matrix product by precision, thousands of millions of operations a second.
        notes: what a reader has to know.
        extra: further figures by name, such as the ratio of work that a ratio of times stands beside.
    """

    options: Options
    rows: tuple[Row, ...]
    absent: tuple[Absent, ...]
    product_peak_gflops: Mapping[str, float]
    notes: tuple[str, ...] = ()
    extra: Mapping[str, float] = field(default_factory=dict)

    @property
    def cases(self) -> list[Summary]:
        """The ratio of each case."""
        names = list(dict.fromkeys(row.case for row in self.rows))
        return [_summary(name, [row for row in self.rows if row.case == name]) for name in names]

    @property
    def ratio_to_best_peer(self) -> float | None:
        """The smallest ratio of all cases: what holds for each of them."""
        ratios = [case.ratio_to_best_peer for case in self.cases if case.ratio_to_best_peer is not None]
        return min(ratios, default=None)

    def as_record(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return {
            "what": self.options.what,
            "machine": environment(),
            "options": self.options.as_record(),
            "allocator": allocator_in_words(self.options),
            "rows": [asdict(row) for row in self.rows],
            "cases": [asdict(case) for case in self.cases],
            "ratio_to_best_peer": self.ratio_to_best_peer,
            "product_peak_gflops": dict(self.product_peak_gflops),
            "absent": [asdict(absent) for absent in self.absent],
            "notes": list(self.notes),
            **self.extra,
        }


def allocator_in_words(options: Options) -> str:
    """Says how memory was allocated."""
    if options.what == "predict":
        return "ours keeps freed memory; the script as the system has it, and once as ours"
    return "keeps freed memory, for all alike" if options.tuned else "as the system has it, for all alike"


def _summary(name: str, rows: list[Row]) -> Summary:
    ours = max((row for row in rows if row.is_ours and row.compared), key=lambda row: row.images_per_second)
    peer = next((row.name for row in rows if not row.is_ours and row.ratio_to_best_peer == 1), None)
    return Summary(case=name, ours=ours.name, best_peer=peer, ratio_to_best_peer=ours.ratio_to_best_peer)


def scores_error(exact: Tensor) -> Callable[[Mapping[str, Any]], dict[str, float]]:
    """Gives the relative errors of scores.

    Args:
        exact: the scores in float64.
    """

    def errors(outputs: Mapping[str, Any]) -> dict[str, float]:
        return {
            name: float((output.double().reshape(exact.shape) - exact).norm() / exact.norm())
            for name, output in outputs.items()
            if isinstance(output, Tensor)
        }

    return errors
