"""A stylised picture is nearer to both of the pictures than the content was, and the verb writes it."""

import json

import numpy as np
import pytest
from PIL import Image

import verydeep
from conftest import scene
from small_nets import make_net
from verydeep.cli.main import VERBS
from verydeep.errors import UsageError
from verydeep.losses.options import StyliseOptions
from verydeep.losses.stylise import stylise


def test_the_loss_falls_and_the_picture_stays_a_picture():
    content, style = np.asarray(scene(0, 48, 40)), np.asarray(scene(1, 64, 33))
    told = []
    painted = stylise(content, style, make_net("D"), steps=6, progress=lambda *what: told.append(what))
    assert painted.pixels.shape == content.shape
    assert painted.pixels.dtype == np.uint8
    assert not np.array_equal(painted.pixels, content)
    assert painted.last_loss < 0.9 * painted.first_loss
    assert told[-1] == ("stylising", 6, 6)
    assert "AvgPool2d for max-pooling" in painted.description


def test_the_verb(tmp_path, monkeypatch, capsys):
    from verydeep.cli.app import run_verb

    monkeypatch.chdir(tmp_path)
    verydeep.save(make_net("D"), "small.safetensors")
    for name in ("a", "b"):
        scene(ord(name), 60, 50).save(f"{name}.png")
    given = ["stylise", "a.png", "b.png", "--model", "small.safetensors", "--scale", "32", "--steps", "2"]
    assert run_verb([*given, "--out", "c.png", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["out"], record["width"], record["height"], record["steps"]) == ("c.png", 38, 32, 2)
    with Image.open("c.png") as image:
        assert image.size == (38, 32)
    assert run_verb([*given, "--out", "c.jpg"]) == 0
    assert "c.jpg: 38x32, loss" in capsys.readouterr().out
    for out, message in (("c.gif", r"ends in \.jpg or \.png"), ("none/c.png", "there is no folder none")):
        with pytest.raises(UsageError, match=message):
            run_verb([*given, "--out", out])
    assert "stylise" in VERBS


@pytest.mark.parametrize("wrong", [{"scale": 8}, {"steps": 0}, {"style_weight": 0.0}, {"style_weight": float("nan")}])
def test_numbers_out_of_range(wrong):
    with pytest.raises(UsageError, match=f"--{next(iter(wrong)).replace('_', '-')} "):
        StyliseOptions(**wrong).check()
