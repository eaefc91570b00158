"""Batches on workers: what Ray Data and Spark are given to run, and whole jobs on a Ray cluster of this machine."""

import functools
import json
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from conftest import scene
from small_nets import make_net
from verydeep import Classifier, UserError, VeryDeep
from verydeep.nets.model_file import save
from verydeep.testing import chunks
from verydeep.testing.descriptors import Describer, DescriptorOptions
from verydeep.transfer import ray as on_ray
from verydeep.transfer.features import extract_features
from verydeep.transfer.ray import RayOptions, compute_on_ray
from verydeep.transfer.workers import DescribeBatch, PredictBatch

SCALE = DescriptorOptions(test_scales=(40,))
CLUSTER = functools.partial(compute_on_ray, RayOptions(address="local", workers=2))


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(make_net("A", num_classes=3), Path("a.safetensors"))
    Path("photos").mkdir()
    for number in range(30):
        scene(number, 60, 50 + number % 3).save(f"photos/{number:02}.png")
    Path("photos/07.png").write_bytes(b"no image")


def small_chunks(monkeypatch):
    for module in (chunks, on_ray):
        monkeypatch.setattr(module, "CHUNK", 4)


def batch_of(paths):
    return {"path": np.array([str(path) for path in paths], object), "more": np.arange(len(paths))}


def test_a_batch_of_paths_gets_descriptors(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 4)
    paths = [Path(f"photos/{number:02}.png") for number in range(12)]
    with pytest.raises(UserError, match=r"photos/07.png"):
        DescribeBatch("a.safetensors", SCALE)(batch_of(paths))
    found = DescribeBatch("a.safetensors", SCALE, skip_damaged=True)(batch_of(paths))
    assert found["more"].tolist() == list(range(12))
    assert found["damaged"].tolist() == [number == 7 for number in range(12)]
    assert np.isnan(found["descriptor"][7]).all()
    import PIL.Image

    images = [np.asarray(PIL.Image.open(path)) for path in paths if path.stem != "07"]
    expected = Describer([make_net("A", num_classes=3)], SCALE).of(images)
    np.testing.assert_allclose(np.delete(found["descriptor"], 7, 0), expected, rtol=1e-5, atol=1e-6)


def test_a_batch_of_paths_gets_classes():
    paths = ["photos/03.png", "photos/07.png"]
    found = PredictBatch("a.safetensors", top=2)(batch_of(paths))
    expected = Classifier("a.safetensors").predict(paths[0], top=2)
    assert found["classes"] == [[one.name for one in expected.classes], []]
    assert found["posteriors"][0] == [one.posterior for one in expected.classes]
    assert found["error"][0] == ""
    assert "photos/07.png" in found["error"][1]


def test_a_frame_of_spark_is_a_batch_too():
    pandas = pytest.importorskip("pandas")
    describe = DescribeBatch("a.safetensors", SCALE)
    frame = pandas.DataFrame({"path": ["photos/01.png", "photos/02.png"]})
    found = frame.assign(descriptor=list(describe(frame)["descriptor"]))
    assert found["descriptor"][1].shape == (512,)


def test_blocks_in_any_order_become_the_file_of_one_process(monkeypatch):
    small_chunks(monkeypatch)

    def mapped(options, tables, make, *, gpu):
        work = make()
        batches = [work({name: np.array(column, object) for name, column in table.items()}) for table in tables]
        parts = [{name: column[rows] for name, column in one.items()}
                 for one in batches[::-1] for rows in (slice(2, None), slice(0, 2))]  # fmt: skip
        for part in parts:
            yield part | {"index": part["index"].astype(int)}

    monkeypatch.setattr(on_ray, "_mapped", mapped)
    extract_features("a.safetensors", "photos", "one.safetensors", SCALE, skip_damaged=True)
    result = extract_features(
        "a.safetensors", "photos", "ray.safetensors", SCALE, skip_damaged=True, compute_chunks=CLUSTER
    )
    assert result.skipped == ["07.png"]
    assert Path("one.safetensors").read_bytes() == Path("ray.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["features", "a.safetensors", "photos", "--out", "f.npz", "--ray-workers", "2"], "give --ray"),
        (["predict", "a.safetensors", "photos", "--ray", "local"], "--ray and --out FILE.parquet go together"),
        (["predict", "a.safetensors", "photos", "--out", "f.parquet"], "--ray and --out FILE.parquet go together"),
        (["predict", "a.safetensors", "photos", "--ray", "local", "--out", "f.csv"], "ends in .parquet"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments, said, verydeep):
    status, _, error = verydeep(*arguments)
    assert status == 2
    assert said in error


def workers_of_this_cluster():
    """The processes that map batches."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"MapWorker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers under /proc, which only Linux has")
def test_a_worker_that_is_killed_costs_no_image(monkeypatch):
    monkeypatch.setattr(on_ray, "CHUNK", 4)
    monkeypatch.setattr(chunks, "CHUNK", 4)
    Path("photos/07.png").unlink()
    extract_features("a.safetensors", "photos", "one.safetensors", SCALE)
    killed = []

    def with_a_kill(work, numbers, done):
        for chunk in CLUSTER(work, numbers, done):
            if not killed:
                killed.append(workers_of_this_cluster()[0])
                os.kill(killed[0], signal.SIGKILL)
            yield chunk

    extract_features("a.safetensors", "photos", "ray.safetensors", SCALE, compute_chunks=with_a_kill)
    assert killed
    assert Path("one.safetensors").read_bytes() == Path("ray.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_command_line_on_a_local_cluster(verydeep):
    status, _, error = verydeep("features", "a.safetensors", "photos", "--ray", "local", "--out", "f.parquet")
    assert status == 1
    assert "photos/07.png" in error
    assert "--damaged skip" in error
    save(VeryDeep("A", num_classes=3, crop=32, width=0.125), "b.safetensors")
    status, out, _ = verydeep(
        "predict", "a.safetensors", "photos", "--ray", "local", "--out", "p.parquet", "--top", 2, "--json"
    )
    assert status == 1  # as without a cluster, where an image cannot be read
    assert json.loads(out) == {"file": "p.parquet", "num_images": 30, "failed": 1}
    table = pyarrow.parquet.read_table("p.parquet").to_pydict()
    assert table["file"] == [f"photos/{number:02}.png" for number in range(30)]
    assert table["classes"][0] == [
        one.name for one in Classifier("a.safetensors").predict("photos/00.png", top=2).classes
    ]
    assert [bool(error) for error in table["error"]] == [number == 7 for number in range(30)]
