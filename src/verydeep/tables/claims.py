"""What the paper claims of its tables, each put to the test on the rows that another data set gave.

Paper: section 4.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from verydeep.tables.rows import Setting
from verydeep.testing.statistics import Difference, Term, contrast, holm, mean_contrast, seed_image_bootstrap

SIGNIFICANT = 0.05
"""A corrected p-value below this decides a claim."""

NO_GAIN = 0.005
"""A gain below half a point is none."""

BY_DEPTH = ("A", "B", "D", "E")
"""The nets that differ in depth alone, 3x3 convolutions throughout."""


@dataclass(frozen=True)
class Pair:
    """Two settings, of which the paper says how the second compares with the first."""

    first: Setting
    second: Setting

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


class Table:
    """Settings to be looked up."""

    def __init__(self, settings: Iterable[Setting]) -> None:
        self.settings = list(settings)

    def single(self, protocol: str) -> list[Setting]:
        """The settings of one net by a protocol."""
        return [one for one in self.settings if len(one.nets) == 1 and one.protocol == protocol]

    def by_architecture(self, first: str, second: str, protocol: str) -> list[Pair]:
        """Pairs of two architectures that were trained and tested alike."""
        return self._pairs(
            self.single(protocol),
            lambda one, other: (
                (one.nets[0].architecture, other.nets[0].architecture) == (first, second)
                and one.nets[0].train_scale == other.nets[0].train_scale
                and one.nets[0].batch_norm == other.nets[0].batch_norm
            ),
        )

    def by_protocol(self, first: str, second: str) -> list[Pair]:
        """Pairs of two protocols for the same nets."""
        return self._pairs(
            self.settings,
            lambda one, other: (
                (one.protocol, other.protocol) == (first, second) and one.nets == other.nets and len(one.nets) == 1
            ),
        )

    def by_jitter(self) -> list[Pair]:
        """Pairs of a fixed training scale and jitter, tested at one scale."""
        return self._pairs(
            self.single("single"),
            lambda one, other: (
                one.nets[0].architecture == other.nets[0].architecture
                and one.nets[0].name == other.nets[0].name
                and other.nets[0].is_jittered
                and not one.nets[0].is_jittered
            ),
        )

    def by_fusion(self) -> list[Pair]:
        """Pairs of a net and of two nets fused, tested alike."""
        return self._pairs(
            self.settings,
            lambda one, other: (
                len(one.nets) == 1
                and len(other.nets) == 2
                and one.nets[0] in other.nets
                and one.protocol == other.protocol
            ),
        )

    @staticmethod
    def _pairs(settings: Sequence[Setting], fits: Callable[[Setting, Setting], bool]) -> list[Pair]:
        return [Pair(one, other) for one in settings for other in settings if one is not other and fits(one, other)]


def _by_depth(table: Table) -> list[Pair]:
    there = {one.nets[0].architecture for one in table.single("single")}
    depths = [name for name in BY_DEPTH if name in there]
    return [pair for first, second in pairwise(depths) for pair in table.by_architecture(first, second, "single")]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Something that the paper says of its tables.

    Attributes:
        name: short.
        text: in words.
        source: where the paper says it.
        pairs: the pairs of settings that it is about.
        no_gain: whether it says that the second brings nothing, rather than that it is better.
    """

    name: str
    text: str
    source: str
    pairs: Callable[[Table], list[Pair]]
    no_gain: bool = False


_ROWS = (
    Claim(
        name="lrn",
        text="local response normalisation does not help: it gains less than half a point",
        source="section 4.1",
        pairs=lambda table: table.by_architecture("A", "A-LRN", "single"),
        no_gain=True,
    ),
    Claim(name="depth", text="deeper is better (A, B, D, E)", source="section 4.1", pairs=_by_depth),
    Claim(
        name="1x1",
        text="C's 1x1 convolutions help: C is better than B",
        source="section 4.1",
        pairs=lambda table: table.by_architecture("B", "C", "single"),
    ),
    Claim(
        name="3x3",
        text="3x3 convolutions help more than 1x1: D is better than C",
        source="section 4.1",
        pairs=lambda table: table.by_architecture("C", "D", "single"),
    ),
    Claim(
        name="5x5",
        text="two 3x3 convolutions are better than one 5x5: B is better than B-5x5",
        source="section 4.1",
        pairs=lambda table: table.by_architecture("B-5x5", "B", "centre"),
    ),
    Claim(
        name="jitter",
        text="scale jitter in training is better than a fixed scale, tested at one scale",
        source="section 4.1",
        pairs=Table.by_jitter,
    ),
    Claim(
        name="scales",
        text="several test scales are better than one",
        source="section 4.2",
        pairs=lambda table: table.by_protocol("single", "multi-scale"),
    ),
    Claim(
        name="crops",
        text="many crops are slightly better than dense",
        source="section 4.3",
        pairs=lambda table: table.by_protocol("multi-scale", "multi-crop"),
    ),
    Claim(
        name="both",
        text="dense and many crops together are better than either",
        source="section 4.3",
        pairs=lambda table: [
            *table.by_protocol("multi-scale", "dense+multi-crop"),
            *table.by_protocol("multi-crop", "dense+multi-crop"),
        ],
    ),
    Claim(
        name="fusion",
        text="two nets fused are better than each alone",
        source="section 4.4",
        pairs=Table.by_fusion,
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
        """The figures, for JSON."""
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


def check_claims(settings: Iterable[Setting]) -> list[ClaimResult]:
    """Tests every claim that the settings have a pair for.

    The pairs of a claim count alike. Its p-value is that of the mean of their differences, for the threshold that the
    claim is about: no difference, or a gain of half a point.
    """
    table = Table(settings)
    measured = []
    for claim in CLAIMS.values():
        if pairs := claim.pairs(table):
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
