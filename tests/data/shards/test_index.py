"""An index that cannot be right is refused, and one of another program is not taken for ours."""

import json

import pytest

from verydeep.data.shards.index import IndexedShard, ShardIndex, is_index, read_index, write_index
from verydeep.data.shards.storage import DiskStorage
from verydeep.errors import UserError


def shard(**changes):
    fields = {
        "file": "train-000000.tar",
        "split": "train",
        "bytes": 10_000,
        "sha256": "0" * 64,
        "names": ["a/1.jpg", "b/ü 2.jpg"],
        "positions": [1, 0],
        "offsets": [512, 2048],
        "sizes": [100, 200],
        "labels": [0, 1],
    }
    return IndexedShard.model_validate(fields | changes)


@pytest.fixture
def index():
    return ShardIndex(
        name="photos",
        classes=("a", "b"),
        mirror=True,
        validation="the folder val/",
        fingerprint="f",
        shards=[shard(), shard(file="val-000000.tar", split="val")],
    )


def test_it_is_read_as_it_was_written(index, tmp_path):
    write_index(index, tmp_path / "index.json")
    assert read_index(DiskStorage(), str(tmp_path / "index.json")) == index
    assert len((tmp_path / "index.json").read_text().splitlines()) == 4
    assert json.loads((tmp_path / "index.json").read_text())["shards"][0]["names"][1] == "b/ü 2.jpg"
    assert is_index((tmp_path / "index.json").read_bytes()[:200])


def test_it_may_be_laid_out_anew_by_another_program(index, tmp_path):
    write_index(index, tmp_path / "index.json")
    record = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps(record, indent=2))
    assert read_index(DiskStorage(), str(tmp_path / "index.json")) == index


@pytest.mark.parametrize("text", ["", "{}", '{"format": "other"}', "<html>", None])
def test_what_is_no_index_of_ours(text, tmp_path):
    if text is not None:
        (tmp_path / "index.json").write_text(text)
    assert read_index(DiskStorage(), str(tmp_path / "index.json")) is None


def change(record, kind):
    first, second = record["shards"]
    match kind:
        case "a label without a class":
            first["labels"][0] = 2
        case "a negative label":
            first["labels"][0] = -1
        case "a list that is short":
            first["sizes"].pop()
        case "no images":
            first |= {key: [] for key in ("names", "positions", "offsets", "sizes", "labels")}
        case "an image beyond the end":
            first["offsets"][1] = 9_900
        case "an image twice":
            first["positions"] = [0, 0]
        case "one name for two":
            first["names"] = ["a/1.jpg"] * 2
        case "a shard twice":
            second["file"] = first["file"]
        case "a path out of the folder":
            first["file"] = "../train-000000.tar"
        case "no val":
            record["shards"].pop()
        case "a number that is none":
            first["offsets"][0] = "x"
        case "a class twice":
            record["classes"] = ["a", "a"]
        case "a name that is a path":
            record["name"] = "../photos"
        case "a field too many":
            record["command"] = "rm"


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("a label without a class", "a label of train has no class"),
        ("a negative label", "lies outside"),
        ("a list that is short", r"lists of train-000000\.tar"),
        ("no images", r"lists of train-000000\.tar"),
        ("an image beyond the end", r"outside of train-000000\.tar"),
        ("an image twice", "listed twice or are missing"),
        ("one name for two", "two images of train have one name"),
        ("a shard twice", "a shard is listed twice"),
        ("a path out of the folder", "is not the name of a tar file beside the index"),
        ("no val", "no shards of val"),
        ("a number that is none", r"shards\.0\.offsets\.0"),
        ("a class twice", "named twice"),
        ("a name that is a path", "'../photos' is no short name"),
        ("a field too many", "command"),
    ],
)
def test_an_index_that_cannot_be_right(kind, complaint, index, tmp_path):
    record = index.model_dump(mode="json")
    change(record, kind)
    (tmp_path / "index.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=rf"index\.json is damaged: .*{complaint}.*: copy it again") as caught:
        read_index(DiskStorage(), str(tmp_path / "index.json"))
    assert "\n" not in str(caught.value)
