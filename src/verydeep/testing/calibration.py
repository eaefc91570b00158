"""Temporary."""

from numpy import ndarray

from verydeep.nets.net import VeryDeep


def folded_temperature(net: VeryDeep, scores: ndarray, labels: ndarray) -> float:
    """Temporary."""
    return 1.0
