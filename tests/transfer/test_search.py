"""Similar images: of saved and of fresh descriptors alike, in blocks as at once; the sheet shows them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import scene
from small_nets import make_net
from verydeep import UserError
from verydeep.nets.model_file import save
from verydeep.report.sheet import picture_sheet
from verydeep.testing.descriptors import DescriptorOptions
from verydeep.transfer.features import extract_features
from verydeep.transfer.search import most_similar, search


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(make_net("A", num_classes=3), Path("a.safetensors"))
    save(make_net("A", num_classes=3, seed=1), Path("b.safetensors"))
    Path("photos/deep").mkdir(parents=True)
    for number in range(8):
        scene(number, 70, 60).save(f"photos/{'deep/' if number % 2 else ''}{number}.png")
    Image.open("photos/2.png").rotate(3).crop((5, 4, 65, 56)).save("like-2.png")


def test_the_nearest_come_first_and_blocks_change_nothing():
    rows = np.random.default_rng(0).normal(size=(57, 9)).astype(np.float32)
    queries = np.stack([3 * rows[40], rows[11] + 0.01, np.zeros(9, np.float32)])
    indices, cosines = most_similar(queries, [rows], 5)
    assert indices[:2, 0].tolist() == [40, 11]
    np.testing.assert_allclose(cosines[0, 0], 1, rtol=1e-6)
    assert (np.diff(cosines, axis=1) <= 0).all()
    in_blocks = most_similar(queries, [rows[first : first + 4] for first in range(0, 57, 4)], 5)
    np.testing.assert_array_equal(in_blocks[0][:2], indices[:2])
    np.testing.assert_allclose(in_blocks[1], cosines, rtol=1e-5, atol=1e-6)
    assert most_similar(queries, [rows], 100)[0].shape == (3, 57)


def test_saved_and_fresh_descriptors_find_the_same():
    options = DescriptorOptions(test_scales=(40,))
    fresh = search("a.safetensors", "photos", ["like-2.png", "photos/5.png"][:1], top=3, options=options)
    extract_features("a.safetensors", "photos", "saved.safetensors", options)
    (saved,) = search("a.safetensors", "saved.safetensors", ["like-2.png"], top=3)
    assert saved.similar[0].file == "photos/2.png"
    assert [one.file for one in fresh[0].similar] == [one.file for one in saved.similar]
    np.testing.assert_allclose(
        [one.similarity for one in fresh[0].similar], [one.similarity for one in saved.similar], rtol=1e-5
    )
    with pytest.raises(UserError, match=r"has descriptors of a.safetensors, not of b.safetensors"):
        search("b.safetensors", "saved.safetensors", ["like-2.png"])


def test_the_command_line_names_them_and_draws_a_sheet(verydeep):
    Path("photos/bad.png").write_bytes(b"no image")
    sheet = ("--top", 3, "--out", "sheet.png", "--json")
    asked = ("search", "a.safetensors", "photos", "like-2.png", "photos/4.png", *sheet)
    status, out, error = verydeep(*asked)
    assert (status, out) == (1, "")
    assert "photos/bad.png" in error
    assert "--damaged skip" in error
    status, out, error = verydeep(*asked, "--damaged", "skip")
    assert status == 0, error
    record = json.loads(out)
    assert [one["similar"][0]["file"] for one in record["images"]] == ["photos/2.png", "photos/4.png"]
    assert "left out 1 damaged image: photos/bad.png" in error
    with Image.open("sheet.png") as sheet:
        assert sheet.size == (4 * 152 + 8, 2 * 168 + 8)
    Path("photos/bad.png").rename("bad.png")
    status, out, _ = verydeep("search", "a.safetensors", "photos", "like-2.png", "--top", 2)
    assert status == 0
    assert "photos/2.png" in out


def test_files_that_are_no_images_are_said(verydeep):
    Path("photos/raw.dng").write_bytes(b"II*\0" + bytes(40))
    Path("photos/deep/notes.txt").write_text("none")
    status, _, error = verydeep("search", "a.safetensors", "photos", "like-2.png")
    assert status == 0
    assert "photos: passed over 1 image of formats that are not read (photos/raw.dng) and 1 other file (.txt 1)" in error


def test_a_damaged_picture_to_search_by_fails_or_is_left_out(verydeep):
    Path("bad.png").write_bytes(b"no image")
    asked = ("search", "a.safetensors", "photos", "bad.png")
    status, _, error = verydeep(*asked, "like-2.png")
    assert (status, error.count("\n")) == (1, 1)
    assert "bad.png" in error
    status, out, error = verydeep(*asked, "like-2.png", "--damaged", "skip", "--json")
    assert status == 0
    assert "left out 1 damaged image: bad.png" in error
    assert [one["file"] for one in json.loads(out)["images"]] == ["like-2.png"]
    assert verydeep(*asked, "--damaged", "skip")[0] == 1  # nothing is left


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["photos", "like-2.png", "--top", "0"], "--top 0"),
        (["photos", "like-2.png", "--out", "sheet.html"], "ends in .png or .jpg"),
        (["nowhere", "like-2.png"], "no data 'nowhere'"),
        (["photos", "no.png"], "no such file: no.png"),
        (["empty", "like-2.png"], "no images in empty"),
    ],
)
def test_what_cannot_be_searched_is_said_in_one_line(arguments, said, verydeep):
    Path("empty").mkdir()
    status, out, error = verydeep("search", "a.safetensors", *arguments)
    assert status in (1, 2)
    assert said in error
    assert not out


def test_a_sheet_has_room_for_pictures_that_are_not_at_hand():
    sheet = picture_sheet([[(scene(0), "a very long name of a picture indeed.png")], [(None, "gone"), (None, "\x07")]])
    assert sheet.size == (2 * 152 + 8, 2 * 168 + 8)
    assert sheet.getpixel((20, 200)) == (220, 220, 220)
