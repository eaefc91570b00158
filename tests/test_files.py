"""Files that are written whole or not at all."""

import os

import pytest

from verydeep.files import atomic_write


def test_the_new_file_replaces_the_old_one(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with atomic_write(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")

    def fail():
        with atomic_write(file) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_the_file_has_the_usual_permissions(tmp_path):
    """Some writers make files that nobody else may read."""
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_RDWR, 0o600))
    (tmp_path / "b.txt").touch()
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode
