"""Downloads from a server that misbehaves: one clear line each time, and never a wrong file under the right name."""

import hashlib
import itertools
import os
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from published import closed_address
from verydeep.download import Digest, check, digest_of, download, is_offline
from verydeep.errors import UserError
from verydeep.files import cache_folder

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA = hashlib.sha256(CONTENT).hexdigest()
BY_HAND = "put it there by hand"


@pytest.fixture(autouse=True)
def network(monkeypatch):
    """No proxy between the tests and their server, and nothing that forbids it."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("VERYDEEP_OFFLINE", raising=False)


@pytest.fixture
def server(serve, tmp_path):
    """A server with one file."""
    (tmp_path / "published").mkdir()
    (tmp_path / "published/w.bin").write_bytes(CONTENT)
    return serve(tmp_path / "published")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache/deeper/w.bin"


def get(server, target, digest=None, **options):
    """Downloads the file of the server."""
    digest = digest or Digest("sha256", SHA[:8])
    address = server if isinstance(server, str) else f"{server.address}/w.bin"
    download(address, target, digest=digest, size=len(CONTENT), by_hand=BY_HAND, **options)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize(
    "digest",
    [
        Digest("sha256", SHA),
        Digest("sha256", SHA[:8]),
        Digest("md5", hashlib.md5(CONTENT).hexdigest()),
        Digest("sha1", hashlib.sha1(CONTENT).hexdigest()),
    ],
    ids=str,
)
def test_a_whole_file_is_there_under_its_name_alone(digest, server, target):
    told = []
    get(server, target, digest, progress=lambda *state: told.append(state))
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["w.bin"]
    assert [what for what, done, total in told if done == total] == [
        "downloading w.bin, MB",
        "checking w.bin, MB",
    ]


def test_without_a_hash_it_is_taken_as_it_comes(server, target):
    download(f"{server.address}/w.bin", target, digest=None, size=len(CONTENT), by_hand=BY_HAND)
    assert digest_of(target, "sha256") == SHA


@pytest.mark.parametrize(
    ("failure", "complaint"),
    [
        (
            "cut",
            r"the connection ended 1,500,000 bytes too early; .*it goes on where it ended, or put it there by hand",
        ),
        ("503", "cannot be fetched: Service Unavailable|cannot be fetched: HTTP Error 503"),
        ("close", "cannot be fetched: Remote end closed connection"),
    ],
)
def test_a_failure_is_one_line_and_leaves_no_file(failure, complaint, server, target):
    server.failures = [failure]
    with pytest.raises(UserError, match=complaint) as caught:
        get(server, target)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["w.bin"]


def test_an_interrupted_download_goes_on_where_it_ended(server, target):
    server.failures = ["cut"]
    with pytest.raises(UserError):
        get(server, target)
    assert (target.parent / ".w.bin.part").stat().st_size == len(CONTENT) // 2
    first = []
    get(server, target, progress=lambda what, done, total: first.append(done))
    assert first[0] >= 1  # megabytes: the first half was there
    assert target.read_bytes() == CONTENT


def test_ctrl_c_keeps_what_came(server, target):
    def interrupt(what, done, total):
        if done >= 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(server, target, progress=interrupt)
    assert names(target.parent) == [".w.bin.part", ".w.bin.tag"]
    get(server, target)
    assert names(target.parent) == ["w.bin"]


def test_a_file_that_changed_is_fetched_from_its_beginning(server, target):
    server.failures = ["cut"]
    with pytest.raises(UserError):
        get(server, target)
    other = bytes(reversed(CONTENT))
    published = server.folder / "w.bin"
    published.write_bytes(other)
    os.utime(published, ns=(1, 1))
    get(server, target, Digest("sha256", hashlib.sha256(other).hexdigest()))
    assert target.read_bytes() == other


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_that_is_too_long_is_thrown_away(ranges, server, target):
    server.failures = ["cut"]
    with pytest.raises(UserError):
        get(server, target)
    with (target.parent / ".w.bin.part").open("ab") as part:
        part.write(CONTENT)
    server.ranges = ranges
    get(server, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("begun", [False, True])
def test_the_wrong_bytes_are_not_kept(begun, server, target):
    if begun:
        server.failures = ["cut"]
        with pytest.raises(UserError):
            get(server, target)
        (target.parent / ".w.bin.part").write_bytes(b"x" * 100)
    digest = Digest("sha256", SHA if begun else "0" * 8)
    with pytest.raises(UserError, match=r"did not give the file that was published: its sha256 is [0-9a-f]{64} inst"):
        get(server, target, digest)
    assert names(target.parent) == []
    get(server, target)


def test_where_nothing_answers_not_even_a_folder_is_made(target):
    with pytest.raises(UserError, match=r"cannot be fetched: Connection refused; try again where there is a network"):
        get(f"{closed_address()}/w.bin", target)
    assert not target.parent.exists()


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_offline(value, offline, server, target, monkeypatch):
    monkeypatch.setenv("VERYDEEP_OFFLINE", value)
    assert is_offline() == offline
    if not offline:
        get(server, target)
        return
    with pytest.raises(UserError, match=r"w.bin is not fetched, for VERYDEEP_OFFLINE is set: unset it, or put it"):
        get(server, target)
    assert server.requests == []
    assert not target.parent.exists()


def test_a_folder_that_cannot_be_written_is_no_fault_of_the_network(server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OSError, match=r"cache"):
        get(server, tmp_path / "cache/w.bin")


def test_a_file_put_there_by_hand_is_checked(tmp_path):
    file = tmp_path / "w.bin"
    file.write_bytes(CONTENT)
    check(file, Digest("sha256", SHA))
    file.write_bytes(CONTENT[1:])
    with pytest.raises(UserError, match=re.escape(f"{file} is not the file that was published")):
        check(file, Digest("sha256", SHA))


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("VERYDEEP_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("VERYDEEP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "verydeep"


@pytest.mark.parametrize("told", [True, False], ids=["with its length", "without"])
def test_more_bytes_than_were_published_are_not_written(told, tmp_path, target):
    """A body without an end would fill the disk."""
    head = b'HTTP/1.1 200 OK\r\nETag: "a"\r\n' + (b"Content-Length: 400000000\r\n\r\n" if told else b"\r\n")
    with answering(head, itertools.repeat(bytes(2**16))) as address, pytest.raises(UserError) as refused:
        download(f"{address}/w.bin", target, digest=None, size=1_000_000, by_hand=BY_HAND)
    size = "400,000,000 bytes" if told else "more than 2,148,576 bytes"
    assert str(refused.value) == (
        f"{address}/w.bin did not give the file that was published: it has {size} instead of 1,000,000; nothing was "
        "kept, try again later, or put it there by hand"
    )
    assert names(target.parent) == []


def test_a_download_that_hardly_comes_is_given_up(target, monkeypatch):
    """The clock jumps by 40 seconds each time it is read; a byte comes each time."""
    clock = itertools.count(0, 40)
    monkeypatch.setattr("verydeep.download.time.monotonic", lambda: float(next(clock)))
    head = b'HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nETag: "a"\r\n\r\n'
    dripping = (time.sleep(0.01) or b"x" for _ in itertools.count())
    with answering(head, dripping) as address, pytest.raises(UserError) as refused:
        download(f"{address}/w.bin", target, digest=None, size=1_000_000, by_hand=BY_HAND)
    assert re.search(
        r"cannot be fetched: \d+ bytes came in 60 seconds; try again where .* goes on where", str(refused.value)
    )


def test_a_tag_that_no_header_can_hold_begins_anew(server, target):
    server.failures = ["cut"]
    with pytest.raises(UserError):
        get(server, target)
    (target.parent / ".w.bin.tag").write_text('"a\r\nHost: elsewhere"')
    get(server, target)
    assert target.read_bytes() == CONTENT


@contextmanager
def answering(head, chunks):
    """A server that answers one request with a head and then with chunks, until the other side has enough."""

    def answer():
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.recv(2**16)
            connection.sendall(head)
            for chunk in chunks:
                connection.sendall(chunk)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    thread.join(10)
