"""The verb ``bench``: toy nets, all that it can measure."""

import json
import os
from xml.etree import ElementTree

import pytest
import torch

from verydeep.apps import bench_cli
from verydeep.bench import inference

pytestmark = pytest.mark.filterwarnings("ignore:computing with torch instead of verydeep's kernel")  # no compiler

KEYS = {"what", "machine", "rows", "ratio_to_best_peer", "cases", "absent", "allocator", "options"}
ROW_KEYS = {"name", "images_per_second", "seconds", "peak_memory_bytes", "relative_error", "case", "ratio_to_best_peer"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The process of the tests stays as it is, and products of matrices are small."""
    from verydeep.bench import measure, peak, rounds

    monkeypatch.setattr(bench_cli, "_prepare", lambda threads, tuned: None)
    monkeypatch.setattr(measure, "product_peaks", lambda precisions: peak.product_peaks(precisions, side=64))
    monkeypatch.setattr(rounds.time, "sleep", lambda seconds: None)


@pytest.fixture
def few_peers(monkeypatch):
    """Without the peers that take seconds to be prepared; ONNX Runtime as where it is not installed."""
    peers = inference.Inference._peers

    def some(self, batch, precision):
        left_out = ("torch.compile", "OpenVINO")
        return [peer for peer in peers(self, batch, precision) if not peer.name.startswith(left_out)]

    def missing(*_):
        raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")

    monkeypatch.setattr(inference.Inference, "_peers", some)
    monkeypatch.setattr(inference, "onnx_runtime", missing)


TOY = ("--architecture", "A", "--width", 0.0625, "--crop", 32, "--rounds", 2, "--threads", 1)


def test_inference(verydeep, few_peers, tmp_path):
    options = ("--what", "inference", *TOY, "--batch", "1,2", "--no-memory")
    status, out, err = verydeep("bench", *options, "--json", "--out", tmp_path / "speeds.svg")
    assert status == 0, err
    record = json.loads(out)
    assert record.keys() >= KEYS
    assert record["what"] == "inference"
    assert {row["case"] for row in record["rows"]} == {case["case"] for case in record["cases"]}
    assert len(record["cases"]) == 2
    for row in record["rows"]:
        assert row.keys() >= ROW_KEYS
        assert row["relative_error"] < 1e-5
        assert 0 < row["slowest"] <= row["images_per_second"] <= row["fastest"]
    ours = [row for row in record["rows"] if row["is_ours"]]
    assert record["ratio_to_best_peer"] == min(row["ratio_to_best_peer"] for row in ours)
    reasons = {absent["package"]: absent["reason"] for absent in record["absent"]}
    assert reasons["onnxruntime"] == "not installed: pip install onnxruntime"
    drawn = ElementTree.parse(tmp_path / "speeds.svg").getroot()
    titles = [title.text or "" for title in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == len(record["rows"])
    assert any(title.startswith("verydeep ") for title in titles)


def test_a_table_for_a_person(verydeep, few_peers):
    status, out, err = verydeep("bench", "--what", "inference", *TOY, "--batch", 1, "--no-memory")
    assert status == 0, err
    for text in (
        "1 thread for all",
        "keeps freed memory, for all alike",
        "of the best peer",
        "Peak of a matrix product",
    ):
        assert text in out
    assert "onnxruntime" in out.replace("\n", " ")
    assert "memory" not in out.partition("┏")[2]  # what was not measured has no column


@pytest.mark.parametrize("what", ["training", "dense", "pipeline"])
def test_the_others(verydeep, what, monkeypatch):
    from verydeep.bench import training
    from verydeep.bench.contender import LeftOutError

    def none() -> None:
        raise LeftOutError("torch.compile is left out of the tests")

    monkeypatch.setattr(training, "check_compiler", none)
    net, crop = TOY[:4], TOY[4:6]
    sizes = {"training": (*net, "--batch", 4), "pipeline": ("--photographs", 2), "dense": net}[what]
    status, out, err = verydeep("bench", "--what", what, *crop, "--rounds", 1, *sizes, "--no-memory", "--json")
    assert status == 0, err
    record = json.loads(out)
    assert record["what"] == what
    assert all(case["ratio_to_best_peer"] > 0 for case in record["cases"])
    if what == "training":
        assert all(row["relative_error"] < 1e-4 for row in record["rows"])
        assert next(row["computed_by"] for row in record["rows"] if row["is_ours"]).startswith("cpu, fp32")
    elif what == "pipeline":
        assert all(row["pixel_difference"] < 0.5 for row in record["rows"] if row["is_ours"])
    else:
        errors = [row["relative_error"] for row in record["rows"] if row["case"] == "three scales, dense"]
        assert len(errors) == 3
        assert max(errors) < 1e-5
        assert record["time_ratio_over_mac_ratio"] == pytest.approx(record["time_ratio"] / record["mac_ratio"])


def test_predict_in_new_processes(verydeep):
    status, out, err = verydeep("bench", "--what", "predict", *TOY[:6], "--rounds", 1, "--photographs", 2, "--json")
    assert status == 0, err
    record = json.loads(out)
    rows = {row["name"].partition(" 0")[0]: row for row in record["rows"] if row["case"].startswith("one")}
    assert rows["verydeep --help"]["seconds"] < rows["verydeep predict"]["seconds"]
    assert rows["verydeep --help"]["peak_memory_bytes"] < 100e6 < rows["verydeep predict"]["peak_memory_bytes"]
    assert record["ratio_to_best_peer"] is None  # torchvision's script has no such small net
    assert {absent["reason"][:28] for absent in record["absent"]} == {"torchvision cannot hold this"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--what", "everything"), "--what everything: choose one of inference, training, pipeline, predict, dense"),
        (("--what", "inference", "--precision", "fp64"), "--precision fp64: choose one of"),
        (("--what", "inference", "--batch", "a"), "--batch a: give numbers of images, such as 1,8"),
        (("--what", "inference", "--threads", 0), "--threads 0: give 1 or more"),
        (("--what", "inference", "--out", "speeds.pdf"), "--out speeds.pdf: give a name that ends in .svg"),
        (("--what", "dense", "--precision", "int8"), "--precision int8: dense testing is measured in fp32"),
        (("--what", "inference", "--architecture", "C"), "--architecture C: torchvision has A, B, D and E only"),
        (("--what", "inference", "--architecture", "Z"), "Z"),
        ((), "Missing option '--what'"),
    ],
)
def test_wrong_use_gives_one_line(verydeep, options, message):
    status, out, err = verydeep("bench", *options)
    assert status == 2
    assert not out
    assert message in err.strip().splitlines()[-1]
    assert len(err.strip().splitlines()) == 1


def test_data_and_figure_that_cannot_be(verydeep, tmp_path):
    status, _, err = verydeep("bench", "--what", "pipeline", "--data", tmp_path / "nowhere", "--no-memory")
    assert status == 1
    assert "there is no such folder" in err
    status, _, err = verydeep("bench", "--what", "pipeline", "--out", tmp_path / "no" / "speeds.svg")
    assert status == 2
    assert "make it first" in err


def test_threads_are_set_before_libraries_load(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    bench_cli._prepare(2, tuned=False)
    assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "2"
    assert "THP_MEM_ALLOC_ENABLE" not in os.environ
    assert torch.get_num_threads() == 1
