"""Which nets are trained out."""

import numpy as np
import pytest
from test_rows import net, result

from verydeep.tables.rows import TableResults, row_of
from verydeep.tables.trained import training_ends

D = net("D")


def ends(rows, trainings=()):
    return training_ends(TableResults(about={}, rows=rows, trainings=list(trainings)))


def row(error, seed=0, protocol="centre", **record):
    made = row_of(result(np.arange(1000) < 1000 * error, protocol), [D], seed)
    made.record.update(record)
    return made


def training(errors, seed=0):
    return {"net": vars(D), "seed": seed, "log": [{"train_error": error, "val_top1_error": 0.4} for error in errors]}


def test_the_last_fifth_of_the_epochs_gives_the_slope():
    errors = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.26, 0.25]
    found = ends([row(0.3), row(0.28, protocol="single")], [training(errors)])[D]
    assert (found.error, found.held_out, found.num_seeds) == (0.25, 0.4, 1)
    assert found.slope == pytest.approx(-0.01)
    assert not found.is_trained_out  # a point an epoch


@pytest.mark.parametrize(
    ("error", "slope", "out"),
    [(0.20, -0.001, True), (0.29, -0.001, False), (0.20, -0.02, False), (0.20, None, False), (0.27, 0.0, True)],
)
def test_trained_out_is_below_the_test_error_and_still(error, slope, out):
    record = {"training_error": error, "training_error_slope": slope}
    assert ends([row(0.3, **record)])[D].is_trained_out == out


def test_the_mean_over_seeds_and_rows_before_logs():
    rows = [row(0.3, seed, training_error=error, training_error_slope=0.0) for seed, error in enumerate((0.1, 0.2))]
    found = ends(rows, [training([0.9, 0.9])])[D]
    assert found.error == pytest.approx(0.15)
    assert found.held_out == pytest.approx((0.4 + 0.3) / 2)  # the second has no log
    assert found.num_seeds == 2


def test_what_is_not_known_is_left_out():
    assert ends([row(0.3)]) == {}
    assert ends([row(0.3)], [training([0.5])])[D].slope is None
