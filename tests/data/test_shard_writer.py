"""What is written: whole shards that another program reads, or nothing."""

import hashlib
import json
import signal
import subprocess
import sys
import tarfile
import time
from itertools import pairwise
from pathlib import Path

import pytest
from webdataset import tariterators

from verydeep.data.open import open_data
from verydeep.data.shard_writer import read_size, write_shards
from verydeep.errors import UsageError, UserError
from verydeep.images.decode import DamagedImageError


@pytest.fixture
def photos(make_folder):
    return make_folder("photos", {"dark": 30, "grey": 30, "bright": 30})


def samples_of(file):
    """What the webdataset package finds in a shard."""
    with file.open("rb") as stream:
        members = tariterators.tar_file_expander([{"stream": stream, "url": str(file)}])
        return list(tariterators.group_by_keys(members))


def test_another_reader_gets_the_same_images_in_mixed_order(photos, tmp_path):
    written = write_shards(photos, tmp_path / "shards", size="60K")
    data = open_data(photos)
    assert written.shards["train"] > 3
    for split in ("train", "val", "test"):
        images = data.split(split)
        files = sorted((tmp_path / "shards").glob(f"{split}-*.tar"))
        assert len(files) == written.shards[split]
        samples = [sample for file in files for sample in samples_of(file)]
        assert len(samples) == written.images[split] == len(images)
        positions = [int(sample["__key__"]) for sample in samples]
        assert sorted(positions) == list(range(len(images)))
        for position, sample in zip(positions, samples, strict=True):
            assert sample["png"] == Path(images.where(position)).read_bytes()
            assert int(sample["cls"]) == images.labels[position]
        if split == "train":
            labels = [int(sample["cls"]) for sample in samples]
            changes = sum(one != other for one, other in pairwise(labels))
            assert changes > len(labels) / 3


def test_the_index_says_what_is_there(photos, tmp_path):
    written = write_shards(photos, tmp_path / "shards", size="60K")
    index = json.loads(Path(written.index).read_text())
    assert {file.name for file in (tmp_path / "shards").iterdir()} == {
        "index.json",
        *(shard["file"] for shard in index["shards"]),
    }
    assert written.bytes == sum(shard["bytes"] for shard in index["shards"])
    for shard in index["shards"]:
        data = (tmp_path / "shards" / shard["file"]).read_bytes()
        assert len(data) == shard["bytes"] <= 60 * 1024
        assert hashlib.sha256(data).hexdigest() == shard["sha256"]
        with tarfile.open(tmp_path / "shards" / shard["file"]) as tar:
            members = [member for member in tar if not member.name.endswith(".cls")]
        assert [member.offset_data for member in members] == shard["offsets"]
        assert [member.size for member in members] == shard["sizes"]


def test_the_same_data_give_the_same_bytes(photos, tmp_path):
    for name in ("one", "two"):
        write_shards(photos, tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_a_size_below_one_image_gives_a_shard_for_each(photos, tmp_path):
    assert sum(write_shards(photos, tmp_path / "shards", size=1).shards.values()) == 90


@pytest.mark.parametrize(
    ("text", "size"), [("1000", 1000), ("2K", 2048), ("256M", 2**28), ("1g", 2**30), ("3MB", 3 * 2**20), ("1T", 2**40)]
)
def test_sizes(text, size):
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "0M", "big", "-1", "1.5G", "M"])
def test_what_is_no_size(text, photos, tmp_path):
    with pytest.raises(UsageError, match="256M"):
        write_shards(photos, tmp_path / "shards", size=text)
    assert not (tmp_path / "shards").exists()


def test_a_folder_that_is_taken_is_left_alone(photos, tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        write_shards(photos, tmp_path / "shards")
    with pytest.raises(UsageError, match="is a file"):
        write_shards(photos, tmp_path / "shards" / "thesis.tex")
    with pytest.raises(UserError, match="cannot be written"):
        write_shards(photos, tmp_path / "shards" / "thesis.tex" / "below")
    assert [file.name for file in (tmp_path / "shards").iterdir()] == ["thesis.tex"]
    (tmp_path / "empty").mkdir()
    assert write_shards(photos, tmp_path / "empty").num_images == 90


def test_damaged_images_are_fatal_or_left_out(photos, tmp_path):
    bad = Path(open_data(photos).train.where(3))
    whole = bad.read_bytes()
    bad.write_bytes(whole[:50])
    with pytest.raises(DamagedImageError, match=rf"{bad.name} .*--damaged skip"):
        write_shards(photos, tmp_path / "shards")
    assert not (tmp_path / "shards").exists()
    written = write_shards(photos, tmp_path / "shards", skip_damaged=True)
    assert written.skipped == [bad.relative_to(photos).as_posix()]
    assert written.num_images == 89
    shards, folder = open_data(tmp_path / "shards"), open_data(photos)
    assert shards.fingerprint != folder.fingerprint
    assert list(shards.train.names) == [name for name in folder.train.names if name != written.skipped[0]]


@pytest.mark.parametrize("new", [True, False])
def test_interrupted_writing_leaves_nothing(new, photos, tmp_path):
    out = tmp_path / "shards"
    if not new:
        out.mkdir()

    def interrupt(what, done, total):
        if what == "writing train" and done == 40:
            assert (out / "index.json.unfinished").exists()
            assert any(out.glob("train-*.tar"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(photos, out, size="60K", progress=interrupt)
    assert out.exists() is not new
    assert new or not any(out.iterdir())


def test_killed_writing_is_never_mistaken_for_whole(photos, tmp_path):
    code = (
        "import sys, time\n"
        "from verydeep.data.shard_writer import write_shards\n"
        "slow = lambda what, done, total: time.sleep(60 if what == 'writing train' and done == 40 else 0)\n"
        "write_shards(sys.argv[1], sys.argv[2], size='60K', progress=slow)\n"
    )
    out = tmp_path / "shards"
    process = subprocess.Popen([sys.executable, "-c", code, photos, out])
    deadline = time.monotonic() + 60
    while not (out / "train-000002.tar").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert any(out.glob("train-*.tar"))
    for data in (str(out), f"{out}/train-000000.tar"):
        with pytest.raises(UserError, match="was not written to its end: remove it"):
            open_data(data)
    with pytest.raises(UsageError, match="were not written to their end: remove it"):
        write_shards(photos, out)


def test_progress_tells_of_every_image(photos, tmp_path):
    told = []
    write_shards(photos, tmp_path / "shards", size="60K", progress=lambda *what: told.append(what))
    assert [done for what, done, total in told if what == "writing train"] == list(range(1, 67))
    assert told[-1] == ("writing test", 18, 18)
