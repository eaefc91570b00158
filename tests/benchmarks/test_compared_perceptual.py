"""What is timed beside each other computes the same."""

import warnings

import pytest

from benchmarks.compare.contender import Options
from benchmarks.compare.perceptual import Perceptual
from verydeep.errors import UsageError


def test_all_contenders_of_a_case_compute_the_same():
    for case in Perceptual(Options(what="perceptual", crop=32, batches=(2,))).cases():
        outputs = {}
        for contender in case.contenders:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torchvision, about how they call it
                outputs[contender.name] = contender.make()()
        first, *others = outputs.values()
        for other in others:
            assert other.shape == first.shape
            assert (other - first).norm() < 1e-4 * first.norm(), case.name


def test_the_usual_cases():
    names = [case.name for case in Perceptual(Options(what="perceptual")).cases()]
    assert len(names) == 14
    assert names[:2] == ["LPIPS, forward, 256 px, batch 4", "LPIPS, forward and gradient, 256 px, batch 4"]
    assert names[6] == "relu3_3, 256 px, batch 4"


def test_the_ratio_of_memory_is_to_the_leanest_peer():
    class Row:
        def __init__(self, case: str, ours: bool, peak: int) -> None:
            self.case, self.is_ours, self.compared, self.peak_memory_bytes = case, ours, True, peak

    rows = [Row("a", True, 5), Row("a", False, 10), Row("a", False, 20), Row("b", True, 6), Row("b", False, 10)]
    assert Perceptual(Options(what="perceptual")).extra(rows) == {"memory_over_leanest_peer": 0.6}


def test_in_float32_alone():
    with pytest.raises(UsageError, match="fp32"):
        Perceptual(Options(what="perceptual", precision="bf16"))
