"""Tiles against the whole image, in float64; the score map against the net on single windows."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from verydeep.device import fp32_choice
from verydeep.nets.net import VeryDeep
from verydeep.paper.constants import TOTAL_STRIDE
from verydeep.speed.tiling import head_in_parts, margin, pool5_map, score_map, spans, tiles, widest_margin
from verydeep.speed.torch_backend import TorchBackend, evaluated


def make_net(architecture="A", crop=64, batch_norm=True):
    generator = torch.Generator().manual_seed(0)
    net = VeryDeep(
        architecture, num_classes=3, crop=crop, width=0.125, batch_norm=batch_norm, generator=generator
    ).double().eval()  # fmt: skip
    for name, module in net.named_children():
        if name.startswith(("conv", "fc")):
            module.bias.data.uniform_(-1, 1, generator=generator)
    return net


def images_of(height, width, seed=0):
    return torch.randint(0, 256, (1, 3, height, width), generator=torch.Generator().manual_seed(seed)).double()


def pixels_of(images):
    return images.permute(0, 2, 3, 1).numpy().astype(np.uint8)


class Exact:
    """A backend in float64."""

    layers, num_classes = ("pool5", "fc8"), 3

    def __init__(self, net):
        self.net, self.crop, self.head_kernel = net, net.geometry.crop, net.geometry.head_kernel

    def maps(self, images, layer="fc8"):
        compute = self.net.features if layer == "pool5" else self.net.score_map
        with torch.inference_mode():
            return compute(torch.from_numpy(images).permute(0, 3, 1, 2).double()).numpy()

    def head(self, pool5_maps):
        with torch.inference_mode():
            return self.net.head(torch.from_numpy(pool5_maps)).numpy()


@pytest.mark.parametrize(("architecture", "pixels"), [("A", 64), ("B", 64), ("D", 96), ("E", 128), ("B-5x5", 64)])
def test_the_margin_is_what_a_place_sees_beyond_its_own_pixels(architecture, pixels):
    assert margin(VeryDeep(architecture, num_classes=2, initialisation=None).geometry) == pixels
    assert pixels <= widest_margin() == 128


@given(st.integers(32, 5000), st.sampled_from([64, 96, 128]), st.integers(32, 3000), st.booleans())
def test_spans_cover_every_position_once_and_fit(side, margin, most, ceil):
    found = spans(side, margin, most, rounds_up=ceil)
    places = -(-side // 32) if ceil else side // 32
    assert [place for span in found for place in range(span.first, span.last)] == list(range(places))
    for span in found:
        assert span.start % 32 == 0
        assert span.start == max(0, 32 * span.first - margin)
        assert span.stop == side if span.last == places else span.stop == min(side, 32 * span.last + margin)
        assert span.stop - span.start <= max(most, 2 * margin + 32) + 32 * (span.last == places)


@pytest.mark.parametrize(
    ("architecture", "height", "width", "ceil"),
    [
        pytest.param("A", 512, 640, False, marks=pytest.mark.slow),
        ("A", 330, 545, False),
        ("A", 330, 545, True),
        ("A", 64, 1500, True),
        ("A", 1100, 70, False),
        ("A-LRN", 330, 400, False),
        ("D", 70, 990, True),
        pytest.param("D", 330, 545, True, marks=pytest.mark.slow),
    ],
)
def test_tiles_give_the_scores_of_the_whole_image(architecture, height, width, ceil):
    net, images = make_net(architecture, batch_norm=architecture == "D"), images_of(height, width)
    backend, pixels = Exact(evaluated(net, rounds_up=True) if ceil else net), pixels_of(images)
    rows, columns = tiles(height, width, rounds_up=ceil, most=320 * 320)
    assert len(rows) * len(columns) > (1 if height * width > 320 * 320 else 0)
    expected = backend.maps(pixels, "pool5")
    found = pool5_map(backend, pixels, rounds_up=ceil, most=320 * 320)
    assert found.shape == expected.shape
    assert np.allclose(found, expected, rtol=1e-10, atol=1e-10)
    scores = backend.head(expected)
    tiled = score_map(backend, pixels, rounds_up=ceil, most=320 * 320)
    assert tiled.shape == scores.shape
    assert np.allclose(tiled, scores, rtol=1e-10, atol=1e-10)


def test_a_backend_gives_the_maps_of_its_net_and_leaves_its_mode():
    net, images = make_net().float().train(), images_of(96, 130)
    backend = TorchBackend(net, fp32_choice("cpu"))
    found = backend.maps(pixels_of(images))
    assert net.training
    assert found.dtype == np.float32
    with torch.inference_mode():
        expected = net.eval().score_map(images.float())
        assert np.allclose(found, expected, atol=1e-5)
        assert np.allclose(backend.head(backend.maps(pixels_of(images), "pool5")), expected, atol=1e-5)
    assert (backend.crop, backend.num_classes) == (64, 3)
    assert {"conv1_1", "relu3_2", "pool5", "fc8"} <= set(backend.layers)


def test_rounding_up_is_of_a_copy_that_shares_the_weights():
    net = make_net().float()
    twin = evaluated(net, rounds_up=True)
    assert twin.get_parameter("conv1_1.weight").data_ptr() == net.get_parameter("conv1_1.weight").data_ptr()
    images = images_of(65, 97).float()
    with torch.inference_mode():
        assert net.features(images).shape[2:] == (65 // TOTAL_STRIDE, 97 // TOTAL_STRIDE)
        assert twin.features(images).shape[2:] == (3, 4)


def test_too_small_a_margin_would_be_noticed():
    net, images = make_net("D"), images_of(512, 640)
    rows, columns = spans(512, 64, 320), spans(640, 64, 320)
    with torch.inference_mode():
        whole = net.features(images)
        part = net.features(images[:, :, rows[0].start : rows[0].stop, columns[0].start : columns[0].stop])
    last_row, last_column = rows[0].last, columns[0].last
    assert not torch.allclose(part[:, :, :last_row, :last_column], whole[:, :, :last_row, :last_column], rtol=1e-6)


@pytest.mark.parametrize("most", [1, 500, 3000, 10**9])
def test_the_score_map_can_be_computed_in_parts(most):
    backend = Exact(make_net())
    map_ = torch.rand(2, 64, 7, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64).numpy()
    assert np.allclose(head_in_parts(backend, map_, most), backend.head(map_), rtol=1e-12)


def unpadded_scores(net, window):
    """The same weights without padding."""
    x = net.normalise(window)
    for name, module in net.named_children():
        x = torch.nn.functional.conv2d(x, module.weight, module.bias) if name.startswith(("conv", "fc")) else module(x)
    return x


def test_an_inner_place_of_the_score_map_is_the_net_on_its_window_where_nothing_is_padded():
    net = make_net("A")
    images = images_of(320, 416)
    with torch.inference_mode():
        map_ = net.score_map(images)
        assert map_.shape[2:] == (9, 12)
        # a place sees 150 + 32 = 182 pixels: 59 before its own two cells of 32, and 59 behind them
        inner = [(row, column) for row in range(2, 7) for column in range(2, 10)]
        for row, column in inner:
            top, left = 32 * row - 59, 32 * column - 59
            window = images[:, :, top : top + 182, left : left + 182]
            only = unpadded_scores(net, window)
            assert only.shape[2:] == (1, 1)
            assert torch.allclose(only[0, :, 0, 0], map_[0, :, row, column], rtol=1e-10, atol=1e-12)


def test_memory_stays_bounded_for_a_large_photograph():
    rows, columns = tiles(4000, 6000)
    sizes = [(row.stop - row.start) * (column.stop - column.start) for row in rows for column in columns]
    assert max(sizes) <= 2**21
    assert 1 < sum(sizes) / (4000 * 6000) < 1.5
