"""Encoded images by their names, in a folder or in memory."""

import numpy as np
import pytest

from conftest import picture
from verydeep.data.sources import ArraySource, FolderSource
from verydeep.errors import UserError
from verydeep.images.decode import DamagedImageError, decode_pixels


def test_files_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"1234")
    store = FolderSource(tmp_path)
    assert store.read("a/1.png") == b"1234"
    assert store.size("a/1.png") == 4
    assert store.where("a/1.png") == str(tmp_path / "a/1.png")
    with pytest.raises(UserError, match=r"no such file: .*a/2\.png"):
        store.read("a/2.png")
    with pytest.raises(UserError, match="is a folder"):
        store.read("a")


def test_a_disk_that_does_not_give_a_file_is_told_as_a_damaged_image(tmp_path, monkeypatch):
    def fail(self):
        raise OSError(5, "Input/output error")

    (tmp_path / "1.png").touch()
    monkeypatch.setattr("pathlib.Path.read_bytes", fail)
    with pytest.raises(DamagedImageError, match=r"1\.png cannot be read: Input/output error"):
        FolderSource(tmp_path).read("1.png")


def test_pictures_in_memory_are_png_that_lose_nothing():
    image = np.asarray(picture(0, 30, 20))
    store = ArraySource("digits", {"0001": image})
    assert store.where("0001") == "digits/0001"
    assert store.size("0001") == len(store.read("0001"))
    assert np.array_equal(decode_pixels(store.read("0001"), ""), image)
