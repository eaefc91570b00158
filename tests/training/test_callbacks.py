"""Callbacks of the user: called beside the loop's own, and their exceptions cost nothing but the time."""

import json

import pytest
import torch
from safetensors.torch import load_file

import verydeep
from small_nets import fit_small
from verydeep.device import Compute
from verydeep.errors import UserError
from verydeep.runs.options import TrainOptions
from verydeep.training.recipe import find_recipe
from verydeep.training.state import TrainState

pytestmark = pytest.mark.usefixtures("every_update")


@pytest.fixture
def photos(make_folder):
    return make_folder("photos", {"dark": 24, "bright": 24})


class Diary(verydeep.Callback):
    """Writes down what it sees."""

    def __init__(self, name, diary):
        self.name, self.diary = name, diary

    def before_training(self, state):
        self.diary.append((self.name, "begin", state.recipe.name))

    def after_update(self, state):
        self.diary.append((self.name, "update", state.position.iteration))

    def after_epoch(self, state):
        self.diary.append((self.name, "epoch", state.record["val_top1_error"]))

    def after_training(self, state):
        self.diary.append((self.name, "end", state.finished))


def test_each_is_called_in_its_order_after_the_checkpoint_is_written(photos, tmp_path):
    diary = []

    class Look(verydeep.Callback):
        def after_epoch(self, state):
            log = (tmp_path / "run/log.jsonl").read_text().splitlines()
            assert json.loads(log[-1]) == state.record
            assert len(log) == state.record["epoch"]

    assert fit_small(photos, tmp_path / "run", callbacks=[Diary("a", diary), Look(), Diary("b", diary)]).finished
    of_a = [entry[1:] for entry in diary if entry[0] == "a"]
    assert of_a == [entry[1:] for entry in diary if entry[0] == "b"]
    assert [kind for kind, _ in of_a] == ["begin", *3 * ["update", "update", "update", "epoch"], "end"]
    assert of_a[0] == ("begin", "quick")
    assert of_a[-1] == ("end", True)
    assert [name for name, kind, _ in diary if kind == "epoch"] == ["a", "b"] * 3


@pytest.mark.parametrize(
    ("hook", "number", "epoch", "update"),
    [
        ("before_training", 1, 0, 1), ("after_update", 1, 0, 2), ("after_update", 2, 1, 0), ("after_update", 4, 1, 2),
        ("after_epoch", 1, 1, 0), ("wants_stop", 2, 0, 2), ("wants_stop", 4, 1, 0),
    ],
)  # fmt: skip
def test_an_exception_ends_a_training_that_can_be_resumed(hook, number, epoch, update, photos, tmp_path):
    calls = []

    def fail(self, *state):
        calls.append(1)
        if len(calls) == number:
            raise ZeroDivisionError("no more")

    wrong = type("Wrong", (verydeep.Callback,), {hook: fail})()
    diary = []
    with pytest.raises(UserError) as raised:
        fit_small(photos, tmp_path / "cut", callbacks=[wrong, Diary("a", diary)])
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert str(raised.value) == (
        f"Wrong.{hook} raised ZeroDivisionError: no more; the training is saved after epoch {epoch}, update {update}: "
        f"mend the callback, then resume with verydeep.resume, or verydeep train --resume --out {tmp_path / 'cut'}"
    )
    assert diary[-1] == ("a", "end", False)
    assert len(calls) == number

    assert verydeep.resume(tmp_path / "cut", callbacks=[Diary("b", diary)]).finished
    assert diary[-1] == ("b", "end", True)
    fit_small(photos, tmp_path / "whole")
    whole, cut = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "cut"))
    assert all(torch.equal(tensor, cut[name]) for name, tensor in whole.items())


def test_a_state_is_printed_without_its_weights():
    net = verydeep.VeryDeep("A", num_classes=2, crop=32, width=0.05)
    optimiser, images = torch.optim.SGD(net.parameters(), lr=0.1), torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    compute = Compute(device="cpu", precision="fp32", channels_last=False, threads=1)
    state = TrainState(
        net=net, recipe=find_recipe("quick"), compute=compute, seed=0, num_images=2, optimiser=optimiser, images=images
    )
    assert "num_images=2" in repr(state)
    assert "Convolution" not in repr(state)
    assert "tensor(" not in repr(state)


def test_without_tensorboard_there_is_one_line(photos, tmp_path, verydeep, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, out, err = verydeep("train", photos, "--log", "tensorboard", "--out", tmp_path / "run")
    assert (status, out) == (1, "")
    assert err == ("verydeep: --log tensorboard needs the package tensorboard: pip install 'verydeep[tensorboard]'\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_the_curves(photos, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Stop(verydeep.Callback):
        left = 5

        def after_update(self, state):
            self.left -= 1

        def wants_stop(self):
            return self.left <= 0

    options = TrainOptions(log="tensorboard").as_record()
    assert options["log"] == "tensorboard"
    assert not fit_small(photos, tmp_path / "run", log="tensorboard", callbacks=[Stop()]).finished
    assert verydeep.resume(tmp_path / "run").finished
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 10))
    errors = [event.value for event in events.Scalars("epoch/val_top1_error")]
    assert errors == pytest.approx([line["val_top1_error"] for line in log])
