"""Contrasts of the cells of the tables: mean differences of pairs, and the trend over the depth of nets.

Paper: section 4.1.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import mean

from verydeep.nets.architecture import ARCHITECTURES
from verydeep.paper.constants import TOTAL_STRIDE
from verydeep.tables.grid import TableNet

BY_DEPTH = ("A", "B", "D", "E")
"""The nets that differ in depth alone, 3x3 convolutions throughout."""


@dataclass(frozen=True)
class CellKey:
    """What a cell of the tables is of: measured here, planned, or the paper's."""

    nets: tuple[TableNet, ...]
    protocol: str
    test_scales: tuple[int, ...]  # Q, pixels

    @property
    def title(self) -> str:
        """Such as ``D, S = 73, single``, and Q where it is not the net's own."""
        q = "" if self.at_own_scale else f", Q = {','.join(map(str, self.test_scales))}"
        return f"{self.title_of_nets}, {self.protocol}{q}"

    @property
    def title_of_nets(self) -> str:
        """Such as ``D, S = 73``; of fused nets all."""
        return " + ".join(net.title for net in self.nets)

    @property
    def at_own_scale(self) -> bool:
        """Whether the one test scale is S, or the middle of the training scales; several are the net's own."""
        return len(self.test_scales) > 1 or self.test_scales[0] == sum(self.nets[0].train_scale) // 2

    @property
    def has_one_position(self) -> bool:
        """Whether every score map has one position across the shorter side of the image."""
        return max(self.test_scales) < self.nets[0].crop + TOTAL_STRIDE


@dataclass(frozen=True)
class Pair:
    """Two cells, of which the paper says how the second compares with the first."""

    first: CellKey
    second: CellKey

    @property
    def title(self) -> str:
        """Such as ``D, S = 73, multi-scale against D, S = 73, single``."""
        return f"{self.second.title} against {self.first.title}"


@dataclass(frozen=True)
class Part:
    """A contrast: cells with the weights that their errors have in it.

    Attributes:
        title: in words.
        weights: cells may occur twice.
        pairs: what it is made of.
        role: tells parts of a claim apart that have differences of their own in the paper.
        decides: whether the claim holds only where this part does; of others it is enough that they do not surely
            point the other way.
    """

    title: str
    weights: tuple[tuple[float, CellKey], ...]
    pairs: tuple[Pair, ...]
    role: str = ""
    decides: bool = True

    @property
    def keys(self) -> list[CellKey]:
        return list(dict.fromkeys(key for _, key in self.weights))

    @property
    def reach(self) -> float:
        """The most that the contrast can be for an image."""
        by_key = {key: sum(weight for weight, other in self.weights if other == key) for key in self.keys}
        return sum(weight for weight in by_key.values() if weight > 0)

    @property
    def relative_variance(self) -> float:
        """Variance over trainings, in units of that of one pair: tests of the same nets vary together."""
        of_nets: dict[object, float] = {}
        for weight, key in self.weights:
            group = key.nets, weight > 0
            of_nets[group] = of_nets.get(group, 0.0) + weight
        return sum(weight**2 for weight in of_nets.values()) / 2


def mean_part(pairs: Sequence[Pair], role: str = "", *, decides: bool = True) -> Part:
    """The mean difference of pairs."""
    weights = [one for pair in pairs for one in ((1 / len(pairs), pair.second), (-1 / len(pairs), pair.first))]
    nets = {f"{pair.second.title_of_nets} against {pair.first.title_of_nets}" for pair in pairs}
    if len(pairs) == 1:
        title = pairs[0].title
    elif len(nets) == 1:
        title = f"{nets.pop()}, the mean of {len(pairs)} tests"
    else:
        title = f"the mean of {len(pairs)} pairs"
    return Part(title, tuple(weights), tuple(pairs), role, decides)


def part_of_each(
    key: Callable[[Pair], Hashable], role: Callable[[Pair], str] = lambda _: ""
) -> Callable[[Sequence[Pair]], list[Part]]:
    """A part for each group of pairs: every one has to hold."""

    def parts(pairs: Sequence[Pair]) -> list[Part]:
        groups: dict[Hashable, list[Pair]] = {}
        for pair in pairs:
            groups.setdefault(key(pair), []).append(pair)
        return [mean_part(group, role(group[0])) for group in groups.values()]

    return parts


def trend_and_steps(pairs: Sequence[Pair]) -> list[Part]:
    """The slope of the error over weight layers, one for all training scales, and the step to each next deeper net.

    The slope is that of least squares with an intercept for each training scale.
    """
    groups: dict[object, list[CellKey]] = {}
    for key in dict.fromkeys(key for pair in pairs for key in (pair.first, pair.second)):
        net = key.nets[0]
        groups.setdefault((net.path, net.batch_norm, net.crop, key.test_scales), []).append(key)
    centred = [(_layers(key) - mean(map(_layers, group)), key) for group in groups.values() for key in group]
    square = sum(distance**2 for distance, _ in centred)
    slope = tuple((distance / square, key) for distance, key in centred)
    names = [net for net in BY_DEPTH if any(key.nets[0].architecture == net for _, key in centred)]
    steps: dict[str, list[Pair]] = {}
    for pair in pairs:
        title = f"{pair.second.nets[0].name} against {pair.first.nets[0].name}"
        steps.setdefault(title, []).append(pair)
    return [
        Part(f"the trend over {', '.join(names)}, for each weight layer", slope, tuple(pairs), "trend"),
        *(
            Part(title, mean_part(step).weights, tuple(step), "step", decides=False)
            for title, step in steps.items()
            if len(names) > 2  # of two nets the step is the trend
        ),
    ]


def _layers(key: CellKey) -> int:
    return ARCHITECTURES[key.nets[0].architecture].weight_layers
