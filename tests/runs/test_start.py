"""What a training begins with where nothing is said."""

import json

import pytest

import verydeep
from conftest import StopAfter
from small_nets import make_net
from verydeep.data.open import open_data
from verydeep.errors import UsageError
from verydeep.nets.model_card import make_card
from verydeep.runs.net import default_crop
from verydeep.runs.start import has_learnt


@pytest.mark.parametrize(("side", "crop"), [(32, 32), (100, 96), (256, 224), (400, 224)])
def test_the_crop_fits_the_images(side, crop, make_folder):
    assert default_crop(open_data(make_folder("photos", {"a": 10, "b": 10}, side))) == crop


@pytest.mark.parametrize(("name", "crop"), [("digits", 32), ("clothes", 128)])
def test_the_crop_fits_the_built_in_images(name, crop):
    assert default_crop(open_data(name)) == crop


def test_damaged_images_do_not_choose_the_crop(make_folder):
    root = make_folder("photos", {"a": 10, "b": 10}, 64)
    for file in root.rglob("a/*.png"):
        file.write_bytes(b"")
    assert default_crop(open_data(root)) == 64
    for file in root.rglob("*.png"):
        file.write_bytes(b"")
    assert default_crop(open_data(root)) == 224


@pytest.mark.parametrize(
    ("error", "num_images", "learnt"), [(0.0, 2, False), (0.0, 60, True), (0.6, 60, False), (0.3, 60, True)]
)
def test_a_net_is_recommended_by_an_error_on_images_enough(error, num_images, learnt):
    net = make_net("A", num_classes=3)
    card = make_card(net, errors={"split": "val", "top1_error": error, "num_images": num_images})
    assert has_learnt(card) is learnt
    assert not has_learnt(make_card(net))


@pytest.fixture
def timed(make_folder, tmp_path, monkeypatch, in_fp32):
    """Trains a recipe in a number of minutes; the time allows for fewer and fewer epochs."""
    monkeypatch.chdir(tmp_path)
    possible = iter((3, 2, 1))
    monkeypatch.setattr("verydeep.runs.start.epochs_in_time", lambda *_: next(possible))
    photos = make_folder("photos", {"dark": 24, "bright": 24})
    shape = {"batch_norm": True, "crop": 32, "width": 0.125, "batch_size": 16}

    def train(out, **options):
        given = options if "like" in options else {"recipe": "quick", "minutes": 5} | shape | options
        return verydeep.train(photos, out=out, **given)

    return train


def choice(run):
    return json.loads((run / "run.json").read_text())["choice"]


def epochs(run):
    return json.loads((run / "run.json").read_text())["recipe"]["epochs"]


def test_a_run_like_another_computes_as_it_did(timed, tmp_path):
    timed("first")
    file = tmp_path / "first/run.json"
    settings = json.loads(file.read_text())
    recorded = settings["choice"] | {"precision": "bf16", "kernel": False, "channels_last": False, "threads": 2}
    file.write_text(json.dumps(settings | {"choice": recorded}))
    timed("second", like="first")
    assert choice(tmp_path / "second") == recorded
    timed("asked", like="first", precision="fp32")
    assert choice(tmp_path / "asked")["precision"] == "fp32"
    file.write_text(json.dumps(settings | {"choice": recorded | {"device": "mps"}}))
    timed("elsewhere", like="first")
    assert choice(tmp_path / "elsewhere") == settings["choice"]


def test_a_run_like_another_has_its_epochs_whatever_the_machine_does_now(timed, tmp_path):
    first = timed("first")
    like = timed("second", like="first")
    again = timed("third", like="second")
    assert first.epochs == like.epochs == again.epochs == 3
    assert (tmp_path / "first/model.safetensors").read_bytes() == (tmp_path / "third/model.safetensors").read_bytes()
    assert epochs(tmp_path / "third") == 3
    assert timed("other").epochs == 2  # which is reckoned anew


def test_a_run_in_a_number_of_minutes_is_resumed_by_the_command_that_began_it(timed, tmp_path):
    assert not timed("run", reporter=StopAfter(1)).finished
    assert timed("run", resume=True).epochs == 3
    with pytest.raises(UsageError, match="epochs"):
        timed("run", resume=True, minutes=6)
