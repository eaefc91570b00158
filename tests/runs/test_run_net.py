"""The net of a training follows the net that it begins from, unless something else is asked for."""

import json
from pathlib import Path

import pytest
import torch

from verydeep.errors import UsageError
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.runs.net import make_net, settle
from verydeep.runs.options import TrainOptions
from verydeep.training.state import Callback
from verydeep.weights.resolve import load


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch, process_as_it_is, in_fp32):
    monkeypatch.chdir(tmp_path)


def source(architecture="B", **kinds):
    generator = torch.Generator().manual_seed(0)
    kinds = {"num_classes": 3, "width": 0.125, "crop": 64, "batch_norm": True} | kinds
    net = VeryDeep(architecture, generator=generator, **kinds).eval()
    save(net, Path("source.safetensors"))
    return net


def made(data, **options):
    return make_net(data, TrainOptions(init_from="source.safetensors", **options), Callback())[0]


@pytest.fixture
def photos(make_folder):
    return make_folder("photos", {"dark": 24, "bright": 24}, side=64)


def test_everything_follows_from_the_source(photos, verydeep):
    before = source()
    status, _, err = verydeep(
        "train", photos, "--recipe", "fine-tune", "--epochs", 1, "--init-from", "source.safetensors", "--out", "run"
    )
    assert status == 0
    assert "new fc8\n" in err  # and nothing else
    assert load("run").geometry.title == before.geometry.title
    options = json.loads(Path("run/run.json").read_text())["options"]
    assert (options["architecture"], options["batch_norm"], options["width"]) == ("B", True, 0.125)


def test_what_is_asked_for_wins_where_it_can(photos):
    source()
    grown = made(photos, architecture="D", crop=32).geometry
    assert (grown.architecture.name, grown.batch_norm, grown.crop, grown.width) == ("D", True, 32, 0.125)
    assert made(photos, architecture="vgg16_bn", batch_norm=True, width=0.125).geometry.batch_norm


def test_the_crop_follows_where_layers_depend_on_it(photos):
    source(features_only=True)
    assert made(photos).geometry.crop == 64
    assert made("digits").geometry.crop == 32
    source(head="linear")
    linear = made(photos).geometry
    assert (linear.head, linear.crop) == ("linear", 64)


@pytest.mark.parametrize(
    ("kinds", "options", "complaint"),
    [
        ({}, {"width": 0.25}, "--width 0.25: the net in --init-from source.safetensors has width 0.125: leave out"),
        ({"batch_norm": False}, {"batch_norm": True}, "the net in --init-from source.safetensors has no batch norm"),
        ({"batch_norm": False}, {"architecture": "vgg13_bn"}, "has no batch norm"),
        ({}, {"batch_norm": False}, "has batch norm"),
    ],
)
def test_a_contradiction_is_one_line(kinds, options, complaint, photos):
    source(**kinds)
    with pytest.raises(UsageError, match=complaint):
        made(photos, **options)


def test_without_a_source_it_is_plain_a():
    options = settle(TrainOptions())
    assert (options.architecture, options.batch_norm, options.width) == ("A", False, 1.0)
    assert settle(options) == options
