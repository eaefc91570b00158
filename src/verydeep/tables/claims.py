"""What the paper claims of its tables, as contrasts of their cells; the verdicts are in `tables/verdicts.py`.

A claim is one part or several, and a part one contrast. "Better than each" holds where every part holds: a net fused
with a bad one is always better than the bad one, so a mean over both members would say nothing.

Paper: section 4.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from statistics import mean

from verydeep.paper.tables import CROP, TABLE_3, TABLE_4, TABLE_5, TABLE_6, MeasuredNet
from verydeep.tables.contrasts import BY_DEPTH, CellKey, Pair, Part, mean_part, part_of_each, trend_and_steps
from verydeep.tables.grid import DENSE_AND_CROPS, TableNet

NO_GAIN = 0.005
"""A gain below half a point is none."""

_ROUNDING = 1
"""Test scales that differ by a pixel of rounding are the same."""

Pairs = Callable[[Sequence[CellKey]], list[Pair]]
Parts = Callable[[Sequence[Pair]], list[Part]]


def _pairs(fits: Callable[[CellKey, CellKey], bool]) -> Pairs:
    return lambda keys: [Pair(one, other) for one in keys for other in keys if one is not other and fits(one, other)]


def _alone(one: CellKey, other: CellKey, first: str, second: str) -> bool:
    """Whether both are of one net, by these protocols."""
    return len(one.nets) == len(other.nets) == 1 and (one.protocol, other.protocol) == (first, second)


def _one_of_each(keys: Sequence[CellKey]) -> list[CellKey]:
    """Of each net the dense test at its own scale; where there is none, the central crop at that scale."""
    found: dict[TableNet, CellKey] = {}
    for protocol in ("single", "centre"):
        for key in keys:
            if len(key.nets) == 1 and key.protocol == protocol and key.at_own_scale:
                found.setdefault(key.nets[0], key)
    return list(found.values())


def _alike(one: CellKey, other: CellKey) -> bool:
    """Whether two architectures were trained and tested alike."""
    return (one.protocol, one.test_scales) == (other.protocol, other.test_scales) and all(
        getattr(one.nets[0], name) == getattr(other.nets[0], name) for name in ("path", "batch_norm", "crop")
    )


def _architectures(first: str, second: str, protocol: str | None = None) -> Pairs:
    """Two architectures that were trained and tested alike."""
    fitting = _pairs(
        lambda one, other: (
            (one.nets[0].architecture, other.nets[0].architecture) == (first, second) and _alike(one, other)
        )
    )
    return lambda keys: fitting(_one_of_each([key for key in keys if protocol in (None, key.protocol)]))


def _protocols(first: str, second: str) -> Pairs:
    """Two protocols for the same net at the same test scales, of which a single one is the middle of several."""

    def fits(one: CellKey, other: CellKey) -> bool:
        middle = sorted(other.test_scales)[len(other.test_scales) // 2]
        scales = (middle,) if len(one.test_scales) == 1 else other.test_scales
        return _alone(one, other, first, second) and one.nets == other.nets and one.test_scales == scales

    return _pairs(fits)


def _by_depth(keys: Sequence[CellKey]) -> list[Pair]:
    """Each net of those that differ in depth alone and the next deeper one that was trained and tested alike."""
    deep = _one_of_each(keys)
    by_depth = [key for name in BY_DEPTH for key in deep if key.nets[0].architecture == name]
    groups: list[list[CellKey]] = []
    for key in by_depth:
        group = next((group for group in groups if _alike(group[0], key)), None)
        if group is None:
            groups.append([key])
        else:
            group.append(key)
    return [Pair(one, other) for group in groups for one, other in pairwise(group)]


def _jitter(keys: Sequence[CellKey]) -> list[Pair]:
    """A fixed training scale and jitter of one architecture, densely tested; by the central crop where none is."""

    def fits(one: CellKey, other: CellKey) -> bool:
        fixed, jittered = one.nets[0], other.nets[0]
        alike = (fixed.name, len(fixed.path)) == (jittered.name, len(jittered.path))
        return alike and jittered.is_jittered and not fixed.is_jittered

    found = _pairs(fits)(keys)
    by_protocol = [
        [pair for pair in found if _alone(pair.first, pair.second, name, name)] for name in ("single", "centre")
    ]
    return by_protocol[0] or by_protocol[1]


def _is_fusion(one: CellKey, other: CellKey) -> bool:
    """Whether a net and two nets fused are compared, tested alike."""
    alike = (one.protocol, one.test_scales) == (other.protocol, other.test_scales)
    return alike and len(one.nets) == 1 and len(other.nets) == 2 and one.nets[0] in other.nets


def _other_scales(pair: Pair) -> str:
    (one,), (other,) = pair.first.test_scales, pair.second.test_scales
    if abs(one - other) <= _ROUNDING:
        return ""
    return f"jitter was tested at Q = {other} and the fixed scale at Q = {one}, so that the tests differ too"


def _one_position(pair: Pair) -> str:
    if not pair.second.has_one_position:
        return ""
    scales = ", ".join(map(str, pair.second.test_scales))
    return (
        f"at a crop of {pair.second.nets[0].crop} the score maps of Q = {scales} have one position each across the "
        "shorter side, so that nothing is tested densely"
    )


_NETS, _TESTS = (0.003, 0.10, 0.35), (0.002, 0.07, 0.21)
"""Spreads of a contrast of two nets, and of two tests of a net; see `Claim.spread`."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Something that the paper says of its tables.

    Attributes:
        name: short.
        text: in words.
        source: where the paper says it.
        pairs: finds the pairs of cells that it is about.
        obstacle: why a pair does not show what the claim says; empty where it does.
        parts: makes the contrasts of the pairs; by default one, their mean.
        no_gain: whether it says that the second brings nothing, rather than that it is better.
        in_paper: the paper's difference where its tables do not have it, a fraction.
        spread: deviations of one pair's contrast over seeds, over images, and over both beyond these, for plans; as
            results/tables-*.jsonl have them.
    """

    name: str
    text: str
    source: str
    pairs: Pairs
    obstacle: Callable[[Pair], str] = lambda _: ""
    parts: Parts = lambda pairs: [mean_part(pairs)]
    no_gain: bool = False
    in_paper: float | None = None
    spread: tuple[float, float, float]

    @property
    def threshold(self) -> float:
        return -NO_GAIN if self.no_gain else 0.0

    def find(self, keys: Sequence[CellKey]) -> tuple[list[Part], str]:
        """The parts that cells give, and why some or all pairs give none; neither where the claim is of other cells."""
        pairs = self.pairs(keys)
        obstacles = [self.obstacle(pair) for pair in pairs]
        fit = [pair for pair, obstacle in zip(pairs, obstacles, strict=True) if not obstacle]
        compared = {(pair.first.nets, pair.second.nets) for pair in fit}
        left_out = (
            obstacle
            for pair, obstacle in zip(pairs, obstacles, strict=True)
            if (pair.first.nets, pair.second.nets) not in compared
        )
        return (self.parts(fit) if fit else []), next(left_out, "")


_ROWS = (
    Claim(
        name="lrn",
        text="local response normalisation does not help: it gains less than half a point",
        source="section 4.1",
        pairs=_architectures("A", "A-LRN"),
        no_gain=True,
        spread=_NETS,
    ),
    Claim(
        name="depth",
        text="deeper is better (A, B, D, E)",
        source="section 4.1",
        pairs=_by_depth,
        parts=trend_and_steps,
        spread=_NETS,
    ),
    Claim(
        name="1x1",
        text="C's 1x1 convolutions help: C is better than B",
        source="section 4.1",
        pairs=_architectures("B", "C"),
        spread=_NETS,
    ),
    Claim(
        name="3x3",
        text="3x3 convolutions help more than 1x1: D is better than C",
        source="section 4.1",
        pairs=_architectures("C", "D"),
        spread=_NETS,
    ),
    Claim(
        name="5x5",
        text="two 3x3 convolutions are better than one 5x5: B is better than B-5x5",
        source="section 4.1",
        pairs=_architectures("B-5x5", "B", "centre"),
        in_paper=-0.07,  # "7% higher than that of B (on a center crop)", section 2.3's comparison in 4.1
        spread=_NETS,
    ),
    Claim(
        name="jitter",
        text="scale jitter in training is better than each fixed scale, tested at the same scale",
        source="section 4.1",
        pairs=_jitter,
        obstacle=_other_scales,
        parts=part_of_each(lambda pair: pair.first.nets[0].path),
        spread=(0.008, 0.02, 0.30),
    ),
    Claim(
        name="scales",
        text="several test scales are better than one",
        source="section 4.2",
        pairs=_protocols("single", "multi-scale"),
        obstacle=_one_position,
        spread=_TESTS,
    ),
    Claim(
        name="crops",
        text="many crops are slightly better than dense",
        source="section 4.3",
        pairs=_protocols("multi-scale", "multi-crop"),
        obstacle=_one_position,
        spread=_TESTS,
    ),
    Claim(
        name="both",
        text="dense and many crops together are better than either",
        source="section 4.3",
        pairs=lambda keys: [
            *_protocols("multi-scale", DENSE_AND_CROPS)(keys),
            *_protocols("multi-crop", DENSE_AND_CROPS)(keys),
        ],
        obstacle=_one_position,
        parts=part_of_each(lambda pair: pair.first, lambda pair: pair.first.protocol),
        spread=_TESTS,
    ),
    Claim(
        name="fusion",
        text="two nets fused are better than each alone",
        source="section 4.4",
        pairs=_pairs(_is_fusion),
        parts=part_of_each(lambda pair: (pair.first.nets, pair.second.nets)),
        spread=_TESTS,
    ),
)

CLAIMS: dict[str, Claim] = {row.name: row for row in _ROWS}
"""The claims by name."""


@cache
def papers_differences(claim_name: str) -> dict[str, float]:
    """The paper's own differences of a claim, fractions, by the role of a part; the mean where it has several."""
    claim = CLAIMS[claim_name]
    if claim.in_paper is not None:
        return {"": claim.in_paper}
    cells = _papers_cells()
    found: dict[str, list[float]] = {}
    for part in claim.find(list(cells))[0]:
        found.setdefault(part.role, []).append(sum(weight * cells[key] for weight, key in part.weights))
    return {role: mean(values) for role, values in found.items()}


def _papers_cells() -> dict[CellKey, float]:
    """The cells of the paper's Tables 3 to 6 with their top-1 errors, fractions."""
    cells = {
        CellKey((_papers_net(row),), row.protocol, row.test_scales): row.top1_error
        for row in (*TABLE_3, *TABLE_4, *TABLE_5)
    }
    return cells | {
        CellKey(tuple(map(_papers_net, row.models)), row.protocol, row.models[0].test_scales): row.top1 / 100
        for row in TABLE_6
    }


def _papers_net(row: MeasuredNet) -> TableNet:
    return TableNet(
        name=row.architecture,
        architecture=row.architecture,
        batch_norm=False,
        crop=CROP,
        train_scale=row.train_scale,
    )
