"""Heat maps: their positions against bilinear interpolation by hand, and their colours."""

import numpy as np
from PIL import Image

from verydeep.report.heatmap import HeatMap, colour_table


def test_positions_lie_where_bilinear_interpolation_by_hand_puts_them():
    scores = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32) * 4
    made = HeatMap(scores, first=(18.0, 33.5), size=(110, 101), step=16)
    size = (61, 56)
    levels = made.levels(size).astype(float)
    scaled = 255 * (scores - scores.min()) / (scores.max() - scores.min())
    for y in range(size[1]):
        for x in range(size[0]):
            row = np.clip(((y + 0.5) * 101 / 56 - 33.5) / 16, 0, 2)
            column = np.clip(((x + 0.5) * 110 / 61 - 18.0) / 16, 0, 4)
            i, j = min(int(row), 1), min(int(column), 3)
            down, right = row - i, column - j
            expected = (
                (1 - down) * ((1 - right) * scaled[i, j] + right * scaled[i, j + 1])
                + down * ((1 - right) * scaled[i + 1, j] + right * scaled[i + 1, j + 1])
            )  # fmt: skip
            assert abs(levels[y, x] - expected) < 0.6


def test_colours_get_lighter_all_the_way_and_a_flat_map_is_not_stretched():
    table = colour_table().astype(float)
    assert table.shape == (256, 3)
    luminance = table @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > -0.6).all()
    assert luminance[-1] - luminance[0] > 150
    flat = HeatMap(np.array([[1.0, 1.01]], np.float32), first=(16, 16), size=(48, 40), step=8)
    assert np.ptp(flat.levels((48, 40))) <= 3


def test_a_map_has_the_size_of_its_image_and_its_highest_score_is_yellow():
    made = HeatMap(np.array([[0.0, 9.0]], np.float32), first=(16, 16), size=(64, 32))
    over = np.asarray(made.over(Image.new("RGB", (128, 64), "black"))).astype(int)
    assert over.shape == (64, 128, 3)
    blue, yellow = over[32, 4], over[32, -4]
    assert blue[2] > blue[0]
    assert yellow[0] > yellow[2]
