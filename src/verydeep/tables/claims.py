"""What the paper claims of its tables, each put to the test on the rows that another data set gave.

Paper: section 4.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from verydeep.tables.grid import DENSE_AND_CROPS
from verydeep.tables.rows import TableCell
from verydeep.testing.statistics import Difference, Term, contrast, holm, mean_contrast, seed_image_bootstrap

SIGNIFICANT = 0.05
"""A corrected p-value below this decides a claim."""

NO_GAIN = 0.005
"""A gain below half a point is none."""

BY_DEPTH = ("A", "B", "D", "E")
"""The nets that differ in depth alone, 3x3 convolutions throughout."""


@dataclass(frozen=True)
class Pair:
    """Two cells, of which the paper says how the second compares with the first."""

    first: TableCell
    second: TableCell

    @property
    def title(self) -> str:
        """Such as ``D, S = 73, multi-scale against D, S = 73, single``."""
        return f"{self.second.title} against {self.first.title}"

    @property
    def shares_nets(self) -> bool:
        """Whether a net is in both, so that the pair compares tests and not trainings."""
        return not set(self.first.nets).isdisjoint(self.second.nets)

    def terms(self) -> list[Term]:
        """The contrast: second minus first; seed by seed where one net is in both."""
        common = [seed for seed in self.first.seeds if seed in self.second.seeds]
        if self.shares_nets and common:
            return contrast(self.first.wrong(common), self.second.wrong(common), same_nets=True)
        return contrast(self.first.wrong(), self.second.wrong(), same_nets=False)


Pairs = Callable[[Sequence[TableCell]], list[Pair]]
"""Finds the pairs that a claim is about."""


def _pairs(fits: Callable[[TableCell, TableCell], bool]) -> Pairs:
    return lambda cells: [Pair(one, other) for one in cells for other in cells if one is not other and fits(one, other)]


def _alone(one: TableCell, other: TableCell, first: str, second: str) -> bool:
    """Whether both are of one net, by these protocols."""
    return len(one.nets) == len(other.nets) == 1 and (one.protocol, other.protocol) == (first, second)


def _architectures(first: str, second: str, protocol: str = "single") -> Pairs:
    """Two architectures that were trained and tested alike."""
    return _pairs(
        lambda one, other: (
            _alone(one, other, protocol, protocol)
            and (one.nets[0].architecture, other.nets[0].architecture) == (first, second)
            and one.nets[0].train_scale == other.nets[0].train_scale
            and one.nets[0].batch_norm == other.nets[0].batch_norm
        )
    )


def _protocols(first: str, second: str) -> Pairs:
    """Two protocols for the same net."""
    return _pairs(lambda one, other: _alone(one, other, first, second) and one.nets == other.nets)


def _by_depth(cells: Sequence[TableCell]) -> list[Pair]:
    """Each net of those that differ in depth alone and the next deeper one that there is."""
    there = {cell.nets[0].architecture for cell in cells if len(cell.nets) == 1 and cell.protocol == "single"}
    depths = [name for name in BY_DEPTH if name in there]
    return [pair for first, second in pairwise(depths) for pair in _architectures(first, second)(cells)]


def _is_jitter(one: TableCell, other: TableCell) -> bool:
    """Whether a fixed training scale and jitter are compared, tested at one scale."""
    return (
        _alone(one, other, "single", "single")
        and one.nets[0].architecture == other.nets[0].architecture
        and one.nets[0].name == other.nets[0].name
        and other.nets[0].is_jittered
        and not one.nets[0].is_jittered
    )


def _is_fusion(one: TableCell, other: TableCell) -> bool:
    """Whether a net and two nets fused are compared, tested alike."""
    alike = len(one.nets) == 1 and len(other.nets) == 2 and one.protocol == other.protocol
    return alike and one.nets[0] in other.nets


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Something that the paper says of its tables.

    Attributes:
        name: short.
        text: in words.
        source: where the paper says it.
        pairs: finds the pairs of cells that it is about.
        no_gain: whether it says that the second brings nothing, rather than that it is better.
    """

    name: str
    text: str
    source: str
    pairs: Pairs
    no_gain: bool = False


_ROWS = (
    Claim(
        name="lrn",
        text="local response normalisation does not help: it gains less than half a point",
        source="section 4.1",
        pairs=_architectures("A", "A-LRN"),
        no_gain=True,
    ),
    Claim(name="depth", text="deeper is better (A, B, D, E)", source="section 4.1", pairs=_by_depth),
    Claim(
        name="1x1",
        text="C's 1x1 convolutions help: C is better than B",
        source="section 4.1",
        pairs=_architectures("B", "C"),
    ),
    Claim(
        name="3x3",
        text="3x3 convolutions help more than 1x1: D is better than C",
        source="section 4.1",
        pairs=_architectures("C", "D"),
    ),
    Claim(
        name="5x5",
        text="two 3x3 convolutions are better than one 5x5: B is better than B-5x5",
        source="section 4.1",
        pairs=_architectures("B-5x5", "B", "centre"),
    ),
    Claim(
        name="jitter",
        text="scale jitter in training is better than a fixed scale, tested at one scale",
        source="section 4.1",
        pairs=_pairs(_is_jitter),
    ),
    Claim(
        name="scales",
        text="several test scales are better than one",
        source="section 4.2",
        pairs=_protocols("single", "multi-scale"),
    ),
    Claim(
        name="crops",
        text="many crops are slightly better than dense",
        source="section 4.3",
        pairs=_protocols("multi-scale", "multi-crop"),
    ),
    Claim(
        name="both",
        text="dense and many crops together are better than either",
        source="section 4.3",
        pairs=lambda cells: [
            *_protocols("multi-scale", DENSE_AND_CROPS)(cells),
            *_protocols("multi-crop", DENSE_AND_CROPS)(cells),
        ],
    ),
    Claim(
        name="fusion",
        text="two nets fused are better than each alone",
        source="section 4.4",
        pairs=_pairs(_is_fusion),
    ),
)

CLAIMS: dict[str, Claim] = {row.name: row for row in _ROWS}
"""The claims by name."""


@dataclass(frozen=True, kw_only=True)
class ClaimResult:
    """A claim and what the rows say of it.

    Attributes:
        claim: what the paper says.
        difference: mean over the pairs.
        corrected_p_value: by Holm's method, for the number of claims tested.
        pairs: each with its own difference, not corrected.
    """

    claim: Claim
    difference: Difference
    corrected_p_value: float
    pairs: tuple[tuple[Pair, Difference], ...]

    @property
    def verdict(self) -> str:
        """``supported``, ``contradicted`` or ``undecided``; one training of each net decides nothing about nets."""
        one_seed = self.difference.num_seeds == 1 and not any(pair.shares_nets for pair, _ in self.pairs)
        if one_seed or self.corrected_p_value >= SIGNIFICANT:
            return "undecided"
        holds = self.difference.difference > -NO_GAIN if self.claim.no_gain else self.difference.difference < 0
        return "supported" if holds else "contradicted"

    def as_record(self) -> dict[str, Any]:
        return {
            "claim": self.claim.name,
            "text": self.claim.text,
            "source": self.claim.source,
            "verdict": self.verdict,
            **self.difference.as_record(),
            "corrected_p_value": self.corrected_p_value,
            "pairs": [
                {"first": pair.first.title, "second": pair.second.title, **found.as_record()}
                for pair, found in self.pairs
            ],
        }


def check_claims(cells: Sequence[TableCell]) -> list[ClaimResult]:
    """Tests every claim that the cells have a pair for.

    The pairs of a claim count alike. Its p-value is that of the mean of their differences, for the threshold that the
    claim is about: no difference, or a gain of half a point.
    """
    measured = []
    for claim in CLAIMS.values():
        if pairs := claim.pairs(cells):
            threshold = -NO_GAIN if claim.no_gain else 0.0
            contrasts = [pair.terms() for pair in pairs]
            own = [seed_image_bootstrap(terms, threshold=threshold) for terms in contrasts]
            whole = own[0] if len(own) == 1 else seed_image_bootstrap(mean_contrast(contrasts), threshold=threshold)
            measured.append((claim, whole, tuple(zip(pairs, own, strict=True))))
    corrected = holm([whole.p_value for _, whole, _ in measured])
    return [
        ClaimResult(claim=claim, difference=whole, corrected_p_value=value, pairs=pairs)
        for (claim, whole, pairs), value in zip(measured, corrected, strict=True)
    ]
