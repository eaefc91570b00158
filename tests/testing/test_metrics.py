"""Error rates against scikit-learn, intervals against a published example."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import recall_score, top_k_accuracy_score

from verydeep.testing.metrics import class_errors, interval95, top_error


@given(st.integers(0, 2**32 - 1), st.integers(6, 20), st.integers(1, 60), st.sampled_from([1, 5]))
def test_top_errors_are_scikit_learns(seed, classes, count, top):
    generator = np.random.default_rng(seed)
    posteriors = generator.random((count, classes)).astype(np.float32)
    labels = generator.integers(0, classes, count)
    expected = 1 - top_k_accuracy_score(labels, posteriors, k=top, labels=np.arange(classes))
    assert top_error(posteriors, labels, top) == pytest.approx(expected)


@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(1, 60))
def test_class_errors_are_scikit_learns_recalls(seed, classes, count):
    generator = np.random.default_rng(seed)
    posteriors = generator.random((count, classes)).astype(np.float32)
    labels = generator.integers(0, classes, count)
    recalls = recall_score(labels, posteriors.argmax(1), labels=np.arange(classes), average=None, zero_division=np.nan)
    for error, recall in zip(class_errors(posteriors, labels), recalls, strict=True):
        assert (error is None) == np.isnan(recall)
        assert error is None or error == pytest.approx(1 - recall)


def test_top5_of_fewer_classes_is_none():
    assert top_error(np.eye(4, dtype=np.float32), np.arange(4), 5) is None
    assert top_error(np.eye(5, dtype=np.float32), np.arange(5), 5) == 0


def test_a_net_that_says_the_same_of_all_classes_is_wrong():
    same = np.full((10, 10), 0.1, dtype=np.float32)
    assert top_error(same, np.zeros(10, dtype=np.int64), 1) == 1
    assert top_error(same, np.arange(10), 1) == 1


def test_nan_is_never_right():
    posteriors = np.full((3, 6), np.nan, dtype=np.float32)
    assert top_error(posteriors, np.zeros(3, dtype=np.int64), 1) == 1


def test_wilson_interval():
    assert interval95(0.1, 100) == pytest.approx((0.0552, 0.1744), abs=2e-4)
    assert interval95(0.0, 359)[0] == 0
    assert 0.005 < interval95(0.0, 359)[1] < 0.011
    assert interval95(1.0, 10)[1] == pytest.approx(1)
