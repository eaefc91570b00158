"""Files on disk and in object stores, read in parts by many threads and processes."""

import os
import pickle

import fsspec
import pytest

from verydeep.data.open import open_data
from verydeep.data.shard_writer import write_shards
from verydeep.data.shards import storage as module
from verydeep.data.shards.index import INDEX_FILE
from verydeep.data.shards.storage import DiskStorage, find_storage, folder_of, inside, is_address, open_stream
from verydeep.data.sources import read_ahead
from verydeep.errors import UserError


@pytest.fixture
def file(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(range(256)) * 10)
    return str(tmp_path / "a.tar")


def test_parts(file):
    storage = DiskStorage()
    assert storage.stat(file) == (2560, str(os.stat(file).st_mtime_ns))  # noqa: PTH116
    assert storage.read(file, 5, 3) == bytes([5, 6, 7])
    assert storage.read(file, 2559, 3) == bytes([255])
    assert storage.read_whole(file) == bytes(range(256)) * 10
    assert storage.read_whole(file + "x") is None
    offsets = [number % 256 for number in range(2000)]
    assert [part[0] for part in read_ahead(lambda offset: storage.read(file, offset, 1), offsets, 16)] == offsets
    assert pickle.loads(pickle.dumps(storage)).read(file, 5, 3) == bytes([5, 6, 7])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "device.tar").symlink_to("/dev/zero")
    for name in "pipe.tar", "device.tar":
        with pytest.raises(UserError, match=rf"{name} is no regular file: copy what it gives into a file"):
            open_data(tmp_path / name)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / INDEX_FILE)
    with pytest.raises(UserError, match=rf"{INDEX_FILE} is no regular file"):
        open_data(tmp_path / "folder/x.tar")
    with pytest.raises(UserError, match="has no class folders"):  # a folder of images, whose index is none
        open_data(tmp_path / "folder")


def test_no_files_stay_open(tmp_path):
    for number in range(20):
        (tmp_path / f"{number}.tar").write_bytes(bytes([number]))
    storage, before = DiskStorage(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    numbers = [number % 20 for number in range(400)]
    read = list(read_ahead(lambda number: storage.read(str(tmp_path / f"{number}.tar"), 0, 1)[0], numbers, 8))
    assert read == numbers
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize("block_size", [1, 100, 4096])
def test_a_stream_reads_and_seeks(block_size, file, monkeypatch):
    monkeypatch.setattr(DiskStorage, "block_size", block_size)
    with open_stream(DiskStorage(), file, 2560) as stream, open(file, "rb") as plain:  # noqa: PTH123
        for offset, size in ((0, 3), (700, 300), (690, 5), (2550, 100), (2560, 1)):
            assert stream.seek(offset) == plain.seek(offset)
            assert stream.read(size) == plain.read(size)
            assert stream.tell() == plain.tell()


def test_what_cannot_be_read(file, tmp_path):
    for attempt in (DiskStorage().stat, lambda name: DiskStorage().read(name, 0, 1)):
        with pytest.raises(UserError, match="is missing"):
            attempt(file + "x")
        with pytest.raises(UserError, match="cannot be read"):
            attempt(file + "/x")
    with pytest.raises(UserError, match="cannot be read"):
        DiskStorage().read(str(tmp_path), 0, 1)


@pytest.mark.parametrize(
    ("file", "address"),
    [
        ("http://a/b.tar", True), ("HTTPS://a/b", True), ("pipe:cat x", True), ("s3://b/x", True), ("x.tar", False),
        ("/a/b:c.tar", False), ("C:\\x.tar", False), ("digits", False), ("file:x", True),
    ],
)  # fmt: skip
def test_addresses(file, address):
    assert is_address(file) is address


@pytest.mark.parametrize("file", ["pipe:cat x.tar", "ftp://a/b", "file:///etc", "hdfs:x", "reference://x"])
def test_other_addresses_are_refused(file):
    with pytest.raises(
        UserError, match=rf"{file.partition(':')[0]}: is refused.*disk, http, https, s3, gs, az, hf only"
    ):
        find_storage(file)


def test_an_object_store_names_the_package_that_it_needs(monkeypatch):
    def missing(scheme):
        raise ImportError(f"Install something to access {scheme}")

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    for file, package in (("s3://bucket/x.tar", "s3fs"), ("GS://bucket/x", "gcsfs")):
        with pytest.raises(UserError, match=rf"^{file} needs a package: pip install {package}$"):
            find_storage(file)


@pytest.fixture
def in_store(tmp_path, make_folder, monkeypatch):
    """A folder of shards, and the address of its copy in an object store: fsspec's own, in memory."""
    monkeypatch.setitem(module.OBJECT_STORES, "memory", "fsspec")
    write_shards(make_folder("photos", {"a": 20, "b": 20}), tmp_path / "shards", size="60K")
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path / "shards"), "/bucket/shards", recursive=True)
    yield tmp_path / "shards", "memory://bucket/shards"
    store.rm("/bucket", recursive=True)


def test_parts_of_files_in_an_object_store(in_store):
    folder, address = in_store
    storage, file = find_storage(address), f"{address}/train-000000.tar"
    content = (folder / "train-000000.tar").read_bytes()
    size, stamp = storage.stat(file)
    assert (size, stamp != "") == (len(content), True)
    assert storage.read(file, 10, 2000) == content[10:2010]
    assert storage.read(file, size - 5, 20) == content[-5:]
    assert storage.read(file, 0, 0) == b""
    assert storage.read_whole(file) == content
    assert storage.read_whole(f"{address}/none") is None
    assert pickle.loads(pickle.dumps(storage)).read(file, 5, 3) == content[5:8]
    with pytest.raises(UserError, match=rf"^{address}/none is missing"):
        storage.stat(f"{address}/none")


def test_shards_in_an_object_store_are_those_of_the_disk(in_store):
    folder, address = in_store
    ours, theirs = open_data(folder), open_data(f"{address}/")
    assert theirs.fingerprint == ours.fingerprint
    assert theirs.train.parallel_reads == 32
    pairs = zip(ours.train.names, theirs.train.names, strict=True)
    assert all(ours.train.source.read(one) == theirs.train.source.read(other) for one, other in pairs)
    some = open_data(f"{address}/{{train-000000,val-000000}}.tar")
    assert set(some.train.names) < set(ours.train.names)


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (PermissionError(13, "Access Denied"), "Access Denied"),
        (RuntimeError("no credentials\nanywhere"), "no credentials anywhere"),
        (ValueError(), "ValueError"),
    ],
)
def test_an_object_store_that_fails_is_told_in_one_line(error, complaint, in_store, monkeypatch):
    def fail(self, path, **_):
        raise error

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.cat_file", fail)
    file = f"{in_store[1]}/train-000000.tar"
    with pytest.raises(UserError, match=rf"^{file} cannot be read: {complaint}$"):
        find_storage(file).read(file, 0, 10)


def test_a_path_that_exists_is_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run:1").mkdir()
    assert not is_address("run:1")
    assert isinstance(find_storage("run:1"), DiskStorage)


def test_folders_of_files():
    assert folder_of("a/b.tar") == "a"
    assert inside("a/", "b.tar") == "a/b.tar"
    assert folder_of("http://h/a/b.tar?key=1#x") == "http://h/a?key=1"
    for folder in ("http://h/a", "http://h/a/"):
        assert inside(folder, "index.json") == "http://h/a/index.json"
    assert inside("http://h/a?key=1", "index.json") == "http://h/a/index.json?key=1"
    assert inside("http://h", "index.json") == "http://h/index.json"
