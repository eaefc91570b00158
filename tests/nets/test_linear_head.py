"""A linear head: a linear classifier of mean descriptors as a net, computed by every backend, saved and loaded."""

import numpy as np
import pytest
import torch

from conftest import scene
from small_nets import difference, make_net, photos
from verydeep import Classifier, UserError, VeryDeep, accelerate, load, save
from verydeep.errors import UsageError
from verydeep.nets.architecture import Geometry, find_architecture, head_macs, layers, score_positions
from verydeep.nets.graph import graph_of
from verydeep.nets.grow import grow
from verydeep.speed.backend import every_kind
from verydeep.speed.tiling import score_map
from verydeep.testing.classifier import score_map_at
from verydeep.weights.writers import TARGETS
from verydeep.weights.writers.target import Target


def linear_net(**kinds) -> VeryDeep:
    net = make_net(head="linear", **{"crop": 64} | kinds)
    net.set_input((120.0, 115.0, 100.0), (60.0, 60.0, 60.0))
    return net


@pytest.mark.parametrize("name", ["A", "A-LRN", "C", "B-5x5"])
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (96, 70)])
def test_the_score_is_a_linear_function_of_the_mean_descriptor(name, size):
    net, images = linear_net(name=name), photos(*size)
    with torch.no_grad():
        descriptors = net.features(images).mean((2, 3))
        expected = descriptors @ net.fc8.weight.flatten(1).T + net.fc8.bias
        assert torch.allclose(net(images), expected, atol=1e-5)
        assert net.score_map(images).shape[2:] == net.features(images).shape[2:]


def test_every_backend_computes_it():
    net, images = linear_net(batch_norm=True), photos(96, 70)
    with torch.no_grad():
        expected = net.score_map(images)
        for kind in every_kind():
            made, close = kind.make(net), 1e-5 if kind.precision == "fp32" else 0.02
            assert made.head_kernel == 1
            for shown in (images, images[:, :, :32, :32], images[:, :, :64, :64]):
                found = torch.from_numpy(made.maps(shown.permute(0, 2, 3, 1).contiguous().numpy()))
                assert difference(found, net.score_map(shown)) < close, kind.name
        assert difference(accelerate(net).score_map(images), expected) < 1e-5


def test_large_images_are_computed_in_parts():
    net = linear_net()
    backend = accelerate(net).backend
    images = photos(320, 448, 1).permute(0, 2, 3, 1).contiguous().numpy()
    assert np.allclose(score_map(backend, images, most=192 * 224), backend.maps(images), atol=1e-4)


def test_the_heat_map_starts_at_the_centre_of_the_first_32_pixels():
    found = score_map_at(accelerate(linear_net()).backend, np.asarray(scene(0, 160, 120)), 96)
    assert found.scores.shape == (7, 3, 4)
    assert found.first == (16, 16)


def test_a_file_keeps_the_head(tmp_path):
    net, images = linear_net(), photos(64, 64)
    net.classes, net.train_scale = tuple("abcdefg"), (64, 64)
    save(net, tmp_path / "linear.safetensors")
    again = load(tmp_path / "linear.safetensors")
    assert again.geometry == net.geometry
    assert torch.equal(again(images), net(images))
    assert Classifier(tmp_path / "linear.safetensors").predict(scene(1)).classes[0].name in net.classes
    assert load(tmp_path / "linear.safetensors", features_only=True).features(images).equal(net.features(images))


def test_figures_of_its_layers():
    row, _ = find_architecture("D")
    geometry = Geometry(architecture=row, crop=128, num_classes=10, head="linear")
    assert [layer.name for layer in layers(geometry)][-2:] == ["pool5", "fc8"]
    assert sum(layer.parameters for layer in layers(geometry)) == 14_714_688 + 5_130
    assert head_macs(geometry) == 5_120
    assert layers(geometry)[-1].macs == 16 * 5_120
    assert score_positions(geometry, 160, 200) == (5, 6)
    assert geometry.title == "D (VGG-16), crop 128, linear head"
    assert [step.name for step in graph_of(linear_net()).fully_connected] == ["fc8"]


def test_its_classifier_is_kept_for_the_same_classes_only():
    donor, net, paper = linear_net(), linear_net(seed=1), make_net(crop=64)
    donor.classes = net.classes = paper.classes = tuple("abcdefg")
    assert "fc8.weight" in grow(net, donor).copied
    assert "fc8.weight" in grow(paper, donor).new


def test_what_it_cannot_be():
    with pytest.raises(UsageError, match="unknown head 'conical': choose paper or linear"):
        VeryDeep("A", head="conical")
    with pytest.raises(UserError, match=r"too small for this net: rescale their shorter side to at least 32"):
        linear_net()(photos(31, 64))
    for target in TARGETS.values():
        with pytest.raises(UsageError, match="linear head"):
            full_width(target)


def full_width(target: Target) -> None:
    with torch.device("meta"):
        net = VeryDeep("D", head="linear", initialisation=None)
    target.check(net)
