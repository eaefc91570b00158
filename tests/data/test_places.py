"""Files of this machine, read in parts by many threads and processes."""

import os
import pickle

import pytest

from verydeep.data import places
from verydeep.data.image_set import read_ahead
from verydeep.data.places import Disk, find_place, folder_of, inside, is_address
from verydeep.errors import UserError


@pytest.fixture
def file(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(range(256)) * 10)
    return str(tmp_path / "a.tar")


def test_parts(file):
    place = Disk()
    assert place.look(file) == (2560, str(os.stat(file).st_mtime_ns))  # noqa: PTH116
    assert place.read(file, 5, 3) == bytes([5, 6, 7])
    assert place.read(file, 2559, 3) == bytes([255])
    assert place.whole(file) == bytes(range(256)) * 10
    assert place.whole(file + "x") is None
    offsets = [number % 256 for number in range(2000)]
    assert [part[0] for part in read_ahead(lambda offset: place.read(file, offset, 1), offsets, 16)] == offsets
    assert pickle.loads(pickle.dumps(place)).read(file, 5, 3) == bytes([5, 6, 7])


def test_few_files_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "_MOST_OPEN", 4)
    for number in range(20):
        (tmp_path / f"{number}.tar").write_bytes(bytes([number]))
    place, before = Disk(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    numbers = [number % 20 for number in range(400)]
    read = list(read_ahead(lambda number: place.read(str(tmp_path / f"{number}.tar"), 0, 1)[0], numbers, 8))
    assert read == numbers
    assert len(os.listdir("/proc/self/fd")) <= before + 4  # noqa: PTH208
    del place
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_what_cannot_be_read(file, tmp_path):
    for attempt in (Disk().look, Disk().opened, lambda name: Disk().read(name, 0, 1)):
        with pytest.raises(UserError, match="is missing"):
            attempt(file + "x")
        with pytest.raises(UserError, match="cannot be read"):
            attempt(file + "/x")
    with pytest.raises(UserError, match="cannot be read"):
        Disk().read(str(tmp_path), 0, 1)


@pytest.mark.parametrize(
    ("file", "address"),
    [
        ("http://a/b.tar", True), ("HTTPS://a/b", True), ("pipe:cat x", True), ("s3://b/x", True), ("x.tar", False),
        ("/a/b:c.tar", False), ("C:\\x.tar", False), ("digits", False), ("file:x", True),
    ],
)  # fmt: skip
def test_addresses(file, address):
    assert is_address(file) is address


@pytest.mark.parametrize(
    "file", ["pipe:cat x.tar", "s3://bucket/x.tar", "gs://x", "ftp://a/b", "file:///etc", "hdfs:x"]
)
def test_other_addresses_are_refused(file):
    with pytest.raises(UserError, match=rf"{file.partition(':')[0]}: is refused.*http and https only"):
        find_place(file)


def test_a_path_that_exists_is_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run:1").mkdir()
    assert not is_address("run:1")
    assert isinstance(find_place("run:1"), Disk)


def test_folders_of_files():
    assert folder_of("a/b.tar") == "a"
    assert inside("a/", "b.tar") == "a/b.tar"
    assert folder_of("http://h/a/b.tar?key=1#x") == "http://h/a?key=1"
    for folder in ("http://h/a", "http://h/a/"):
        assert inside(folder, "index.json") == "http://h/a/index.json"
    assert inside("http://h/a?key=1", "index.json") == "http://h/a/index.json?key=1"
    assert inside("http://h", "index.json") == "http://h/index.json"
