"""The fastest way is measured once, and remembered."""

import json
import time
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor

from small_nets import make_net
from verydeep import VeryDeep
from verydeep.errors import UserError
from verydeep.nets.graph import Backend
from verydeep.speed import choosing
from verydeep.speed.accelerate import Accelerated
from verydeep.speed.choosing import Candidate, choose, measure


class Slow(Backend):
    """Computes nothing, for a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.calls = seconds, 0

    def features(self, images: Tensor) -> Tensor:
        self.calls += 1
        time.sleep(self.seconds)
        return torch.zeros(len(images), 64, 1, 1)

    def head(self, map_: Tensor) -> Tensor:
        return torch.zeros(len(map_), 7, 1, 1)


@pytest.fixture
def net() -> VeryDeep:
    return make_net()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("VERYDEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "speed"


def candidates(*, slow: float = 0.02, fast: float = 0.002) -> tuple[list[Candidate], Slow, Slow]:
    first, second = Slow(slow), Slow(fast)
    return [Candidate("first", lambda _: first), Candidate("second", lambda _: second)], first, second


def test_the_fastest_is_chosen_and_remembered(net, cache):
    both, first, second = candidates()
    chosen = choose(net, both)
    seconds = chosen.seconds
    assert chosen.candidate.name == "second"
    assert chosen.computes is second
    assert seconds.keys() == {"first", "second"}
    assert 0.02 <= seconds["first"] < 0.2
    assert first.calls == second.calls == 6  # one to begin with, then five rounds by turns
    (file,) = cache.iterdir()
    record = json.loads(file.read_text())
    assert record["seconds"] == seconds
    assert record["candidates"] == ["first", "second"]

    turned, first, second = candidates(slow=0, fast=0.01)
    again = choose(net, turned)
    assert (again.candidate.name, again.seconds, first.calls + second.calls) == ("second", seconds, 0)


def test_another_net_other_threads_or_other_candidates_are_measured_anew(net, cache, monkeypatch):
    both, _, _ = candidates()
    choose(net, both)
    choose(make_net(crop=64), both)
    choose(net, [*both, Candidate("third", lambda _: Slow(0))])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    choose(net, both)
    assert len(list(cache.iterdir())) == 4


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "null", '{"seconds": {}}', '{"seconds": {"first": "soon"}}', '{"seconds": {"fifth": 1}}', "\xff"],
)
def test_a_damaged_cache_is_measured_anew(net, cache, damage):
    both, _, _ = candidates()
    before = choose(net, both).seconds
    (file,) = cache.iterdir()
    file.write_text(damage, encoding="latin-1")
    chosen = choose(net, both)
    assert chosen.candidate.name == "second"
    assert chosen.seconds != before
    assert json.loads(file.read_text())["seconds"] == chosen.seconds


def test_a_cache_that_cannot_be_written_changes_nothing(net, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VERYDEEP_CACHE", str(tmp_path / "file"))
    assert choose(net, candidates()[0]).candidate.name == "second"


def test_one_alone_is_not_measured(net, cache):
    (only, _), first, _ = candidates()
    chosen = choose(net, [only])
    assert (chosen.candidate, chosen.computes, chosen.seconds) == (only, first, {})
    assert first.calls == 0
    assert not cache.exists()


def test_one_that_cannot_be_used_is_left_out_and_named(net):
    def fail(_: VeryDeep) -> Slow:
        raise RuntimeError("no such\ninstruction")

    broken, (_, fast) = Candidate("broken", fail), candidates()[0]
    with pytest.warns(UserWarning, match="broken cannot be used: no such instruction"):
        assert choose(net, [broken, fast]).candidate is fast
    with pytest.raises(UserError, match="no such instruction"), pytest.warns(UserWarning, match="broken cannot"):
        measure(net, [broken, broken])


def test_what_was_measured_is_made_once_and_the_losers_are_let_go(net):
    made: list[weakref.ref[Slow]] = []

    def candidate(name: str, seconds: float) -> Candidate:
        def make(_: VeryDeep) -> Slow:
            slow = Slow(seconds)
            made.append(weakref.ref(slow))
            return slow

        return Candidate(name, make)

    chosen = choose(net, [candidate("first", 0.02), candidate("second", 0.002)])
    fast = Accelerated(net, chosen.candidate, chosen.seconds, chosen.computes)
    fast.score_map(torch.zeros(1, 3, 32, 32))
    first, second = made
    assert first() is None
    assert second() is chosen.computes


def test_a_remembered_one_that_cannot_be_made_any_more_is_measured_anew(net, cache):
    def fail(_: VeryDeep) -> Slow:
        raise RuntimeError("no such instruction")

    both, _, _ = candidates()
    choose(net, both)
    now = [both[0], Candidate("second", fail)]
    with pytest.warns(UserWarning, match="second cannot be used: no such instruction"):
        chosen = choose(net, now)
    assert chosen.candidate.name == "first"
    (file,) = cache.iterdir()
    assert json.loads(file.read_text())["seconds"].keys() == {"first"}
    assert choose(net, now).candidate.name == "first"


def test_slow_ones_are_measured_in_fewer_rounds(net, monkeypatch):
    monkeypatch.setattr(choosing, "_SECONDS", 0.0)
    both, first, _ = candidates()
    measure(net, both)
    assert first.calls == 2
