"""python -m benchmarks: toy nets, few peers."""

import json
import os
from xml.etree import ElementTree

import pytest
import torch

import benchmarks.__main__ as command
from benchmarks.compare import features as compared_features
from benchmarks.compare import inference, measure, peak, rounds

pytestmark = pytest.mark.filterwarnings("ignore:computing with torch instead of verydeep's kernel")  # no compiler

KEYS = {"what", "machine", "rows", "ratio_to_best_peer", "cases", "absent", "allocator", "options"}
ROW_KEYS = {"name", "images_per_second", "seconds", "peak_memory_bytes", "relative_error", "case", "ratio_to_best_peer"}
TOY = ("--architecture", "A", "--width", "0.0625", "--crop", "32", "--threads", "1", "--no-memory")


@pytest.fixture
def quick(monkeypatch):
    """The process of the tests stays as it is, and products of matrices are small."""
    monkeypatch.setattr(command, "set_threads_and_allocator", lambda threads, tuned: None)
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


def test_json_and_figure_of_inference(quick, few_peers, capsys, tmp_path):
    options = ("--rounds", "2", "--batch", "1,2", "--json", "--out", str(tmp_path / "speeds.svg"))
    command.main(["inference", *TOY, *options])
    record = json.loads(capsys.readouterr().out)
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


def test_dense_testing_of_ours_and_of_peers_is_the_same(quick, capsys):
    command.main(["dense", *TOY, "--rounds", "1", "--json"])
    record = json.loads(capsys.readouterr().out)
    errors = [row["relative_error"] for row in record["rows"] if row["case"] == "three scales, dense"]
    assert len(errors) == 3
    assert max(errors) < 1e-5
    assert record["time_ratio_over_mac_ratio"] == pytest.approx(record["time_ratio"] / record["mac_ratio"])


def test_descriptors_of_ours_and_of_a_script_are_the_same(quick, capsys, monkeypatch):
    monkeypatch.setattr(compared_features, "_KINDS", ((True, 0, False), (False, 0, False)))  # nothing compiled
    command.main(["features", *TOY, "--photographs", "2", "--rounds", "1", "--json"])
    record = json.loads(capsys.readouterr().out)
    assert [case["case"].rpartition(" ")[2] for case in record["cases"]] == ["pool5", "relu7"]
    assert len(record["rows"]) == 6
    assert max(row["relative_error"] for row in record["rows"]) < 0.02  # decoders and rescaling differ by grey levels


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("everything",), 2, "everything: choose one of inference, training, pipeline, predict, dense"),
        (("inference", "--threads", "0"), 2, "--threads 0: give 1 or more"),
        (("inference", "--out", "speeds.pdf"), 2, "--out speeds.pdf: give a name that ends in .svg"),
        (("pipeline", "--data", "nowhere", "--no-memory"), 1, "there is no such folder"),
    ],
)
def test_what_cannot_be_measured_gives_one_line(quick, capsys, arguments, status, message):
    with pytest.raises(SystemExit) as ended:
        command.main(list(arguments))
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (status, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_threads_are_set_before_libraries_load(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    command.set_threads_and_allocator(2, tuned=False)
    assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "2"
    assert "THP_MEM_ALLOC_ENABLE" not in os.environ
    assert torch.get_num_threads() == 1
