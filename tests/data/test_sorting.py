"""Images sorted into folders by class: linked or copied, never moved, nothing overwritten."""

import os

import pytest

from verydeep.data.sorting import SortedFolder
from verydeep.errors import UserError


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize("links", [True, False])
def test_names_are_made_unique_and_nothing_is_overwritten(links, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    one, two = write(tmp_path / "x/a.jpg", "one"), write(tmp_path / "y/a.jpg", "two")
    write(tmp_path / "out/cat/a.jpg", "mine")
    out = SortedFolder(tmp_path / "out", ["cat", "dog"], unsure=0.5)
    assert out.put(one, 0, 0.9) == tmp_path / "out/cat/a-2.jpg"
    assert out.put(two, 0, 0.5) == tmp_path / "out/cat/a-3.jpg"
    assert out.put(two, 1, 0.499) == tmp_path / "out/unsure/a.jpg"
    assert out.put(one, 0, 0.9) == tmp_path / "out/cat/a-2.jpg"  # it is there already
    assert {str(file.relative_to(tmp_path)): file.read_text() for file in tmp_path.rglob("*.jpg")} == {
        "x/a.jpg": "one", "y/a.jpg": "two", "out/cat/a.jpg": "mine", "out/cat/a-2.jpg": "one", "out/cat/a-3.jpg": "two",
        "out/unsure/a.jpg": "two",
    }  # fmt: skip
    assert one.samefile(tmp_path / "out/cat/a-2.jpg") is links


def test_a_link_to_an_image_is_followed(tmp_path):
    image = write(tmp_path / "x/a.jpg", "one")
    (tmp_path / "b.jpg").symlink_to(image)
    put = SortedFolder(tmp_path / "out", ["cat"]).put(tmp_path / "b.jpg", 0, 1)
    assert put == tmp_path / "out/cat/b.jpg"
    assert not put.is_symlink()
    assert put.read_text() == "one"


def test_any_name_of_a_class_is_a_folder_inside(tmp_path):
    image = write(tmp_path / "a.jpg", "one")
    names = ["../up", "a/b", "unsure", "", "..", "Unsure", "new\nline", "tail. ", "a_b"]
    out = SortedFolder(tmp_path / "out", names, unsure=0.1)
    folders = [out.put(image, index, 1).parent for index in range(len(names))]
    assert all(folder.parent == tmp_path / "out" for folder in folders)
    assert [folder.name for folder in folders] == [
        "_up", "a_b", "unsure-2", "_", "_-2", "Unsure-3", "new_line", "tail", "a_b-2"
    ]  # fmt: skip


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    image, _ = write(tmp_path / "a.jpg", "one"), write(tmp_path / "out/cat", "a file")
    with pytest.raises(UserError, match="cannot be sorted into"):
        SortedFolder(tmp_path / "out", ["cat"]).put(image, 0, 1)
