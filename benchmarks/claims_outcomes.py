"""Made outcomes for `claims_simulation`: the designs that `tables` makes, and which images their tests get wrong.

An outcome is a latent number of an image, a net of a seed and a protocol; the image is got wrong where it is above a
threshold. It is a sum of normal numbers: of the image (shared by all), of the image for an architecture, for a net of a
seed, for a protocol, and for the test alone, and of the skill of a seed's net in all its tests and in each. Their
variances give the error, the correlations between tests and the spread over seeds that results/tables-*.jsonl have
(`python -m benchmarks.claims_spreads` prints those). The latent number of fused nets is the mean of theirs. The
thresholds make all errors alike, which is the null hypothesis.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from scipy.special import ndtri

from verydeep.paper.tables import FIXED_256, FIXED_384, JITTERED, Scales
from verydeep.tables.contrasts import CellKey
from verydeep.tables.grid import DENSE_AND_CROPS, TableNet

ERROR = 0.27
_IMAGE, _ARCHITECTURE, _NET, _PROTOCOL, _TEST = 0.85, 0.03, 0.08, 0.01, 0.03
"""Shares of the variance of a latent number; they sum to 1."""
USUAL, LARGE = 0.002, 0.014
"""Deviations over seeds of the error of a net, fractions: of most nets, and of E without batch norm."""
_OF_TEST = 0.5
"""Of the error in each test beyond that, as a share."""
FAILURES = 8
"""How much more the skill of a net varies that fails to train now and then."""
BAD = 0.05
"""How much worse a bad member of a fusion is, a fraction."""

THRESHOLD = float(ndtri(1 - ERROR))
_SLOPE = math.exp(-(THRESHOLD**2) / 2) / math.sqrt(2 * math.pi)
"""Change of the error for a change of 1 in the latent number."""


ONE_BAD = "two nets fused, one of them 5 points worse"
"""Everything is better than the second net, so that fusion may not be called better for that."""
ONE_FAILS = "beyond the assumption: one of two nets fails to train now and then"
"""The skill of the second net is exponentially distributed over the seeds."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is tested how often.

    Attributes:
        name: in words.
        claim: whose verdict.
        keys: the cells.
        num_seeds: of each net.
        num_images: that all are tested on.
        skill: deviation over seeds of the error of a net, a fraction.
    """

    name: str
    claim: str
    keys: tuple[CellKey, ...]
    num_seeds: int
    num_images: int
    skill: float = USUAL

    @property
    def latent_skill(self) -> float:
        """Deviation over seeds of the latent numbers of a net in all its tests."""
        return self.skill / _SLOPE

    @property
    def latent_test_skill(self) -> float:
        """The same of each test beyond that."""
        return _OF_TEST * self.latent_skill


def net(architecture: str, scales: Scales = FIXED_256) -> TableNet:
    return TableNet(name=architecture, architecture=architecture, batch_norm=False, crop=224, train_scale=scales)


def cells(nets: Sequence[TableNet], protocols: Sequence[str], *, fused: bool = False) -> tuple[CellKey, ...]:
    """The cells of nets, each by several protocols, and of all of them fused."""
    groups = [(one,) for one in nets] + ([tuple(nets)] if fused else [])
    return tuple(CellKey(group, name, _test_scales(group[0], name)) for group in groups for name in protocols)


def _test_scales(of: TableNet, protocol: str) -> tuple[int, ...]:
    low, high = of.train_scale
    middle = (low + high) // 2
    if protocol in ("single", "centre"):
        return (middle,)
    return (low, middle, high) if of.is_jittered else (low - 32, low, low + 32)


_SCALES = (FIXED_256, FIXED_384, JITTERED)
_DENSE = ("single", "multi-scale")
_ALL = (*_DENSE, "multi-crop", DENSE_AND_CROPS)
_JITTERED_D, _JITTERED_E = net("D", JITTERED), net("E", JITTERED)


def designs() -> Iterator[Design]:
    """The designs of the tables, with few images and with many."""
    pair = [_JITTERED_D, _JITTERED_E]
    by_scale = [(net("D", scales), net("E", scales)) for scales in _SCALES]
    depth = cells([net(name) for name in "ABDE"], ["single"])
    two = cells([net("C"), net("D")], ["single"])
    rows: list[tuple[str, str, Sequence[CellKey], Sequence[int]]] = [
        ("two nets, one protocol", "3x3", two, (2, 3, 5)),
        ("two nets, a gain of half a point", "lrn", cells([net("A"), net("A-LRN")], ["single"]), (3,)),
        (
            "two nets at three training scales",
            "3x3",
            cells([net(name, scales) for scales in _SCALES for name in "CD"], ["single"]),
            (3,),
        ),
        ("four nets, trend and steps", "depth", depth, (3,)),
        (
            "four nets at one training scale, two at three",
            "depth",
            depth + cells([one for nets in by_scale[1:] for one in nets], ["single"]),
            (3,),
        ),
        (
            "two nets, jitter against a fixed scale",
            "jitter",
            cells([net(name, scales) for scales in _SCALES[1:] for name in "AD"], ["single"]),
            (3,),
        ),
        ("one net, two protocols", "scales", cells([net("D")], _DENSE), (3,)),
        (
            "seven nets, two protocols",
            "scales",
            cells([net(name) for name in ("A", "A-LRN", "B", "B-5x5", "C", "D", "E")], _DENSE),
            (3,),
        ),
        ("two nets, two protocols", "crops", cells(pair, _ALL), (3,)),
        ("one net, better than either protocol", "both", cells(pair[:1], _ALL), (3,)),
        ("two nets, better than either protocol", "both", cells(pair, _ALL), (3,)),
        ("two nets fused, one protocol", "fusion", cells(pair, ["single"], fused=True), (3,)),
        ("two nets fused, four protocols", "fusion", cells(pair, _ALL, fused=True), (3,)),
        (ONE_BAD, "fusion", cells(pair, _ALL, fused=True), (3,)),
        (
            "two nets fused at three training scales",
            "fusion",
            [key for nets in by_scale for key in cells(nets, _DENSE, fused=True)],
            (3,),
        ),
        (ONE_FAILS, "3x3", two, (3, 5)),
    ]
    for name, claim, keys, seeds in rows:
        cases = [(1_000, USUAL), (10_000, USUAL)] + ([] if name == ONE_FAILS else [(1_000, LARGE)])
        for num_seeds, (num_images, skill) in itertools.product(seeds, cases):
            yield Design(
                name=name, claim=claim, keys=tuple(keys), num_seeds=num_seeds, num_images=num_images, skill=skill
            )
    for num_seeds in (2, 3, 5):
        yield Design(name=rows[0][0], claim="3x3", keys=two, num_seeds=num_seeds, num_images=10_000, skill=LARGE)


class Made:
    """Made outcomes of a design: latent numbers, of which those above a threshold are wrong."""

    def __init__(self, design: Design, generator: np.random.Generator) -> None:
        self.design, self._generator = design, generator
        alone = 1 + design.latent_skill**2 + design.latent_test_skill**2
        shared = _IMAGE + _PROTOCOL  # what different nets share of a latent number
        self.thresholds = {
            key: THRESHOLD * math.sqrt(alone if len(key.nets) == 1 else (alone + shared) / 2) for key in design.keys
        }

    def latent(self, trials: int) -> dict[CellKey, ndarray]:
        """Draws the latent numbers of each cell: trials, seeds, images."""
        design = self.design
        shape = (trials, design.num_seeds, design.num_images)
        image = self._normal(_IMAGE, trials, 1, design.num_images)
        by_protocol = {key.protocol: self._normal(_PROTOCOL, trials, 1, design.num_images) for key in design.keys}
        nets = list(dict.fromkeys(one for key in design.keys for one in key.nets))
        of_architecture = {
            name: self._normal(_ARCHITECTURE, trials, 1, design.num_images)
            for name in dict.fromkeys(one.architecture for one in nets)
        }
        of_net = {}
        for number, one in enumerate(nets):
            skill = self._generator.standard_normal((trials, design.num_seeds, 1), dtype=np.float32)
            if design.name == ONE_FAILS and number == len(nets) - 1:
                skill = FAILURES * (self._generator.standard_exponential(skill.shape, dtype=np.float32) - 1)
            of_net[one] = (
                image + of_architecture[one.architecture] + self._normal(_NET, *shape) + design.latent_skill * skill
            )
        found: dict[CellKey, ndarray] = {}
        for key in design.keys:
            if len(key.nets) == 1:
                skill = self._generator.standard_normal((trials, design.num_seeds, 1), dtype=np.float32)
                own = self._normal(_TEST, *shape) + design.latent_test_skill * skill
                found[key] = of_net[key.nets[0]] + by_protocol[key.protocol] + own
        for key in design.keys:
            if len(key.nets) > 1:
                members = [found[CellKey((one,), key.protocol, key.test_scales)] for one in key.nets]
                found[key] = sum(members[1:], members[0]) / len(members)
        return found

    def _normal(self, variance: float, *shape: int) -> ndarray:
        return math.sqrt(variance) * self._generator.standard_normal(shape, dtype=np.float32)
