"""Descriptors: what they are by a slow loop, in chunks, of large images in tiles, and what is refused."""

import numpy as np
import pytest
import torch

from conftest import scene
from small_nets import make_net
from verydeep import UserError
from verydeep.data.image_set import array_images
from verydeep.device import fp32_choice
from verydeep.errors import UsageError
from verydeep.images.geometry import rescale
from verydeep.speed.tiling import layer_map, pooled_map
from verydeep.speed.torch_backend import TorchBackend
from verydeep.testing import chunks
from verydeep.testing.descriptors import Describer, DescriptorOptions, describe

SIZES = [(90, 70), (70, 90), (90, 70), (64, 64), (130, 65), (1, 1), (70, 90)]


@pytest.fixture
def images():
    arrays = {
        f"{number}": np.asarray(scene(number, *size)) if min(size) > 3 else np.full((1, 1, 3), 90, np.uint8)
        for number, size in enumerate(SIZES)
    }
    return array_images("test", ("one",), np.zeros(len(SIZES), int), "made", arrays)


def by_hand(net, pixels, layer, scales, *, pool="mean", mirror=True, combine="stack", normalise=True):
    def unit(vector):
        return vector / vector.norm() if normalise else vector

    at_scales = []
    for scale in scales:
        view = torch.from_numpy(rescale(pixels, scale, 32).copy()).permute(2, 0, 1)[None]
        both = [view, view.flip(3)] if mirror else [view]
        maps = [net.activations(one, [layer])[layer].double().detach() for one in both]
        pooled = [one.amax((2, 3)) if pool == "max" else one.mean((2, 3)) for one in maps]
        at_scales.append(unit(torch.stack(pooled).mean(0)[0]))
    return unit(torch.cat(at_scales) if combine == "stack" else torch.stack(at_scales).mean(0)).numpy()


CASES = [
    {},
    {"layer": "pool5", "test_scales": (64, 96), "mirror": False},
    {"test_scales": (64, 32), "combine": "average"},
    {"pool": "max", "normalise": False},
    {"layer": "relu3_1", "test_scales": (64,)},
    {"layer": "fc7"},
]


@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("features_only", [False, True])
def test_descriptors_are_what_a_slow_loop_computes(images, options, features_only):
    net = make_net("A", features_only=features_only)
    if features_only and options.get("layer") == "fc7":
        pytest.skip("the net has none")
    found = describe([net], images, DescriptorOptions(**options))
    layer = options.get("layer") or ("pool5" if features_only else "relu7")
    others = {key: value for key, value in options.items() if key not in ("layer", "test_scales")}
    for index in range(len(images)):
        expected = by_hand(net, images.pixels(index), layer, options.get("test_scales", (37,)), **others)
        np.testing.assert_allclose(found[index], expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


def test_several_nets_are_stacked_and_share_views(images, monkeypatch):
    nets = [make_net("A", seed=0, features_only=True), make_net("B", seed=1, features_only=True)]
    nets[1].mirror = False
    scales = DescriptorOptions(test_scales=(64,))
    both = describe(nets, images, scales)
    single = [describe([net], images, scales) for net in nets]
    np.testing.assert_allclose(both, np.concatenate(single, 1) / np.sqrt(2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, rtol=1e-5)


def test_chunks_change_nothing_but_rounding(images, monkeypatch):
    net = make_net("A", batch_norm=True)
    whole = describe([net], images)
    monkeypatch.setattr(chunks, "CHUNK", 3)
    np.testing.assert_allclose(describe([net], images), whole, rtol=1e-5, atol=1e-6)
    one_by_one = Describer([net]).of([images.pixels(index) for index in range(len(images))])
    np.testing.assert_allclose(one_by_one, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", ["relu1_1", "conv3_1", "pool4", "pool5", "relu7"])
@pytest.mark.parametrize("maximum", [False, True])
def test_a_large_image_is_described_tile_by_tile(layer, maximum):
    net = make_net("A", crop=64)
    backend = TorchBackend(net, fp32_choice("cpu"))
    images = np.stack([np.asarray(scene(seed, 512, 416)) for seed in range(2)])
    where = layer_map(net.geometry, layer)
    whole = pooled_map(backend, images, where, maximum=maximum)
    tiles = pooled_map(backend, images, where, maximum=maximum, most=420 * 420)
    np.testing.assert_allclose(tiles, whole, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_described_is_refused_in_one_line(images):
    net = make_net("A", crop=64)
    with pytest.raises(UsageError, match=r"no layer 'relu3_9' in .*did you mean .*relu3_"):
        Describer([net], DescriptorOptions(layer="relu3_9"))
    with pytest.raises(UsageError, match="test scale 32 is too small for relu7: give 64 or more"):
        Describer([net], DescriptorOptions(test_scales=(32,)))
    with pytest.raises(UsageError, match="test scale 31 is too small for pool5: give 32 or more"):
        Describer([net], DescriptorOptions(layer="pool5", test_scales=(31,)))
    with pytest.raises(UsageError, match="given twice"):
        Describer([net], DescriptorOptions(test_scales=(64, 64)))
    long = array_images("test", ("one",), np.zeros(1, int), "made", {"strip": np.zeros((1, 30_000, 3), np.uint8)})
    with pytest.raises(UserError, match="made/strip: an image of 30000x1 pixels is a strip"):
        describe([net], long)
