"""The nets that come with the package: names for files inside it, or one line."""

import json
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch

from benchmarks.shipped_features import FIRST
from conftest import scene, unpacked
from verydeep.errors import UserError
from verydeep.nets.model_file import save
from verydeep.nets.net import IMAGENET_MEAN, VeryDeep
from verydeep.testing.evaluate import evaluate
from verydeep.weights import shipped
from verydeep.weights.resolve import load, read_card


def test_it_is_found_inside_the_package(tmp_path, monkeypatch):
    file = tmp_path / "shipped/verydeep-cifar10.safetensors"
    monkeypatch.setattr(shipped, "SHIPPED_FOLDER", file.parent)
    with pytest.raises(UserError, match=r"verydeep-cifar10 does not come with this copy .*: install a release"):
        load("verydeep-cifar10")
    file.parent.mkdir()
    net = VeryDeep("A", num_classes=10, crop=32, width=0.125, batch_norm=True).eval()
    save(net, file, precision="bf16")
    assert read_card("verydeep-cifar10").precision == "bf16"
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.allclose(load("verydeep-cifar10")(images), net(images), rtol=0.1, atol=0.02)


def test_what_ships_is_small_and_says_what_it_is():
    card = read_card("verydeep-cifar10")
    assert shipped.shipped_file("verydeep-cifar10").stat().st_size <= 8_000_000
    assert {result["protocol"] for result in card.results} == {"centre", "single", "multi-scale"}
    assert all(result["split"] == "test" for result in card.results)
    assert card.licence
    assert card.classes == (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip


# of all images ten may err by another rounding; of a thousand, three standard errors are a hundredth each
@pytest.mark.parametrize(
    ("of_a_class", "within"), [(100, 0.03), pytest.param(1000, 0.001, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_what_ships_errs_as_its_card_says(of_a_class, within, tmp_path):
    def wanted(name):
        file = PurePosixPath(name)
        return file.suffix == ".jpg" and int(file.stem) < (of_a_class if "test" in file.parts else 10)

    result = evaluate("verydeep-cifar10", unpacked("cifar10", tmp_path, wanted), protocol="centre")
    (said,) = [one for one in read_card("verydeep-cifar10").results if one["protocol"] == "centre"]
    assert said["num_images"] == 10_000
    assert len(result.labels) == 10 * of_a_class
    assert result.top1_error == pytest.approx(said["top1_error"], abs=within)
    assert result.top1_error < 0.13


def test_what_ships_predicts_without_a_network(verydeep, tmp_path, monkeypatch):
    monkeypatch.setenv("VERYDEEP_OFFLINE", "1")
    scene(1, 50, 40).save(tmp_path / "photo.png")
    status, out, _ = verydeep("predict", "verydeep-cifar10", tmp_path / "photo.png", "--json")
    assert status == 0
    ((answer,),) = [json.loads(out)["images"]]
    assert {ranked["name"] for ranked in answer["classes"]} <= set(read_card("verydeep-cifar10").classes)
    assert 0 < sum(ranked["posterior"] for ranked in answer["classes"]) <= 1 + 1e-6


def test_the_authors_convolutions_ship():
    card, net = read_card("vgg16-features"), load("vgg16-features")
    assert shipped.shipped_file("vgg16-features").stat().st_size < 29_500_000
    assert (card.precision, card.features_only, card.mean) == ("fp16", True, pytest.approx(IMAGENET_MEAN))
    assert "Creative Commons Attribution" in card.licence
    for layer, (weight, bias) in FIRST.items():
        module = net.get_submodule(layer)
        assert float(module.weight.detach().flatten()[0]) == pytest.approx(weight, rel=2**-11)
        assert float(module.bias.detach()[0]) == pytest.approx(bias, rel=1e-5)
    assert sum(tensor.numel() for tensor in net.parameters()) == 14_714_688


def test_convolutions_alone_are_a_model_where_maps_are_enough(verydeep, tmp_path):
    scene(1, 80, 64).save(tmp_path / "photo.png")
    picture = torch.from_numpy(np.array(scene(1, 80, 64))).permute(2, 0, 1)[None]
    assert load("vgg16-features").features(picture).shape == (1, 512, 2, 2)
    status, out, _ = verydeep("inspect", "vgg16-features")
    assert (status, "convolutions only" in out) == (0, True)
    status, _, err = verydeep("predict", "vgg16-features", tmp_path / "photo.png")
    assert status == 1
    assert "has no classes, only convolutions: train or transfer from it" in err
