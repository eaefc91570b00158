"""Parts of files over http: few connections, retries, and one line when it cannot be."""

import socket

import pytest
import urllib3

from verydeep.data.open import open_data
from verydeep.data.shard_writer import write_shards
from verydeep.data.shards import http as web
from verydeep.data.shards.http import HttpStorage
from verydeep.data.shards.storage import open_stream
from verydeep.data.sources import read_ahead
from verydeep.errors import UserError


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Retries come at once."""
    monkeypatch.setattr(web, "_AT_FIRST", web._AT_FIRST.new(backoff_factor=0))
    monkeypatch.setattr(web, "_PATIENT", web._PATIENT.new(backoff_factor=0))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "empty.tar").touch()
    return tmp_path


def test_parts_sizes_and_whole_files(folder, serve):
    server = serve(folder)
    storage, file = HttpStorage(), f"{server.address}/a.tar"
    size, stamp = storage.stat(file)
    assert size == 25_600
    assert stamp == f'"{(folder / "a.tar").stat().st_mtime_ns}"'
    assert storage.read(file, 10, 20) == bytes(range(10, 30))
    assert storage.read(file, 25_590, 20) == bytes(range(246, 256))
    assert storage.read(file, 30_000, 20) == b""
    assert storage.read(file, 30_000, 0) == b""
    assert storage.read_whole(file) == (folder / "a.tar").read_bytes()
    assert storage.read_whole(f"{server.address}/b.tar") is None
    with open_stream(storage, file, size) as stream:
        assert stream.read(3) == bytes(range(3))
        assert stream.seek(256 * 50 + 7) == 256 * 50 + 7
        assert stream.read(2) == bytes([7, 8])
        assert stream.tell() == 256 * 50 + 9
        assert len(stream.read()) == 25_600 - 256 * 50 - 9


def test_connections_stay_open(folder, serve):
    server = serve(folder)
    storage, file = HttpStorage(), f"{server.address}/a.tar"
    for offset in range(20):
        storage.read(file, offset, 1)
    assert (len(server.requests), len(server.connections)) == (20, 1)
    read = list(read_ahead(lambda offset: storage.read(file, offset, 1)[0], range(200), storage.parallel_reads))
    assert read == list(range(200))
    assert len(server.connections) <= 1 + storage.parallel_reads


@pytest.mark.parametrize("failure", ["503", "close", "cut"])
def test_passing_failures_are_outlived(failure, folder, serve):
    server = serve(folder)
    storage, file = HttpStorage(), f"{server.address}/a.tar"
    server.failures += [failure] * 5
    assert storage.read(file, 10, 20) == bytes(range(10, 30))
    assert len(server.requests) == 6
    server.failures += [failure] * 2
    assert storage.stat(file)[0] == 25_600


@pytest.mark.parametrize(
    ("failure", "complaint"), [("503", "answers 503"), ("close", "is its server up"), ("cut", "up")]
)
def test_lasting_failures_are_told_in_one_line(failure, complaint, folder, serve):
    server = serve(folder)
    server.failures += [failure] * 50
    for attempt in (
        lambda: HttpStorage().read(f"{server.address}/a.tar", 0, 20),
        lambda: HttpStorage().read_whole(f"{server.address}/a.tar"),
    ):
        with pytest.raises(UserError, match=rf"{server.address}/a\.tar cannot be read: .*{complaint}") as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_a_server_that_knows_no_range_is_refused(folder, serve):
    with pytest.raises(UserError, match=r"ignores Range.*or copy them to a disk"):
        HttpStorage().stat(f"{serve(folder, ranges=False).address}/a.tar")


def test_files_that_are_not_there_or_empty(folder, serve):
    address = serve(folder).address
    with pytest.raises(UserError, match=r"b\.tar is missing \(404\)"):
        HttpStorage().stat(f"{address}/b.tar")
    with pytest.raises(UserError, match=r"empty\.tar is empty"):
        HttpStorage().stat(f"{address}/empty.tar")


def test_a_dead_server():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(UserError, match=r"no connection \(.*refused\): is its server up\?") as caught:
            open_data(f"http://127.0.0.1:{port}/shards/")
        assert "\n" not in str(caught.value)


def test_a_server_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(web, "_READ_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UserError, match="no answer in time"):
        HttpStorage().stat(f"http://127.0.0.1:{silent.getsockname()[1]}/a.tar")


@pytest.mark.parametrize("address", ["http://", "http://[::1/x.tar", "https:///x.tar"])
def test_addresses_that_are_none(address):
    with pytest.raises(UserError):
        open_data(address)


def test_a_query_goes_along(make_folder, tmp_path, serve):
    """Some hosts want a key in every address."""
    write_shards(make_folder("photos", {"a": 10, "b": 10}), tmp_path / "shards")
    server = serve(tmp_path)
    data = open_data(f"{server.address}/shards/?key=1")
    assert data.train.read(0).size[1] == 40
    assert data.train.where(0).startswith(f"{server.address}/shards/train-000000.tar?key=1:")


def test_a_proxy_is_used_where_the_environment_names_one(folder, serve, monkeypatch):
    asked = []

    def connections(proxy, process):
        asked.append(proxy)
        raise urllib3.exceptions.HTTPError("no network in a test")

    server = serve(folder)
    assert isinstance(web._connections(server.address, 0), urllib3.ProxyManager)
    monkeypatch.setattr(web, "_connections", connections)
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(UserError, match="no network in a test"):
        HttpStorage().read("http://example.org/a.tar", 0, 20)
    monkeypatch.setenv("no_proxy", "example.org")
    with pytest.raises(UserError, match="no network in a test"):
        HttpStorage().read("http://example.org/a.tar", 0, 20)
    assert asked == [server.address, None]
