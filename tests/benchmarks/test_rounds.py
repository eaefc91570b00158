"""Contenders take turns, and what a row says follows from the times."""

import time
from pathlib import Path

import pytest
import torch

from benchmarks.compare.contender import (
    Absent,
    Bench,
    Case,
    Contender,
    LeftOutError,
    Options,
    read_options,
    scores_error,
)
from benchmarks.compare.rounds import prepared, rows_of, time_rounds
from verydeep.errors import UsageError


def ignore(what: str, done: int, total: int) -> None:
    pass


def contender(name: str, seconds: float = 0.0, called: list[str] | None = None, **kinds) -> Contender:
    def call() -> torch.Tensor:
        time.sleep(seconds)
        if called is not None:
            called.append(name)
        return torch.tensor([1.0 + seconds])

    return Contender(name=name, make=lambda: call, **kinds)


def failing(error: Exception, **kinds) -> Contender:
    def make():
        raise error

    return Contender(name="peer 1", make=make, package="the-peer", **kinds)


def test_turns():
    called: list[str] = []
    contenders = tuple(contender(name, called=called) for name in "abc")
    timed = time_rounds(Case(name="x", contenders=contenders, images=1, rounds=2, warm=False, pause=0), 2, ignore)
    assert called == list("abcabc")
    assert {name: len(taken) for name, taken in timed.seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_an_untimed_call_comes_first():
    called: list[str] = []
    case = Case(name="x", contenders=(contender("a", 0.15, called=called),), images=1, rounds=3, pause=0)
    timed = time_rounds(case, 3, ignore)
    assert len(called) == 6
    assert len(timed.seconds["a"]) == 3


def test_a_short_call_is_repeated_and_a_row_is_of_one():
    called: list[str] = []
    case = Case(name="x", contenders=(contender("a", 0.01, called=called),), images=1, rounds=2, pause=0)
    (row,) = rows_of(case, time_rounds(case, 2, ignore), {}, {})
    assert 6 <= len(called) <= 22
    assert 0.01 <= row.seconds < 0.03


def test_rows():
    contenders = (
        contender("ours", 0.01, is_ours=True),
        contender("peer", 0.03),
        contender("slow", 0.05),
        contender("part", 0.001, compared=False),
    )
    case = Case(
        name="batch 2",
        contenders=contenders,
        images=2,
        rounds=3,
        macs=10**9,
        errors=scores_error(torch.ones(1, dtype=torch.float64)),
        pause=0,
    )
    timed = time_rounds(case, 3, ignore)
    rows = {row.name: row for row in rows_of(case, timed, {"fp32": 1000.0}, {"ours": 123})}
    assert rows["peer"].ratio_to_best_peer == 1  # the fastest that counts and is not ours
    assert rows["part"].ratio_to_best_peer is None
    assert rows["ours"].ratio_to_best_peer == pytest.approx(rows["peer"].seconds / rows["ours"].seconds)
    assert 1.5 < rows["ours"].ratio_to_best_peer < 4
    assert rows["slow"].relative_error == pytest.approx(0.05, rel=1e-3)
    assert rows["ours"].peak_memory_bytes == 123
    for row in rows.values():
        assert row.slowest <= row.images_per_second <= row.fastest
        assert row.images_per_second == pytest.approx(2 / row.seconds)
        # two operations a multiplication, of 1000 thousand millions a second
        assert row.share_of_product_peak == pytest.approx(2e9 * row.images_per_second / 1e12)
    found = Bench(options=Options(what="inference"), rows=tuple(rows.values()), absent=(), product_peak_gflops={})
    (summary,) = found.cases
    assert (summary.ours, summary.best_peer) == ("ours", "peer")
    assert found.ratio_to_best_peer == rows["ours"].ratio_to_best_peer


def test_without_peers_there_is_no_ratio():
    case = Case(name="x", contenders=(contender("ours", is_ours=True),), images=1, rounds=1, pause=0)
    rows = rows_of(case, time_rounds(case, 1, ignore), {}, {})
    found = Bench(options=Options(what="inference"), rows=tuple(rows), absent=(), product_peak_gflops={})
    assert found.ratio_to_best_peer is None
    assert found.cases[0].best_peer is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModuleNotFoundError("No module named 'the_peer'", name="the_peer"), "not installed: pip install the-peer"),
        (
            ModuleNotFoundError("No module named 'other'", name="other.part"),
            "not installed: pip install the-peer (other is missing)",
        ),
        (LeftOutError("it has no such net"), "it has no such net"),
        (RuntimeError("broken\nat length"), "failed: broken"),
    ],
)
def test_a_peer_that_cannot_be_prepared_is_named(error, reason):
    assert prepared(failing(error)) == Absent(name="peer 1", package="the-peer", reason=reason)


def test_ours_must_work():
    with pytest.raises(RuntimeError, match="broken"):
        prepared(failing(RuntimeError("broken"), is_ours=True))


@pytest.mark.parametrize("good", [0, 1, 3])
def test_a_peer_that_fails_at_a_call_is_named_and_the_others_go_on(good):
    called: list[str] = []

    def call() -> torch.Tensor:
        if called.count("peer 1") == good:
            raise RuntimeError("broken\nat length")
        called.append("peer 1")
        return torch.ones(1)

    peer = Contender(name="peer 1", make=lambda: call, package="the-peer")
    contenders = (contender("ours", called=called, is_ours=True), peer, contender("peer 2", called=called))
    case = Case(name="x", contenders=contenders, images=1, rounds=5, warm=False, pause=0)
    timed = time_rounds(case, 5, ignore)
    assert timed.absent == (Absent(name="peer 1", package="the-peer", reason="failed: broken"),)
    assert timed.seconds.keys() == timed.outputs.keys() == {"ours", "peer 2"}
    assert called.count("ours") == called.count("peer 2") == 5
    assert [row.name for row in rows_of(case, timed, {}, {})] == ["ours", "peer 2"]


def test_ours_that_fails_at_a_call_ends_it():
    def call() -> None:
        raise RuntimeError("broken")

    case = Case(name="x", contenders=(Contender(name="ours", make=lambda: call, is_ours=True),), images=1, rounds=1)
    with pytest.raises(RuntimeError, match="broken"):
        time_rounds(case, 1, ignore)


def test_options_survive_json(tmp_path):
    options = Options(what="dense", batches=(1, 8), data=tmp_path, rounds=3)
    assert read_options(options.as_record()) == options


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"what": "speed"}, "speed: choose one of inference, training"),
        ({"precision": "fp8"}, "--precision fp8: choose one of fp32, bf16"),
        ({"rounds": 0}, "--rounds 0: give 1 or more"),
        ({"batches": (8, 0)}, "--batch 0: give 1 or more"),
        ({"crop": 0}, "--crop 0: give a multiple of 32"),
        ({"crop": 48}, "--crop 48: give a multiple of 32"),
        ({"model": "runs/one", "crop": 64}, "--model has its own architecture, crop, width and batch norm"),
        ({"model": "runs/one", "architecture": "E"}, "--model has its own architecture, crop, width and batch norm"),
        ({"what": "pipeline", "model": "runs/one"}, "pipeline has no use for --model: leave it out"),
        ({"what": "pipeline", "width": 0.5, "batches": (8,)}, "pipeline has no use for --width, --batch: leave"),
        ({"what": "pipeline", "architecture": "E"}, "pipeline has no use for --architecture: leave it out"),
        ({"what": "pipeline", "precision": "bf16"}, "pipeline has no use for --precision: leave it out"),
        ({"what": "predict", "batches": (8,)}, "predict has no use for --batch: leave it out"),
        ({"what": "dense", "batches": (8,)}, "dense has no use for --batch: leave it out"),
        ({"what": "training", "data": Path("photos")}, "training has no use for --data: leave it out"),
        ({"what": "inference", "photographs": 8}, "inference has no use for --photographs: leave it out"),
        ({"photographs": -1}, "--photographs -1: give 1 or more"),
    ],
)
def test_wrong_options(change, message):
    with pytest.raises(UsageError) as refused:
        Options(**{"what": "inference", **change}).check()
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        {"what": "inference", "model": "runs/one", "batches": (8,), "precision": "int8", "data": Path("photos")},
        {"what": "training", "architecture": "E", "crop": 32, "width": 0.5, "batches": (8,), "batch_norm": True},
        {"what": "pipeline", "crop": 64, "data": Path("photos"), "photographs": 8, "rounds": 2, "memory": False},
        {"what": "predict", "model": "runs/one", "precision": "auto", "photographs": 8, "threads": 2},
        {"what": "dense", "architecture": "A", "data": Path("photos"), "tuned": False},
    ],
)
def test_right_options(given):
    Options(**given).check()
