"""The recipe auto, from the command to the model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import verydeep as package
from conftest import StopAfter
from verydeep.data.open import open_data
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.runs.auto_start import START
from verydeep.runs.plan import Plan
from verydeep.weights.resolve import load, read_card

TINY = ("--init-from", "tiny.safetensors", "--crop", 64, "--minutes", 1, "--epochs", 2)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch, process_as_it_is):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("verydeep.runs.auto.SMALL_VALIDATION", 0)
    net = VeryDeep(
        "A", num_classes=1, width=0.125, crop=64, features_only=True, generator=torch.Generator().manual_seed(0)
    )
    net.set_input((120, 120, 120), (60, 60, 60))
    save(net, Path("tiny.safetensors"))


@pytest.fixture
def photos(make_folder):
    return make_folder("photos", {"dark": 24, "grey": 24, "bright": 24}, side=64)


def settings(run="run"):
    return json.loads((Path(run) / "run.json").read_text())


def train(photos, **options):
    return package.train(photos, init_from="tiny.safetensors", crop=64, minutes=1, epochs=2, **options)


def test_the_bare_command_plans_trains_and_says_what_it_did(photos, verydeep):
    status, out, err = verydeep("train", photos, *TINY, "--out", "run")
    assert status == 0
    plan = Plan.from_record(settings()["plan"])
    assert plan.reasons
    assert all(reason in err for reason in plan.reasons)
    assert "linear classifier:" in err
    assert "can be used from now on" in err
    assert plan.then == "fine-tune"
    assert f"{plan.then}: " in err
    assert "top-1 error" in out
    result = json.loads(Path("run/result.json").read_text())
    assert result["kept"] in ("linear classifier", "fine-tune")
    assert load("run").classes == ("bright", "dark", "grey")
    assert read_card("run").errors["protocol"] == "single"
    assert verydeep("evaluate", "run", photos)[0] == 0


def test_equal_commands_give_equal_models(photos):
    train(photos, out="a")
    package.train(photos, like="a", out="b")
    assert settings("a")["plan"] == settings("b")["plan"]
    assert Path("a/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()


def test_a_stopped_run_goes_on_to_the_same_weights(photos):
    train(photos, out="whole")
    stopped = package.train(photos, like="whole", out="cut", reporter=StopAfter(1))
    assert not stopped.finished
    assert package.resume("cut").finished
    assert Path("whole/model.safetensors").read_bytes() == Path("cut/model.safetensors").read_bytes()


def test_a_model_stands_in_the_folder_before_training_begins(photos):
    found = []

    class Notes(package.Callback):
        def note(self, text):
            if text.startswith("linear classifier:"):
                found.append(load("run").geometry.head)

        def before_training(self, state):
            found.append(state.position.epoch)

    train(photos, out="run", reporter=Notes())
    assert found == ["linear", 0]


def test_where_validation_is_small_cross_validation_decides(photos, monkeypatch):
    monkeypatch.setattr("verydeep.runs.auto.SMALL_VALIDATION", 200)
    train(photos, out="run")
    result = json.loads(Path("run/result.json").read_text())
    assert result["compared_on"] == "51 training images in cross-validation"
    assert read_card("run").selected_on is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--no-validation",), "auto compares on the validation images"),
        (("--devices", 2), "auto runs in one process"),
        (("--minutes", 0), "--minutes 0: give a number of minutes"),
        (("--keep", "best"), "auto keeps what a comparison shows"),
        (("--train-scale", 64), "auto trains on views of one size"),
        (("--architecture", "B"), "auto keeps the net of --init-from as it is"),
    ],
)
def test_what_cannot_be_kept_is_refused(photos, verydeep, options, says):
    status, _, err = verydeep("train", photos, "--init-from", "tiny.safetensors", *options, "--out", "run")
    assert status == 2
    assert says in err
    assert not Path("run").exists()


def test_the_plan_alone_writes_nothing(photos, verydeep):
    status, out, _ = verydeep("train", photos, *TINY, "--plan")
    assert status == 0
    assert "size: 64 pixels: as asked" in out
    assert not Path("runs").exists()


def test_the_net_that_ships_is_the_start():
    assert load(START).features_only


def test_a_damaged_image_is_left_out_of_the_look_as_of_the_training(photos, verydeep):
    Path(open_data(photos).train.where(0)).write_bytes(b"")
    status, _, err = verydeep("train", photos, *TINY, "--out", "run")
    assert (status, err.count("--damaged skip")) == (1, 1)
    status, _, err = verydeep("train", photos, *TINY, "--out", "run", "--damaged", "skip")
    assert status == 0, err
    assert "left out 1 damaged image" in err


def test_the_plan_of_a_run_like_another_is_that_of_the_other(photos, verydeep):
    train(photos, out="a")
    status, out, err = verydeep("train", photos, "--like", "a", "--plan", "--json")
    assert status == 0, err
    assert Plan.from_record(json.loads(out)) == Plan.from_record(settings("a")["plan"])


def test_images_that_their_mirror_images_contradict_are_tested_without(tmp_path, monkeypatch):
    monkeypatch.setattr("verydeep.runs.auto_run.SMALL_VALIDATION", 0)
    random = np.random.default_rng(0)
    for name, first in {"left": 200, "right": 60}.items():
        folder = tmp_path / "arrows" / name
        folder.mkdir(parents=True)
        for number in range(24):
            pixels = np.full((64, 64, 3), first, np.uint8)
            pixels[:, 32:] = 260 - first
            pixels += random.integers(0, 40, pixels.shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    notes = []

    class Notes(package.Callback):
        def note(self, text):
            notes.append(text)

    run = train(tmp_path / "arrows", out="run", reporter=Notes())
    assert [text for text in notes if text.startswith("mirror images: not used by tests and predictions")]
    assert not run.net.mirror
    assert not load("run").mirror
    assert read_card("run").errors["top1_error"] == 0
