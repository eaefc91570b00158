"""Tiles against the whole image, in float64; the score map against the net on single windows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from verydeep.evaluation.posteriors import dense_scores, features_with_ceiling, last_map
from verydeep.evaluation.tiling import map_macs, margin, mean_scores, spans, tiles
from verydeep.nets.net import VeryDeep


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


@pytest.mark.parametrize(("architecture", "pixels"), [("A", 64), ("B", 64), ("D", 96), ("E", 128), ("B-5x5", 64)])
def test_the_margin_is_what_a_place_sees_beyond_its_own_pixels(architecture, pixels):
    assert margin(VeryDeep(architecture, num_classes=2, initialisation=None).geometry) == pixels


@given(st.integers(32, 5000), st.sampled_from([64, 96, 128]), st.integers(32, 3000), st.booleans())
def test_spans_cover_every_place_once_and_fit(side, margin, most, ceil):
    found = spans(side, margin, most, ceil=ceil)
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
        ("A", 512, 640, False),
        ("A", 330, 545, False),
        ("A", 330, 545, True),
        ("A", 64, 1500, True),
        ("A", 1100, 70, False),
        ("A-LRN", 330, 400, False),
        ("D", 330, 545, True),
    ],
)
def test_tiles_give_the_scores_of_the_whole_image(architecture, height, width, ceil):
    net, images = make_net(architecture, batch_norm=architecture == "D"), images_of(height, width)
    rows, columns = tiles(net.geometry, height, width, ceil=ceil, most=320 * 320)
    assert len(rows) * len(columns) > (1 if height * width > 320 * 320 else 0)
    with torch.inference_mode():
        expected = features_with_ceiling(net, images) if ceil else net.features(images)
        found = last_map(net, images, ceil=ceil, most=320 * 320)
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)
        scores = net.head(expected).mean((2, 3))
        tiled = dense_scores(net, images, ceil=ceil, most=320 * 320)
    assert torch.allclose(tiled, scores, rtol=1e-10, atol=1e-10)


def test_too_small_a_margin_would_be_noticed():
    net, images = make_net("D"), images_of(512, 640)
    rows, columns = spans(512, 64, 320), spans(640, 64, 320)
    with torch.inference_mode():
        whole = net.features(images)
        part = net.features(images[:, :, rows[0].start : rows[0].stop, columns[0].start : columns[0].stop])
    last_row, last_column = rows[0].last, columns[0].last
    assert not torch.allclose(part[:, :, :last_row, :last_column], whole[:, :, :last_row, :last_column], rtol=1e-6)


@pytest.mark.parametrize("most", [1, 500, 3000, 10**9])
def test_the_mean_over_places_can_be_taken_in_parts(most):
    net = make_net()
    map_ = torch.rand(2, 64, 7, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.inference_mode():
        assert torch.allclose(mean_scores(net, map_, most), net.head(map_).mean((2, 3)), rtol=1e-12)


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
    geometry = VeryDeep("D", num_classes=2, initialisation=None).geometry
    rows, columns = tiles(geometry, 4000, 6000)
    for row in rows:
        for column in columns:
            assert (row.stop - row.start) * (column.stop - column.start) <= 2**21
    overlap = map_macs(geometry, 4000, 6000) / map_macs(geometry, 4000, 6000, most=10**9)
    assert 1 < overlap < 1.5
