"""The verb: files that are checked before they get their name, and what is said of them."""

import json

import numpy as np
import onnxruntime
import pytest

from conftest import scene
from exported_files import make_transferred, write
from small_nets import make_net
from verydeep.export import onnx_file


@pytest.fixture
def model(tmp_path):
    return write(make_net("A", crop=32), tmp_path, scale=64)


@pytest.fixture
def photographs(tmp_path):
    (tmp_path / "photographs").mkdir()
    for seed in range(4):
        scene(seed, 120 + seed, 90).save(tmp_path / "photographs" / f"{seed}.png")
    return tmp_path / "photographs"


def test_a_file_is_written_checked_and_described(model, photographs, verydeep, tmp_path):
    status, out, err = verydeep(
        "export", model, "--to", "onnx", "--out", tmp_path / "a.onnx", "--check", photographs, "--score-map", "--json"
    )
    assert status == 0, err
    record = json.loads(out)
    assert record["file"] == str(tmp_path / "a.onnx")
    assert record["max_posterior_difference"] < 1e-4
    assert record["top1_agreement"] == 1
    assert record["num_images"] == 2 + 3 + 4
    assert record["bytes"] == (tmp_path / "a.onnx").stat().st_size
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    posteriors, map_ = session.run(None, {"images": np.asarray(scene(9, 64, 96))[None]})
    assert posteriors.sum() == pytest.approx(1)
    assert map_.shape == (1, 7, 3, 2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.onnx", "net.safetensors", "photographs"]


def test_what_is_printed_names_runtime_and_difference(model, verydeep, tmp_path):
    status, out, _ = verydeep("export", model, "--to", "openvino", "--out", tmp_path / "a.xml", "--rescale")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'a.xml'} is written: OpenVINO IR, fp32, ")
    assert lines[0].endswith(f"with {tmp_path / 'a.bin'}")
    assert "rescaled inside by Interpolate 11, bilinear_pillow" in lines
    assert any(line.startswith("checked with openvino 20") and "largest posterior difference" in line for line in lines)
    assert any(line.startswith("with its rescaling in the place of ours: ") for line in lines)


def test_a_file_that_differs_is_kept_aside(model, photographs, verydeep, tmp_path, monkeypatch):
    def spoilt(self, operation):
        emit(self, operation)
        if operation.kind == "max-pool":
            self.nodes[-1].op_type = "AveragePool"

    emit = onnx_file._Nodes.emit
    monkeypatch.setattr(onnx_file._Nodes, "emit", spoilt)
    (tmp_path / "a.onnx").write_bytes(b"old")
    arguments = ("export", model, "--to", "onnx", "--out", tmp_path / "a.onnx", "--check", photographs)
    status, out, err = verydeep(*arguments)
    assert (status, out) == (1, "")
    kept = tmp_path / "a.onnx-differs" / "a.onnx"
    assert "give different answers on photographs: posteriors differ by up to" in err
    assert f"it is kept as {kept}, and {tmp_path / 'a.onnx'} is not written" in err
    assert kept.is_file()
    assert (tmp_path / "a.onnx").read_bytes() == b"old"
    assert verydeep(*arguments)[0] == 1
    assert (tmp_path / "a.onnx-differs-2").is_dir()


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_int8_is_calibrated_and_measured_on_the_users_images(to, make_folder, verydeep, tmp_path):
    net = make_net("A", crop=32)
    model = write(net, tmp_path, scale=64)
    data = make_folder("photos", dict.fromkeys("abcdefg", 8), side=70)
    suffix = {"onnx": ".onnx", "openvino": ".xml"}[to]
    arguments = ("export", model, "--to", to, "--out", tmp_path / f"a{suffix}")
    status, out, err = verydeep(*arguments, "--precision", "int8", "--data", data, "--check", data, "--json")
    assert status == 0, err
    record = json.loads(out)
    measured = record["measured"]
    assert 0 < measured["max_posterior_difference"] < 0.5
    assert 0 <= measured["top1_error"] <= 1
    assert measured["split"] == "test"
    assert verydeep(*arguments, "--json")[0] == 0
    plain = sum(file.stat().st_size for file in tmp_path.glob("a.*"))
    assert record["bytes"] < 0.5 * plain


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "onnx", "--out", "a.pt2"), "--out a.pt2: give a name that ends in .onnx"),
        (("--to", "coreml", "--out", "a.onnx"), "--to coreml: choose one of onnx or openvino"),
        (("--to", "onnx", "--out", "a.onnx", "--precision", "bf16"), "take fp16 for half the file"),
        (("--to", "onnx", "--out", "a.onnx", "--precision", "int8"), "give --data with images such as it will see"),
        (("--to", "onnx", "--out", "a.onnx", "--test-scale", "16"), "test scale 16 is below the net's crop of 32"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(arguments, said, model, verydeep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = verydeep("export", model, *arguments)
    assert (status, out) == (2, "")
    assert said in err


def test_a_missing_package_is_one_line_with_the_remedy(model, verydeep, tmp_path, monkeypatch):
    monkeypatch.setattr("verydeep.export.targets.find_spec", lambda name: None if name == "onnxruntime" else object())
    status, _, err = verydeep("export", model, "--to", "onnx", "--out", tmp_path / "a.onnx")
    assert status == 1
    assert err == ("verydeep: --to onnx needs onnxruntime, which is not installed: pip install 'verydeep[export]'\n")


def test_a_classifier_of_descriptors_is_a_model_too(photographs, verydeep, tmp_path):
    folder = make_transferred(tmp_path / "svm", names=("A",))
    arguments = ("export", folder, "--to", "onnx", "--out", tmp_path / "svm.onnx")
    status, out, err = verydeep(*arguments, "--check", photographs, "--json")
    assert status == 0, err
    assert json.loads(out)["rescaling"].startswith("Resize")
    status, _, err = verydeep(*arguments, "--score-map")
    assert status == 2
    assert "classifies descriptors and has no score map" in err
