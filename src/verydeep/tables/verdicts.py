"""Verdicts on the paper's claims, and beforehand which of them so many images and seeds can decide.

All verdicts of one set of tables are right together with 95%: each of k claims is tested at 5%/k (Bonferroni), and the
intervals shown are those that decide. A claim of several parts is *supported* where the upper ends of all of them lie
below the threshold: each part is tested at the level of the claim, since all must hold (intersection-union test). It is
*contradicted* where the lower end of any of them lies above: there the parts share the level. The part with the
largest difference stands for the claim, with an interval for the difference of the worst part, whichever that is: from
the largest of the lower ends to the largest of the upper ends.

A claim is *untestable here* where the tables do not show what it says: where no pair was tested alike, where every
score map of a dense test has one position, where each net was trained once, and where the nets are not trained out
(`tables/trained.py`), since the table then compares how fast nets learn. It is untestable too where it is undecided,
and at the paper's own difference, with the spreads measured here, it would have been decided with a chance below one
half. Of several parts, the chance is that of the least sure one: an upper bound.

References: R. L. Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24, 1982
(intersection-union tests); the intervals of a contrast are described in `testing/statistics.py`.

Paper: section 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from verydeep.tables.claims import CLAIMS, Claim, papers_differences
from verydeep.tables.contrasts import CellKey, Part
from verydeep.tables.grid import TableNet
from verydeep.tables.rows import TableCell, TableResults
from verydeep.tables.trained import TrainingEnd, training_ends
from verydeep.testing.statistics import Estimate, Spread, all_below, estimate, power

LEVEL = 0.05
"""The chance that any verdict of one set of tables is wrong."""

DECIDABLE = 0.5
"""A claim that would be decided with a smaller chance than this, at the paper's difference, cannot be tested."""

_ONCE = "one training of each net says nothing about others"


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """A part of a claim, its contrast, and the interval that decides; None where there is one seed."""

    part: Part
    estimate: Estimate
    interval: tuple[float, float] | None
    pairs: tuple[float, ...]  # the difference of each pair

    def as_record(self) -> dict[str, Any]:
        return {
            "title": self.part.title,
            "difference": self.estimate.difference,
            "interval": self.interval and list(self.interval),
            "of_seeds": list(self.estimate.of_seeds),
            "num_images": self.estimate.spread.num_images,
            "pairs": [
                {"first": pair.first.title, "second": pair.second.title, "difference": difference}
                for pair, difference in zip(self.part.pairs, self.pairs, strict=True)
            ],
        }


@dataclass(frozen=True, kw_only=True)
class ClaimResult:
    """A claim and what the rows say of it.

    Attributes:
        claim: what the paper says.
        verdict: ``supported``, ``contradicted``, ``undecided`` or ``untestable here``.
        reason: of the verdict, in words; may be empty.
        parts: the contrasts; none where no pair shows what the claim says.
        power: the chance of support at the paper's difference; None without intervals.
    """

    claim: Claim
    verdict: str
    reason: str
    parts: tuple[PartResult, ...] = ()
    power: float | None = None

    @property
    def worst(self) -> tuple[PartResult, ...]:
        """The parts that the verdict hangs on, the worst first: those that decide, or one step that contradicts."""
        deciding = [one for one in self.parts if one.part.decides]
        others = [one for one in self.parts if not one.part.decides]
        if self.verdict == "contradicted" and not self.claim.no_gain:
            above = [one for one in self.parts if one.interval and one.interval[0] > self.claim.threshold]
            deciding = [one for one in deciding if one in above] or [one for one in others if one in above]
        return tuple(sorted(deciding, key=lambda one: -one.estimate.difference))

    @property
    def difference(self) -> float | None:
        """Of the worst part, a fraction."""
        return self.worst[0].estimate.difference if self.worst else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the difference of the worst part, whichever it is: it excludes the threshold where a claim is decided."""
        intervals = [one.interval for one in self.worst if one.interval is not None]
        return (max(low for low, _ in intervals), max(high for _, high in intervals)) if intervals else None

    @property
    def num_seeds(self) -> int:
        return min((one.estimate.spread.num_seeds for one in self.parts), default=0)

    def as_record(self) -> dict[str, Any]:
        return {
            "claim": self.claim.name,
            "text": self.claim.text,
            "source": self.claim.source,
            "verdict": self.verdict,
            "reason": self.reason,
            "difference": self.difference,
            "interval": self.interval and list(self.interval),
            "num_seeds": self.num_seeds,
            "power": self.power,
            "parts": [one.as_record() for one in self.parts],
        }


def check_claims(results: TableResults) -> list[ClaimResult]:
    """Tests every claim that the cells have a pair for."""
    cells = {CellKey(cell.nets, cell.protocol, cell.test_scales): cell for cell in results.cells}
    ends = training_ends(results)
    found = [one for claim in CLAIMS.values() if (one := _measure(claim, cells, ends)) is not None]
    tail = LEVEL / 2 / max(1, sum(one.num_seeds > 1 for one in found))
    return [_judge(_with_intervals(one, tail), tail) if one.num_seeds > 1 else one for one in found]


def _measure(
    claim: Claim, cells: Mapping[CellKey, TableCell], ends: Mapping[TableNet, TrainingEnd]
) -> ClaimResult | None:
    """Takes the contrasts of a claim, of nets that are trained out where there are; None where it has no pair."""
    trained_out = [key for key in cells if all(net not in ends or ends[net].is_trained_out for net in key.nets)]
    trained, _ = claim.find(trained_out)
    everything, obstacle = claim.find(list(cells))
    parts = trained or everything
    measured = [one for part in parts if (one := _contrast(part, cells)) is not None]
    if not parts or len(measured) < len(parts):
        reason = "the cells have no seed in common" if parts else obstacle
        return ClaimResult(claim=claim, verdict="untestable here", reason=reason) if reason else None
    result = ClaimResult(claim=claim, verdict="", reason="", parts=tuple(measured))
    begun = dict.fromkeys(net.name for net in _nets(everything) if net in ends and not ends[net].is_trained_out)
    left_out = ", ".join(begun)
    against = [_ONCE] if result.num_seeds == 1 else []
    against += [] if trained else [f"not trained out: {left_out}"]
    notes = [f"without {left_out}, not trained out"] if trained and left_out else []
    notes += [f"pairs left out: {obstacle}"] if obstacle else []
    notes += ["training error unknown"] if any(net not in ends for net in _nets(parts)) else []
    return replace(result, verdict="untestable here" if against else "", reason="; ".join([*against, *notes]))


def _nets(parts: Sequence[Part]) -> list[TableNet]:
    return list(dict.fromkeys(net for part in parts for key in part.keys for net in key.nets))


def _contrast(part: Part, cells: Mapping[CellKey, TableCell]) -> PartResult | None:
    """Takes a contrast seed by seed; None where its cells have no seed in common."""
    seeds = [seed for seed in cells[part.keys[0]].seeds if all(seed in cells[key].seeds for key in part.keys)]
    if not seeds:
        return None
    wrong = {key: cells[key].wrong(seeds).astype(np.float64) for key in part.keys}
    values = np.zeros_like(wrong[part.keys[0]])
    for weight, key in part.weights:
        values += weight * wrong[key]
    pairs = tuple(float(wrong[pair.second].mean() - wrong[pair.first].mean()) for pair in part.pairs)
    return PartResult(part=part, estimate=estimate(values, reach=part.reach), interval=None, pairs=pairs)


def _with_intervals(result: ClaimResult, tail: float) -> ClaimResult:
    """Gives the parts the intervals that decide: for support each at the claim's level, against it all together."""
    parts = tuple(
        replace(one, interval=(one.estimate.end(tail / len(result.parts)), one.estimate.end(1 - tail)))
        for one in result.parts
    )
    return replace(result, parts=parts)


def _judge(result: ClaimResult, tail: float) -> ClaimResult:
    claim, parts = result.claim, result.parts
    low, high = np.array([one.interval for one in parts]).T
    sign = -1 if claim.no_gain else 1
    ends = (-high, -low) if claim.no_gain else (low, high)
    holds, fails = all_below(*ends, np.array([one.part.decides for one in parts]), sign * claim.threshold)
    chance = min(_power(claim, one.part, one.estimate.spread, tail) for one in parts if one.part.decides)
    result = replace(result, power=chance)
    if result.verdict:
        return result
    verdict = "supported" if holds else "contradicted" if fails else "undecided"
    reasons = [result.reason] if result.reason else []
    if verdict == "undecided" and chance < DECIDABLE:
        verdict = "untestable here"
        reasons.append("so many images and seeds would seldom show the paper's own difference")
    result = replace(result, verdict=verdict)
    if len(parts) > 1:
        reasons.append(f"hangs on {result.worst[0].part.title}")
    return replace(result, reason="; ".join(reasons))


def _power(claim: Claim, part: Part, spread: Spread, tail: float) -> float:
    """The chance that a part is shown at the paper's difference."""
    sign = -1 if claim.no_gain else 1  # what lies surely above a threshold is shown by the lower end
    in_paper = papers_differences(claim.name)[part.role]
    return power(sign * in_paper, spread, tail=tail, threshold=sign * claim.threshold)


@dataclass(frozen=True, kw_only=True)
class PlannedClaim:
    """Whether a claim can be decided, before anything is trained.

    Attributes:
        claim: what the paper says.
        in_paper: the smallest difference that it rests on in the paper, a fraction; None where nothing is compared.
        power: the chance of support at that difference; None where nothing is compared.
        reason: why nothing is compared; empty where something is.
    """

    claim: Claim
    in_paper: float | None = None
    power: float | None = None
    reason: str = ""

    @property
    def is_decidable(self) -> bool:
        return self.power is not None and self.power >= DECIDABLE

    def as_record(self) -> dict[str, Any]:
        return {
            "claim": self.claim.name,
            "in_paper": self.in_paper,
            "power": self.power,
            "decidable": self.is_decidable,
            "reason": self.reason,
        }


def plan_claims(keys: Sequence[CellKey], num_seeds: int, num_images: int) -> list[PlannedClaim]:
    """Says which claims so many images and seeds can decide, with spreads as other trainings had them."""
    found = [(claim, *claim.find(keys)) for claim in CLAIMS.values()]
    planned, tested = [], []
    for claim, parts, reason in found:
        if parts and num_seeds == 1:
            parts, reason = [], _ONCE
        if parts:
            tested.append((claim, parts))  # what is left out is said when there are results
        elif reason:
            planned.append(PlannedClaim(claim=claim, reason=reason))
    tail = LEVEL / 2 / max(1, len(tested))
    for claim, parts in tested:
        chances = {
            part: _power(claim, part, _expected(claim, part, num_seeds, num_images), tail)
            for part in parts
            if part.decides
        }
        least = min(chances, key=lambda part: chances[part])
        planned.append(
            PlannedClaim(claim=claim, in_paper=papers_differences(claim.name)[least.role], power=chances[least])
        )
    order = list(CLAIMS.values())
    return sorted(planned, key=lambda one: order.index(one.claim))


def _expected(claim: Claim, part: Part, num_seeds: int, num_images: int) -> Spread:
    """How far other seeds and images are to be expected to move a part."""
    seeds, images, both = (deviation**2 for deviation in claim.spread)
    of_seeds, of_images = part.relative_variance * (seeds + both / num_images), part.reach**2 * images
    with_both = of_images + part.relative_variance * both / num_seeds
    return Spread(of_seeds / num_seeds, with_both / num_images, num_seeds, num_images)
