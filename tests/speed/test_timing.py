"""What the backends of a machine do with a net is measured, and one that breaks ends no other."""

import pytest

from small_nets import make_net
from verydeep.speed import timing
from verydeep.speed.backend import every_kind
from verydeep.speed.timing import BATCHES, measure_backends

pytestmark = pytest.mark.filterwarnings("ignore:computing with torch instead of verydeep's kernel")  # no compiler


@pytest.mark.parametrize("features_only", [False, True])
def test_every_backend_is_measured(features_only):
    told = []
    rows = measure_backends(make_net("D", features_only=features_only), lambda *progress: told.append(progress))
    assert [row.backend for row in rows] == [kind.name for kind in every_kind()]
    for row in rows:
        assert row.failure is None
        assert row.images_per_second.keys() == set(BATCHES)
        assert min(row.images_per_second.values()) > 0
        assert row.relative_error is not None
        assert 0 < row.relative_error < (1e-5 if row.precision == "fp32" else 2e-2)
    for precision in ("fp32", "bf16", "auto"):
        (taken,) = [row for row in rows if precision in row.taken_for]
        assert precision in (taken.precision, "auto")
    for what in ("preparing backends", "timing batches of 1", "timing batches of 8"):
        done, total = next(progress[1:] for progress in reversed(told) if progress[0] == what)
        assert done == total


def test_a_backend_that_breaks_is_named_with_its_reason(monkeypatch):
    def broken(net):
        raise RuntimeError("no such\n instruction")

    monkeypatch.setattr("verydeep.speed.torch_backend.TorchBf16Backend", broken)
    monkeypatch.setattr(timing, "_ROUNDS", 1)
    rows = {row.failure: row for row in measure_backends(make_net(), lambda *_: None)}
    failed = rows.pop("no such instruction")
    assert failed.backend.startswith("PyTorch ")
    assert (failed.images_per_second, failed.relative_error) == ({}, None)
    assert rows.keys() == {None}
