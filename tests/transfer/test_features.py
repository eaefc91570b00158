"""Files of descriptors: what they hold, that a killed job ends in the same file, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from conftest import picture, scene
from small_nets import make_net
from verydeep import UserError
from verydeep.nets.model_file import save
from verydeep.testing import chunks
from verydeep.testing.descriptors import Describer, DescriptorOptions
from verydeep.transfer.features import extract_features
from verydeep.transfer.features_file import FeaturesFile
from verydeep.transfer.part import Part

SCALE = DescriptorOptions(test_scales=(40,))


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chunks, "CHUNK", 4)
    save(make_net("A", num_classes=3), Path("a.safetensors"))
    save(make_net("B", num_classes=3, seed=1), Path("b.safetensors"))


@pytest.fixture
def photos(make_folder):
    return make_folder("photos", dict.fromkeys("ab", 12), side=50)


class Killed(BaseException):
    """Ends a job at once."""


def kill_after(monkeypatch, count):
    """Kills a job in the middle of writing a chunk: its rows are there in part, and its line."""
    append = Part.append

    def appended(self, chunk):
        if len(self.chunks) == count:
            with self._rows.open("ab") as rows:
                rows.write(b"12345")
            with self._index.open("ab") as index:
                index.write(b'{"chunk": 9, "fir')
            raise Killed
        append(self, chunk)

    monkeypatch.setattr(Part, "append", appended)


def test_a_file_holds_descriptors_names_labels_splits_and_how_they_were_made(photos):
    result = extract_features("a.safetensors", photos, "all.safetensors", SCALE)
    found = FeaturesFile("all.safetensors")
    assert len(found) == result.num_images == 24
    assert sorted(found.names) == sorted(f"{name}/{index}.png" for name in "ab" for index in range(12))
    assert [found.job["classes"][label] for label in found.labels] == [name[0] for name in found.names]
    assert {split: found.splits.count(split) for split in ("train", "val", "test")} == {
        "train": 18,
        "val": 2,
        "test": 4,
    }
    assert found.job["layers"] == ["relu7"]
    assert found.job["models"][0]["name"] == "a.safetensors"
    assert len(found.job["models"][0]["sha256"]) == 64
    images = [np.asarray(Image.open(photos / name)) for name in found.names]
    expected = Describer([make_net("A", num_classes=3)], SCALE).of(images)
    np.testing.assert_allclose(found.descriptors(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate(list(found.blocks(5))), found.descriptors())
    assert not Path("all.safetensors.part").exists()


def test_the_three_formats_hold_the_same(photos):
    for ending in ("safetensors", "npz", "parquet"):
        extract_features(["a.safetensors", "b.safetensors"], photos, f"f.{ending}", SCALE)
    tensors, found = load_file("f.safetensors"), FeaturesFile("f.safetensors")
    with np.load("f.npz") as arrays:  # allow_pickle is False
        np.testing.assert_array_equal(arrays["descriptors"], tensors["descriptors"])
        np.testing.assert_array_equal(arrays["labels"], tensors["labels"])
        assert arrays["names"].tolist() == found.names
        assert arrays["splits"].tolist() == found.splits
        assert json.loads(str(arrays["metadata"])) == found.job
    table = pyarrow.parquet.read_table("f.parquet")
    np.testing.assert_array_equal(np.stack(table["descriptor"].to_numpy()), tensors["descriptors"])
    assert table["name"].to_pylist() == found.names
    assert table["label"].to_pylist() == tensors["labels"].tolist()
    assert table["split"].to_pylist() == found.splits
    assert json.loads(table.schema.metadata[b"verydeep_features"]) == found.job


@pytest.mark.parametrize("ending", ["safetensors", "npz", "parquet"])
def test_a_killed_job_is_resumed_to_the_same_file(photos, monkeypatch, ending):
    undisturbed = f"whole.{ending}"
    extract_features("a.safetensors", photos, undisturbed, SCALE)
    for killed_after in (2, 4):
        with monkeypatch.context() as patched:
            kill_after(patched, killed_after)
            with pytest.raises(Killed):
                extract_features("a.safetensors", photos, f"resumed.{ending}", SCALE, resume=killed_after > 2)
    result = extract_features("a.safetensors", photos, f"resumed.{ending}", SCALE, resume=True)
    assert result.computed == 8  # four chunks of four were kept
    assert Path(f"resumed.{ending}").read_bytes() == Path(undisturbed).read_bytes()


def test_what_another_job_has_left_is_refused_by_name(photos, make_folder, monkeypatch):
    with monkeypatch.context() as patched:
        kill_after(patched, 2)
        with pytest.raises(Killed):
            extract_features("a.safetensors", photos, "f.npz", SCALE)
    before = sorted(Path("f.npz.part").iterdir())
    with pytest.raises(UserError, match=r"f.npz.part is an unfinished job: resume it with --resume, or remove it"):
        extract_features("a.safetensors", photos, "f.npz", SCALE)
    with pytest.raises(UserError, match=r"of another job: test scales differs: \[\[40\]\] there, \[\[48\]\] here"):
        extract_features("a.safetensors", photos, "f.npz", DescriptorOptions(test_scales=(48,)), resume=True)
    with pytest.raises(UserError, match="of another job: models differs"):
        extract_features("b.safetensors", photos, "f.npz", SCALE, resume=True)
    with pytest.raises(UserError, match="of another job: data differs"):
        extract_features("a.safetensors", make_folder("others", {"a": 12, "b": 12}), "f.npz", SCALE, resume=True)
    assert sorted(Path("f.npz.part").iterdir()) == before
    Path("f.npz").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"f.npz is there already: give another --out"):
        extract_features("a.safetensors", photos, "f.npz", SCALE)
    assert Path("f.npz").read_bytes() == b"mine"


def test_a_finished_file_needs_no_resuming(photos):
    extract_features("a.safetensors", photos, "f.safetensors", SCALE)
    assert extract_features("a.safetensors", photos, "f.safetensors", SCALE, resume=True).computed == 0
    with pytest.raises(UserError, match="of another job: layers differs"):
        extract_features("a.safetensors", photos, "f.safetensors", DescriptorOptions(layer="pool5"), resume=True)


def test_two_jobs_do_not_write_one_file(photos, monkeypatch):
    def chunks_of(work, numbers, done):
        extract_features("a.safetensors", photos, "f.npz", SCALE, resume=True)
        yield

    with pytest.raises(UserError, match="another process is writing"):
        extract_features("a.safetensors", photos, "f.npz", SCALE, compute_chunks=chunks_of)


@pytest.mark.parametrize("ending", ["safetensors", "npz", "parquet"])
def test_images_without_labels_and_damaged_ones(verydeep, ending):
    folder = Path("flat")
    folder.mkdir()
    for number in range(6):
        scene(number, 60, 50).save(folder / f"{number}.png")
    (folder / "3.png").write_bytes(b"no image")
    options = ["--test-scales", 40, "--out", f"f.{ending}"]
    status, _, error = verydeep("features", "a.safetensors", folder, *options)
    assert status == 1
    assert "flat/3.png" in error
    assert "--damaged skip" in error
    status, out, error = verydeep(
        "features", "a.safetensors", folder, *options, "--damaged", "skip", "--json", "--out", f"g.{ending}"
    )
    assert status == 0
    assert json.loads(out)["skipped"] == ["3.png"]
    assert json.loads(out)["num_images"] == 5
    assert "left out 1 damaged image: 3.png" in error
    if ending == "safetensors":
        found = FeaturesFile("g.safetensors")
        assert found.names == ["0.png", "1.png", "2.png", "4.png", "5.png"]
        assert found.labels is None
        assert found.splits == ["unlabelled"] * 5


def test_names_need_not_be_unicode_and_images_may_have_one_pixel():
    folder = Path("flat")
    folder.mkdir()
    Image.new("RGB", (1, 1), (200, 10, 30)).save(folder / "one.png")
    picture(0, 50, 60).save(os.fsencode(folder) + b"/\xff.png", format="PNG")
    for ending in ("safetensors", "npz", "parquet"):
        extract_features("a.safetensors", folder, f"f.{ending}", SCALE)
    assert set(FeaturesFile("f.safetensors").names) == {"one.png", "\udcff.png"}
    assert set(pyarrow.parquet.read_table("f.parquet")["name"].to_pylist()) == {"one.png", "\\udcff.png"}


def test_one_split_and_data_that_no_mirror_may_turn():
    extract_features("a.safetensors", "digits", "f.safetensors", split="val")
    found = FeaturesFile("f.safetensors")
    assert set(found.splits) == {"val"}
    assert found.job["mirror"] == [False]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.safetensors", "--out", "f.npz"], "only a.safetensors is given"),
        (["a.safetensors", "photos"], "--out is missing"),
        (["a.safetensors", "photos", "--out", "f.txt"], "give a name that ends in .safetensors, .npz, .parquet"),
        (["a.safetensors", "photos", "--out", "f.npz", "--split", "tests"], "--split tests: choose one of"),
        (["a.safetensors", "photos", "--out", "f.npz", "--layer", "conv9"], "no layer 'conv9'"),
        (["a.safetensors", "photos", "--out", "f.npz", "--test-scales", "16"], "test scale 16 is too small"),
        (["a.safetensors", "photos", "--out", "f.npz", "--precision", "fp8"], "precision fp8: choose one of"),
        (["a.safetensors", "nowhere", "--out", "f.npz"], "no data 'nowhere'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(arguments, said, photos, verydeep):
    status, out, error = verydeep("features", *arguments)
    assert status in (1, 2)
    assert said in error
    assert error.count("\n") == 1
    assert not out
    assert not list(Path().glob("f.*"))


def test_a_damaged_file_is_said_to_be(photos):
    extract_features("a.safetensors", photos, "f.safetensors", SCALE)
    whole = Path("f.safetensors").read_bytes()
    Path("f.safetensors").write_bytes(whole[:-10])
    with pytest.raises(UserError, match="damaged"):
        FeaturesFile("f.safetensors")
    with pytest.raises(UserError, match="holds no descriptors"):
        FeaturesFile("a.safetensors")


def test_several_processes_write_the_same_file(make_folder, monkeypatch):
    monkeypatch.undo()
    photos = make_folder("many", {"a": 700, "b": 700}, side=32).resolve()
    folder = photos.parent
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = ["features", "a.safetensors", "many", "--layer", "pool5", "--test-scales", "32", "--out"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for command, out in (([], "one.safetensors"), (torchrun, "two.safetensors")):
        ran = subprocess.run(
            [sys.executable, *command, "-m", "verydeep", *arguments, out],
            env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
    assert (folder / "one.safetensors").read_bytes() == (folder / "two.safetensors").read_bytes()
    assert torch.isfinite(torch.from_numpy(FeaturesFile(folder / "two.safetensors").descriptors())).all()
