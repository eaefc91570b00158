"""What lies in the cache is listed with its size, and nothing but what verydeep made there is removed."""

import json
from pathlib import Path

import pytest

from verydeep.weights.published import PUBLISHED


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VERYDEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VERYDEEP_DATA", raising=False)
    return tmp_path / "cache"


def put(file: Path, size: int = 10) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(size))
    return file


def fill(cache: Path, outside: Path) -> None:
    put(outside / "kept.txt")
    put(cache / "weights/imagenet-D.safetensors", 500)
    put(cache / "weights/.imagenet-D.lock", 0)
    put(cache / f"weights/.{PUBLISHED['imagenet-E'].file_name}.part", 70)
    put(cache / f"weights/.{PUBLISHED['imagenet-E'].file_name}.tag", 1)
    put(cache / "data/cifar10/train/a.png", 300)
    put(cache / f"shards/{'0' * 32}.json", 7)
    put(cache / "shards/mine.txt", 1)
    put(cache / "letters/love.txt", 9)
    put(cache / "weights/own.pth", 5)
    (cache / "data/imagenette").symlink_to(outside)
    (cache / "data/cifar10/link").symlink_to(outside)


def test_it_lists_what_there_is(cache, tmp_path, verydeep):
    fill(cache, tmp_path / "outside")
    status, out, err = verydeep("cache", "--json")
    record = json.loads(out)
    assert (status, err) == (0, "")
    part = f".{PUBLISHED['imagenet-E'].file_name}.part"
    assert {entry["name"]: (entry["kind"], entry["bytes"]) for entry in record["entries"]} == {
        "data/cifar10": ("data", 300), "data/imagenette": ("data", 0), "letters": ("other", 9), "shards": ("shards", 8),
        f"weights/{part}": ("weights", 70), "weights/imagenet-D": ("weights", 500), "weights/own.pth": ("other", 5),
    }  # fmt: skip
    assert record["bytes"] == sum(entry["bytes"] for entry in record["entries"])
    status, out, _ = verydeep("cache")
    assert status == 0
    assert "500 bytes" in out
    assert "not verydeep's" in out


def test_one_thing_is_removed_and_nothing_outside(cache, tmp_path, verydeep):
    outside = tmp_path / "outside"
    fill(cache, outside)
    for name in ("imagenet-D", "data/cifar10", "imagenette", "shards"):
        status, out, _ = verydeep("cache", "--clear", name)
        assert status == 0
        assert "removed" in out
    status, out, _ = verydeep("cache", "--clear", f".{PUBLISHED['imagenet-E'].file_name}.part", "--json")
    assert json.loads(out)["cleared"]["bytes"] == 70
    assert sorted(str(file.relative_to(cache)) for file in cache.rglob("*") if file.is_file()) == [
        "letters/love.txt", "shards/mine.txt", "weights/.imagenet-D.lock", "weights/own.pth",
    ]  # fmt: skip
    assert (outside / "kept.txt").exists()
    assert not (cache / "data/imagenette").is_symlink()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nothing", "no such thing in"),
        ("../outside", "no such thing in"),
        ("/", "no such thing in"),
        ("", "no such thing in"),
        ("letters", "verydeep did not make"),
        ("own.pth", "verydeep did not make"),
        ("weights", "no such thing in"),
    ],
)
def test_what_is_not_there_or_not_ours_is_one_line(name, complaint, cache, tmp_path, verydeep):
    fill(cache, tmp_path / "outside")
    before = sorted(tmp_path.rglob("*"))
    status, out, err = verydeep("cache", "--clear", name)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert complaint in err
    assert sorted(tmp_path.rglob("*")) == before


def test_rooms_that_are_links_are_not_entered(cache, tmp_path, verydeep):
    put(tmp_path / "elsewhere/cifar10/a.png")
    cache.mkdir()
    (cache / "data").symlink_to(tmp_path / "elsewhere")
    assert verydeep("cache", "--clear", "cifar10")[0] == 2
    assert (tmp_path / "elsewhere/cifar10/a.png").exists()


def test_an_empty_cache(verydeep, cache, monkeypatch, tmp_path):
    monkeypatch.setenv("VERYDEEP_DATA", str(tmp_path / "sets"))
    status, out, _ = verydeep("cache")
    assert status == 0
    assert out.startswith(f"0 bytes in {cache}")
    assert f"Data sets lie in {tmp_path / 'sets'}" in out
