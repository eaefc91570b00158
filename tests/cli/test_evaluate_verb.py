"""Fusion, saved posteriors and comparisons as the command line gives them."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from conftest import picture
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.testing.result import load_posteriors

NAMES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photos(make_folder):
    return make_folder("photos", dict.fromkeys(NAMES, 12), side=50)


@pytest.fixture
def models(tmp_path):
    files = []
    for seed, architecture in enumerate(("A", "B")):
        generator = torch.Generator().manual_seed(seed)
        net = VeryDeep(architecture, num_classes=3, crop=32, width=0.125, batch_norm=True, generator=generator)
        net.classes = NAMES
        for name in ("fc6", "fc7", "fc8"):
            net.get_submodule(name).weight.data *= 6
        save(net, tmp_path / f"{architecture}.safetensors")
        files.append(f"{architecture}.safetensors")
    return files


def test_fusion_saved_and_from_saved_files_is_the_mean_by_hand(verydeep, photos, models):
    for model, protocol in zip(models, ("single", "multi-crop"), strict=True):
        status, out, err = verydeep(
            "evaluate", model, photos, "--protocol", protocol, "--save", f"{protocol}.st", "--json"
        )
        assert status == 0, err
        assert json.loads(out)["architecture"] == model[0]
    with safe_open("single.st", framework="np") as saved:
        assert saved.get_tensor("posteriors").dtype == np.float32
        assert saved.get_tensor("labels").dtype == np.int64
    one, two = load_posteriors("single.st"), load_posteriors("multi-crop.st")
    expected = (one.posteriors.astype(np.float64) + two.posteriors) / 2

    status, out, _ = verydeep("evaluate", "single.st", "multi-crop.st", "--json", "--save", "both.st")
    assert status == 0
    record = json.loads(out)
    assert np.allclose(load_posteriors("both.st").posteriors, expected, atol=1e-7)
    assert record["architecture"] == ["A", "B"]
    assert record["protocol"] == "single + multi-crop"
    assert record["top1_error"] == np.mean(expected.argmax(1) != one.labels)
    assert [member["architecture"] for member in record["members"]] == ["A", "B"]
    status, out, _ = verydeep("evaluate", "both.st", "--json")
    assert json.loads(out)["top1_error"] == record["top1_error"]

    status, out, _ = verydeep("evaluate", "single.st", models[1], photos, "--protocol", "multi-crop", "--json")
    mixed = json.loads(out)
    assert mixed["top1_error"] == record["top1_error"]


def test_models_are_fused_and_compared(verydeep, photos, models):
    status, out, _ = verydeep("evaluate", *models, photos, "--compare", "--per-class", "--json")
    assert status == 0
    record = json.loads(out)
    assert record["architecture"] == ["A", "B"]
    (pair,) = record["comparisons"]
    first, second = (member["top1_error"] for member in record["members"])
    assert pair["difference"] == pytest.approx(second - first)
    assert pair["only_second_wrong"] - pair["only_first_wrong"] == round((second - first) * record["num_images"])
    assert pair["corrected_p_value"] == pair["p_value"]
    assert list(record["class_errors"]) == list(NAMES)
    status, out, _ = verydeep("evaluate", *models, photos, "--compare", "--per-class")
    assert status == 0
    assert "fused" in out
    assert "McNemar" in out
    assert "top-1 error" in out


def test_a_test_of_one_position_says_so(verydeep, photos, models):
    _, _, err = verydeep("evaluate", models[0], photos, "--test-scales", 50)
    assert "single position" in err
    assert "--test-scales of 64 or more" in err
    _, _, err = verydeep("evaluate", models[0], photos, "--test-scales", 64)
    assert "single position" not in err
    _, _, err = verydeep("evaluate", models[0], photos, "--protocol", "centre")
    assert "single position" not in err


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("other data", "different data, photos and others"),
        ("other split", "different splits, test and val"),
        ("other images", "changed|different images"),
        ("other classes", "different classes: 'a' where the other has 'x'"),
        ("data of another kind", "different data, photos and others"),
        ("net without data", "Give DATA"),
        ("cut short", "cut short"),
    ],
)
def test_posteriors_of_other_images_are_refused_by_name(kind, complaint, verydeep, photos, models, make_folder):
    assert verydeep("evaluate", models[0], photos, "--save", "one.st")[0] == 0
    arguments = ["one.st", "two.st"]
    if kind in ("other data", "data of another kind"):
        others = make_folder("others", dict.fromkeys(NAMES, 12), side=50)
        assert verydeep("evaluate", models[0], others, "--save", "two.st")[0] == 0
        if kind == "data of another kind":
            arguments = ["one.st", others]
    elif kind == "other split":
        assert verydeep("evaluate", models[0], photos, "--save", "two.st", "--split", "val")[0] == 0
    elif kind == "other images":
        for number in range(40, 50):
            picture(number, 50, 50).save(photos / "a" / f"{number}.png")
        assert verydeep("evaluate", models[0], photos, "--save", "two.st")[0] == 0
    elif kind == "other classes":
        net = VeryDeep("A", num_classes=3, crop=32, width=0.125)
        net.classes = ("x", "y", "z")
        save(net, "x.safetensors")
        assert (
            verydeep("evaluate", "x.safetensors", make_folder("xyz", dict.fromkeys("xyz", 12)), "--save", "two.st")[0]
            == 0
        )
    elif kind == "net without data":
        arguments = [models[0], "one.st"]
    elif kind == "cut short":
        Path("two.st").write_bytes(Path("one.st").read_bytes()[:-9])
        arguments = ["two.st", photos]
    status, out, err = verydeep("evaluate", *arguments)
    assert status == (2 if kind == "net without data" else 1)
    assert out == ""
    assert len([line for line in err.splitlines() if line.startswith("verydeep: ")]) == 1
    import re

    assert re.search(complaint, err.splitlines()[-1]), err


def test_a_lower_precision_is_computed_and_said(verydeep, photos, models):
    def evaluated(precision, *more):
        status, out, err = verydeep(
            "evaluate", models[0], photos, "--precision", precision, "--json", "--save", f"{precision}.st", *more
        )
        assert status == 0, err
        return json.loads(out), load_posteriors(f"{precision}.st")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a processor without bf16 products is told so
        (_, exact), (record, rounded) = evaluated("fp32"), evaluated("bf16")
        upwards, _ = evaluated("bf16", "--protocol", "caffe")
    assert np.allclose(exact.posteriors, rounded.posteriors, atol=0.05)
    assert not np.array_equal(exact.posteriors, rounded.posteriors)
    assert record["precision"] == upwards["precision"] == rounded.members[0].precision == "bf16"
    assert rounded.title.endswith(" in bf16")
    assert "caffe, bf16" in verydeep("evaluate", "bf16.st")[1]
    assert evaluated("auto")[0]["precision"] in ("fp32", "bf16")
    mixed = json.loads(verydeep("evaluate", "fp32.st", "auto.st", "--json")[1])
    assert mixed["precision"].startswith("fp32")
    status, _, err = verydeep("evaluate", models[0], photos, "--precision", "int8")
    assert (status, err) == (2, "verydeep: precision int8: choose one of fp32, bf16, auto\n")
