"""Heat maps: the scores against a slow loop, their places against bilinear interpolation by hand, and the files."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import picture
from verydeep.errors import UserError
from verydeep.images.decode import read_image
from verydeep.images.geometry import rescale, rescaled_size
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.report.heatmap import MOST_PIXELS, HeatMap, colour_table, heat_map


@pytest.fixture
def net():
    net = VeryDeep("A", num_classes=3, crop=32, width=0.125, batch_norm=True).eval()
    net.classes = ("bright", "dark", "grey")
    return net


@pytest.fixture
def verydeep(verydeep, monkeypatch, tmp_path, net):
    """Runs the command line in a folder with a model."""
    monkeypatch.chdir(tmp_path)
    save(net, Path("net.safetensors"))
    return verydeep


@pytest.mark.parametrize(("size", "scale", "step"), [((60, 90), 74, 8), ((130, 97), 112, 16), ((90, 60), 203, 32)])
def test_scores_equal_a_slow_loop_over_places(net, size, scale, step):
    image = picture(1, *size)
    made = heat_map(net, image, 2, test_scale=scale)
    pixels = np.asarray(rescale(image, scale))
    height, width = pixels.shape[:2]
    assert made.step == step
    assert made.scores.shape == ((height - 32) // step + 1, (width - 32) // step + 1)
    top, left = (height - 32) % step // 2, (width - 32) % step // 2
    for i in range(made.scores.shape[0]):
        for j in range(made.scores.shape[1]):
            y, x = top + step * i, left + step * j
            shifted = pixels[top + (y - top) % 32 :, left + (x - left) % 32 :]
            shifted = shifted[: shifted.shape[0] // 32 * 32, : shifted.shape[1] // 32 * 32]
            with torch.inference_mode():
                map_ = net.score_map(torch.from_numpy(shifted.copy()).permute(2, 0, 1)[None])[0, 2]
            expected = float(map_[(y - top) // 32, (x - left) // 32])
            assert made.scores[i, j] == pytest.approx(expected, abs=1e-4)


def test_scores_of_steps_of_32_are_the_score_map_of_the_trimmed_image(net):
    image = picture(2, 200, 320)
    made = heat_map(net, image, 0, test_scale=200)
    with torch.inference_mode():
        pixels = torch.from_numpy(np.asarray(image).copy())[:, 4:196].permute(2, 0, 1)[None]
        torch.testing.assert_close(torch.from_numpy(made.scores), net.score_map(pixels)[0, 0], atol=1e-4, rtol=1e-4)
    assert made.centre == (20, 16)


def test_places_lie_where_bilinear_interpolation_by_hand_puts_them():
    scores = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32) * 4
    made = HeatMap(scores, test_scale=101, step=16, centre=(18.0, 33.5), rescaled=(110, 101))
    size = (61, 56)
    levels = np.asarray(made._levels(size)).astype(float)
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
    flat = HeatMap(np.array([[1.0, 1.01]], np.float32), test_scale=40, step=8, centre=(16, 16), rescaled=(48, 40))
    assert np.ptp(np.asarray(flat._levels((48, 40)))) <= 3


def test_the_scale_is_twice_the_predictions_and_bounded_for_long_images(net):
    net.train_scale = (256, 512)
    assert heat_map(net, Image.new("RGB", (40, 40)), 0).test_scale == 768
    net.train_scale = (100, 100)
    long = Image.new("RGB", (150, 30_000))
    made = heat_map(net, long, 0)
    assert 32 <= made.test_scale < 200
    assert math.prod(rescaled_size(long.size, made.test_scale)) <= MOST_PIXELS * 1.02


def test_files_are_named_upright_and_of_the_images_own_size(verydeep):
    for folder in ("a", "b"):
        Path(folder).mkdir()
        picture(3, 90, 60).save(f"{folder}/one.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(4, 120, 50).save("a/turned.jpg", exif=turned)
    status, out, err = verydeep("predict", "net.safetensors", "a", "b", "--heatmap", "maps/of/it", "--json")
    assert status == 0, err
    images = json.loads(out)["images"]
    files = [record["heatmap"]["file"] for record in images]
    assert files == ["maps/of/it/one.png", "maps/of/it/turned.png", "maps/of/it/one-2.png"]
    assert [read_image(file).size for file in files] == [(90, 60), (50, 120), (90, 60)]
    record = images[0]["heatmap"]
    assert record["places"] == [(74 - 32) // 8 + 1, (111 - 32) // 8 + 1]
    assert record["test_scale"] == 74
    assert record["lowest"] < record["highest"]
    assert "heatmap" not in json.loads(verydeep("predict", "net.safetensors", "a", "--json")[1])["images"][0]


def test_a_single_place_is_said_with_the_remedy(verydeep):
    picture(5, 50, 50).save("square.png")
    asked = ("predict", "net.safetensors", "square.png", "--heatmap", "maps")
    status, _, err = verydeep(*asked, "--heatmap-scale", 32)
    assert status == 0
    assert "single place" in err
    assert "--heatmap-scale 192" in err
    status, out, err = verydeep(*asked, "--heatmap-scale", 192, "--json")
    assert "single place" not in err
    assert json.loads(out)["images"][0]["heatmap"]["places"] == [6, 6]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--heatmap-scale", "64"], 2, "give --heatmap with a folder"),
        (["--heatmap", "maps", "--heatmap-scale", "31"], 2, "below the net's crop of 32"),
        (["--heatmap", "."], 2, "holds the images themselves"),
        (["--heatmap", "one.png"], 1, "cannot be made"),
        (["--heatmap", "new", "--heatmap-scale", "20000"], 1, "one.png: an image of 50x40 becomes 25000x20000"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(verydeep, options, status, message):
    picture(6, 50, 40).save("one.png")
    before = Path("one.png").read_bytes()
    code, _, err = verydeep("predict", "net.safetensors", "one.png", *options)
    assert code == status
    assert message in err
    assert err.count("\n") == 1
    assert Path("one.png").read_bytes() == before
    assert not Path("maps").exists()


def test_an_image_too_long_is_refused_before_it_is_rescaled(net):
    with pytest.raises(UserError, match="4,000,000 pixels of a heat map: crop it"):
        heat_map(net, Image.new("RGB", (1, 10_000)), 0)
