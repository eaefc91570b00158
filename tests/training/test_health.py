"""Each finding of the convergence doctor, provoked; and a healthy training has none."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from verydeep.data.image_set import count_per_class
from verydeep.data.open import open_data
from verydeep.device import Compute
from verydeep.errors import UserError
from verydeep.images.augment import TrainingView
from verydeep.nets.net import VeryDeep
from verydeep.runs.fit import fit
from verydeep.runs.options import ComputeOptions
from verydeep.runs.resume import resume
from verydeep.training.callbacks import HealthCheck
from verydeep.training.health import (
    _why_stuck,
    first_not_finite,
    is_hopeless,
    is_stuck,
    silent_units,
    stuck_at_chance,
    watch,
)
from verydeep.training.loop import make_state
from verydeep.training.objective import Chance, chance_for, classification_for
from verydeep.training.recipe import find_recipe
from verydeep.training.run_folder import Run
from verydeep.training.state import Callback, Position, Sums

CHOICE = Compute(device="cpu", precision="fp32", channels_last=False, threads=1)


class Notes(Callback):
    def __init__(self):
        self.notes = []

    def note(self, text):
        if text.startswith(("convergence", "stopped")):
            self.notes.append(text)


def make_net(architecture="A", initialisation="kaiming", batch_norm=False):
    generator = torch.Generator().manual_seed(0)
    return VeryDeep(
        architecture, num_classes=3, crop=32, width=0.125, batch_norm=batch_norm, initialisation=initialisation,
        generator=generator,
    )  # fmt: skip


def trained(net, make_folder, tmp_path, **changes):
    photos = make_folder("photos", {"dark": 24, "grey": 24, "bright": 24})
    recipe = find_recipe("quick", **{"epochs": 4, "batch_size": 2} | changes)
    said = Notes()
    execution = ComputeOptions(device="cpu", precision="fp32")
    fit(net, photos, recipe=recipe, out=tmp_path / "run", execution=execution, reporter=said)
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    return said.notes, [finding["kind"] for line in log for finding in line["findings"]]


def test_a_healthy_training_has_no_findings(make_folder, tmp_path):
    assert trained(make_net(batch_norm=True), make_folder, tmp_path, batch_size=8, epochs=8) == ([], [])


def test_a_deep_net_from_small_noise_is_stuck_and_is_told_so_once(make_folder, tmp_path):
    notes, kinds = trained(make_net("D", "gaussian"), make_folder, tmp_path, epochs=10)
    assert kinds == ["stuck"] * 3  # in each epoch from the eighth on, of 26 updates each; one is the warm-up
    (note,) = notes
    assert "for 208 updates, no better than the 1.099 of a net that gives every image the same scores" in note
    assert "plain nets of 16 weight layers" in note
    assert "--batch-norm" in note


def state_of(net, position=None, **changes):
    name = changes.pop("name", "quick")
    recipe = replace(find_recipe("quick", **{"epochs": 40, "batch_size": 8} | changes), name=name)
    state = make_state(net, recipe, CHOICE, seed=0, num_images=1600, momentum={})
    state.position = position or state.position
    return state


def stuck_text(net, settings=None, **changes):
    position = Position(iteration=200, seen=1600, loss=1600 * math.log(3), flat=1200)
    return str(stuck_at_chance(state_of(net, position, **changes), Chance(math.log(3), 2 / 3), settings or {}))


def test_nothing_is_advised_that_is_on_already():
    plain = stuck_text(make_net("D"), initialisation="kaiming", warmup=0)
    assert all(word in plain for word in ("--batch-norm", "--initialise centred", "--set warmup=1", "learning_rate="))
    assert "--initialise" not in stuck_text(make_net("D"), initialisation="centred")
    assert "--initialise" not in stuck_text(make_net("D"), {"origin": {"model": "runs/a"}}, initialisation="kaiming")
    assert "warmup" not in stuck_text(make_net("D"), warmup=1)
    assert "warmup" not in stuck_text(make_net("D"), warmup=0, schedule="plateau")
    with_batch_norm = stuck_text(make_net("D", batch_norm=True), initialisation="kaiming")
    assert "--batch-norm" not in with_batch_norm
    assert "--initialise" not in with_batch_norm
    assert "verydeep doctor" in with_batch_norm


def test_a_recipe_for_trained_nets_says_so():
    assert "--init-from), or train with --recipe small-images" in stuck_text(make_net("D"), name="fine-tune")
    assert "small-images" not in stuck_text(make_net("D"), {"origin": {}}, name="fine-tune")
    assert "small-images" not in stuck_text(make_net("D"))


def test_growing_is_advised_at_the_papers_size_alone():
    assert "paper-chain-from-a" not in stuck_text(make_net("D"))
    with torch.device("meta"):
        full, shallow = (VeryDeep(name, num_classes=3, initialisation=None) for name in ("D", "A"))
    assert "paper-chain-from-a" in _why_stuck(full, find_recipe("paper"), {})[1]
    assert "paper-chain-from-a" not in _why_stuck(full, find_recipe("paper"), {"chain": {}})[1]
    assert "paper-chain-from-a" not in _why_stuck(full, find_recipe("paper"), {"origin": {}})[1]
    assert "paper-chain-from-a" not in _why_stuck(shallow, find_recipe("paper"), {})[1]


def test_chance_is_the_entropy_of_the_classes():
    assert chance_for(find_recipe("quick"), [5, 5, 5]) == Chance(pytest.approx(math.log(3)), pytest.approx(2 / 3))
    uneven = chance_for(find_recipe("quick"), [90, 10, 0])
    assert uneven.loss == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    assert uneven.error == pytest.approx(0.1)
    assert chance_for(find_recipe("quick", balance="sampling"), [90, 10]).loss == pytest.approx(math.log(2))
    assert chance_for(find_recipe("quick", balance="loss"), [90, 10]).loss == pytest.approx(math.log(2))


@pytest.mark.parametrize("changes", [{}, {"label_smoothing": 0.1}, {"balance": "loss", "label_smoothing": 0.2}])
def test_no_scores_that_are_the_same_for_all_images_have_a_lower_loss_than_chance(changes, make_folder):
    images = open_data(make_folder("photos", {"dark": 36, "grey": 18, "bright": 6})).train
    recipe = find_recipe("quick", **changes)
    objective, labels = classification_for(recipe, images), torch.from_numpy(images.labels)
    scores = torch.zeros(3, requires_grad=True)
    descent = torch.optim.LBFGS([scores], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        descent.zero_grad()
        mean = objective.loss(scores.expand(len(labels), 3), labels).mean()
        mean.backward()
        return mean

    descent.step(loss)
    assert loss().item() == pytest.approx(chance_for(recipe, count_per_class(images)).loss, abs=1e-5)


def sums(loss, error, images=6400, updates=100):
    return Sums(updates, images, loss * images, error * images)


def test_what_chance_explains():
    ten, uneven = Chance(math.log(10), 0.9), Chance(0.325, 0.1)
    assert ten.explains(sums(2.30, 0.90))
    assert ten.explains(sums(2.29, 0.895))
    assert not ten.explains(sums(2.20, 0.90)), "the loss is lower"
    assert not ten.explains(sums(2.30, 0.85)), "the error is lower"
    assert ten.explains(sums(2.30, 0.85, images=40)), "forty images say little"
    assert ten.explains(sums(30.0, 0.90)), "a net that has gone astray"
    assert uneven.explains(sums(0.325, 0.1)), "far below ln 2, and chance for these classes"
    assert not uneven.explains(sums(0.30, 0.1))


def test_windows_of_a_hundred_updates_span_epochs():
    chance, position = Chance(math.log(2), 0.5), Position()
    for epoch in range(5):
        assert position.flat == (0 if epoch < 3 else 120)
        position = replace(position, iteration=40, seen=400, loss=400 * math.log(2), score=200.0)
        position = watch(position, chance)
        assert position.at_chance
        position = Position.from_record(json.loads(json.dumps(position.as_record()))).next_epoch()
    learns = replace(position, iteration=40, seen=400, loss=40.0, score=20.0)
    assert not watch(learns, chance).at_chance
    assert watch(learns, chance).flat == 0


@pytest.mark.parametrize(
    ("epochs", "per_epoch", "warmup", "reported", "stopped"),
    [
        (1, 50, 0, 100, 500),
        (20, 391, 1, 391 + 391, 391 + 1955),  # 50,000 images, batches of 128
        (74, 5005, 0, 1_000, 20_000),  # the paper's
    ],
)
def test_when_it_speaks_and_when_it_stops(epochs, per_epoch, warmup, reported, stopped):
    for flat in (reported - 1, reported, stopped - 1, stopped):
        state = state_of(make_net(), Position(flat=flat), epochs=epochs, warmup=warmup, batch_size=1)
        state.num_images = per_epoch
        assert is_stuck(state) == (flat >= reported)
        assert is_hopeless(state) == (flat >= stopped)


def at_update(check, state, update, loss=1.0986, error=2 / 3):
    state.position = replace(
        state.position, iteration=update, seen=8 * update, loss=loss * 8 * update, score=error * 8 * update
    )
    check.after_update(state)


def test_it_speaks_within_the_first_epoch(make_folder, tmp_path):
    images, notes = open_data(make_folder("photos", {"dark": 9, "grey": 9, "bright": 9})).train, []
    view = TrainingView(crop=32, train_scale=(37, 37), mirror=True)
    chance = chance_for(find_recipe("quick"), count_per_class(images))
    check = HealthCheck(Run(tmp_path, {"options": {"stuck": "continue"}}), images, view, chance, notes.append)
    state = state_of(make_net(), epochs=40, warmup=0)
    state.num_images = 80_000
    for update in range(1, 2101):
        at_update(check, state, update)
        if update == 999:
            assert notes == []
    assert len(notes) == 1
    assert "for 1,000 updates" in notes[0]
    assert [finding["kind"] for finding in state.position.findings] == ["stuck"]

    state = state_of(make_net(), epochs=40, warmup=0, learning_rate=100)
    state.num_images = 80_000
    for parameter in state.net.parameters():
        state.optimiser.state[parameter]["momentum_buffer"] = torch.ones_like(parameter)
    notes.clear()
    at_update(check, state, 199, 0.5, 0.1)
    assert notes == []
    at_update(check, state, 200, 0.5, 0.1)
    assert len(notes) == 1
    assert "the rate is far too high" in notes[0]


@pytest.fixture
def impatient(monkeypatch):
    """Checks after every fourth update, and stops after twelve at chance."""
    for module in ("loop", "health", "callbacks"):
        monkeypatch.setattr(f"verydeep.training.{module}.UPDATES_BETWEEN_CHECKS", 4)
    monkeypatch.setattr("verydeep.training.health.FEWEST_UPDATES", 8)
    monkeypatch.setattr("verydeep.training.health.FEWEST_BEFORE_STOP", 12)
    monkeypatch.setattr("verydeep.training.health.MOST_BEFORE_STOP", 12)


@pytest.fixture
def still(make_folder, tmp_path):
    """Trains a net that cannot learn, as asked."""
    photos = make_folder("photos", {"dark": 24, "grey": 24, "bright": 24})
    recipe = find_recipe("quick", epochs=4, batch_size=9, warmup=0, learning_rate=0.01, dropout=0)

    def train(name, **options):
        said = Notes()
        options = {"device": "cpu", "precision": "fp32", "reporter": said} | options
        done = fit(make_net("D", "gaussian"), photos, recipe=recipe, out=tmp_path / name, **options)
        return done, said.notes

    return train


class StopAt(Callback):
    def __init__(self, update):
        self.update, self.at = update, 0

    def wants_stop(self):
        self.at += 1
        return self.at >= self.update


def outcome(run):
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [[finding["saw"] for finding in line["findings"]] for line in log], load_file(run / "checkpoint.safetensors")


def assert_same(first, second):
    assert first[0] == second[0]
    assert all(torch.equal(tensor, second[1][name]) for name, tensor in first[1].items())


def test_a_training_at_chance_is_stopped_and_goes_on_when_it_is_resumed(still, impatient, tmp_path):
    stopped, notes = still("stopped")
    assert not stopped.finished
    assert stopped.epochs == 2  # of six updates each; checked after the fourth
    assert len(notes) == 2
    assert "for 10 updates" in notes[0]
    assert "stopped, and saved: the loss has been 1.09" in notes[1]
    assert "for 16 updates" in notes[1]
    assert "train anew: " in notes[1]
    assert f"to go on anyway: verydeep train --resume --out {tmp_path / 'stopped'}" in notes[1]

    said = Notes()
    assert resume(tmp_path / "stopped", reporter=said).finished
    assert said.notes == []
    on, notes = still("on", stuck="continue")
    assert on.finished
    assert len(notes) == 1
    assert_same(outcome(tmp_path / "on"), outcome(tmp_path / "stopped"))


@pytest.mark.parametrize("update", [3, 6, 11, 15])
def test_an_interrupted_training_is_stopped_where_the_other_is(update, still, impatient, tmp_path):
    whole, notes = still("whole")
    cut, before = still("cut", callbacks=[StopAt(update)])
    assert not cut.finished
    said = Notes()
    again = resume(tmp_path / "cut", reporter=said)
    assert not again.finished
    assert [note.replace("/cut", "/whole") for note in before + said.notes] == notes
    assert again.epochs == whole.epochs
    assert_same(outcome(tmp_path / "whole"), outcome(tmp_path / "cut"))


def test_a_rate_far_too_high(make_folder, tmp_path):
    notes, kinds = trained(make_net(batch_norm=True), make_folder, tmp_path, learning_rate=0.7, batch_size=16)
    assert "rate-high" in kinds
    assert "--set learning_rate=0.07" in " ".join(notes)


def test_a_rate_far_too_low(make_folder, tmp_path):
    notes, kinds = trained(make_net(batch_norm=True), make_folder, tmp_path, learning_rate=1e-8)
    assert set(kinds) <= {"rate-low", "stuck"}
    assert "rate-low" in kinds
    assert "raise it" in " ".join(notes)


def test_units_that_never_fire():
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    net = make_net()
    assert silent_units(net, images, CHOICE) is None
    with torch.no_grad():
        net.get_submodule("conv3_2").bias[:28] = -1e6
    finding = silent_units(net.train(), images, CHOICE)
    assert net.training
    assert finding is not None
    assert "88% of the units of relu3_2" in finding.saw


def test_where_the_numbers_leave_the_range(make_folder, tmp_path):
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    net = make_net()
    assert first_not_finite(net, images, CHOICE) is None
    with torch.no_grad():
        net.get_submodule("conv4_2").weight.fill_(1e38)
    assert first_not_finite(net, images, CHOICE) == "conv4_2"
    with torch.no_grad():
        net.get_submodule("conv2_1").bias[0] = math.nan
    assert first_not_finite(net, images, CHOICE) == "conv2_1"
    with pytest.raises(UserError, match=r"NaN or infinity, first in .*--batch-norm"):
        trained(make_net(), make_folder, tmp_path, learning_rate=1e25, warmup=0)
