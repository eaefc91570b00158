"""Fully connected layers of any width, and localisers: computed by every backend, saved, loaded, shown and refused."""

import json

import pytest
import torch

from small_nets import difference, make_net, photos
from verydeep import Classifier, UserError, accelerate, load, save
from verydeep.errors import UsageError
from verydeep.nets.architecture import ARCHITECTURES, Geometry, layers
from verydeep.nets.boxes_card import BoxesCard
from verydeep.nets.model_card import card_facts
from verydeep.speed.backend import every_kind
from verydeep.weights.imported import find_net
from verydeep.weights.resolve import read_card
from verydeep.weights.writers import TARGETS


def test_hidden_channels_are_those_of_fc6_and_fc7():
    geometry = Geometry(architecture=ARCHITECTURES["D"], num_classes=4, hidden=256)
    rows = {layer.name: layer for layer in layers(geometry)}
    assert [rows[name].channels for name in ("fc6", "relu6", "drop7", "fc7", "fc8")] == [256, 256, 256, 256, 4]
    assert rows["fc6"].parameters == 512 * 49 * 256 + 256
    assert geometry.title == "D (VGG-16), 256 hidden channels"
    assert Geometry(architecture=ARCHITECTURES["D"]).hidden_channels == 4096


@pytest.mark.parametrize("wrong", [{"hidden": 0}, {"hidden": 10**6}, {"hidden": 256, "head": "linear"}])
def test_hidden_channels_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match="hidden channels"):
        Geometry(architecture=ARCHITECTURES["A"], **wrong)


@pytest.mark.parametrize("hidden", [256, 40, 7])
def test_every_backend_computes_any_number_of_hidden_channels(hidden):
    net = make_net("A", crop=64, hidden=hidden, num_classes=12)
    net.set_input((120.0, 115.0, 100.0), (60.0, 60.0, 60.0))
    with torch.no_grad():
        for kind in every_kind():
            made, close = kind.make(net), 1e-5 if kind.precision == "fp32" else 0.02
            for shown in (photos(64, 64), photos(96, 130)):
                found = torch.from_numpy(made.maps(shown.permute(0, 2, 3, 1).contiguous().numpy()))
                assert difference(found, net.score_map(shown)) < close, kind.name
        assert difference(accelerate(net).score_map(photos(96, 130)), net.score_map(photos(96, 130))) < 1e-5


def test_a_model_file_keeps_the_hidden_channels(tmp_path):
    net = make_net("B", hidden=96)
    save(net, tmp_path / "net.safetensors")
    loaded = load(tmp_path / "net.safetensors")
    assert loaded.geometry == net.geometry
    with torch.no_grad():
        assert torch.equal(loaded(photos(32, 32)), net(photos(32, 32)))


def test_files_of_other_programs_may_have_other_hidden_channels():
    net = make_net("D", hidden=96, width=0.25)
    assert find_net(dict(net.named_parameters())).geometry == net.geometry


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_programs_that_cannot_hold_them_are_refused_in_a_line(target):
    net = make_net("D", width=1.0, crop=224, hidden=8)
    with pytest.raises(UsageError, match="fc6 and fc7 have 4096 channels, and those of this net 8"):
        target.check(net)


def test_inspect_shows_them(tmp_path, verydeep):
    save(make_net("A", hidden=96), tmp_path / "net.safetensors")
    _, shown, _ = verydeep("inspect", tmp_path / "net.safetensors", "--json")
    assert json.loads(shown)["hidden"] == 96
    assert "96 hidden channels" in verydeep("inspect", tmp_path / "net.safetensors")[1]


@pytest.fixture
def localiser(tmp_path):
    net = make_net("A", hidden=64, num_classes=8)
    net.boxes = BoxesCard(regression="pcr", classes=("cat", "dog"), classifier="runs/pets")
    save(net, tmp_path / "boxes.safetensors")
    return tmp_path / "boxes.safetensors"


def test_a_localiser_is_a_model_file(localiser):
    assert load(localiser).boxes == BoxesCard(regression="pcr", classes=("cat", "dog"), classifier="runs/pets")
    facts = card_facts(read_card(localiser))
    assert facts["classes"] == (
        "none of its own: its outputs are a box for each class (PCR) of cat, dog; scored by runs/pets"
    )


def test_outputs_that_are_no_boxes_of_its_classes_are_refused(localiser, tmp_path):
    net = load(localiser)
    card = read_card(localiser).model_copy(update={"boxes": BoxesCard(regression="pcr", classes=("cat",))})
    save(net, tmp_path / "wrong.safetensors", card=card)
    with pytest.raises(UserError, match="8 outputs for 4 numbers of boxes"):
        load(tmp_path / "wrong.safetensors")


def test_classification_refuses_a_localiser_in_a_line(localiser, tmp_path, verydeep, make_folder):
    with pytest.raises(UserError, match=r"this net is a localiser.*verydeep localise predict"):
        Classifier(localiser)
    folder = make_folder("pets", {"cat": 6, "dog": 6})
    for arguments in (["evaluate", localiser, folder], ["predict", localiser, folder / "cat" / "0.png"]):
        status, _, error = verydeep(*arguments)
        assert status == 1
        assert "localise predict" in error
        assert error.count("\n") == 1


def test_another_last_layer_is_none_of_boxes(localiser):
    net = load(localiser)
    net.reset_classifier(3)
    assert net.boxes is None
    assert net.geometry.hidden == 64
