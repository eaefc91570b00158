"""ONNX: what the file says of itself, its halves, and weights beside it where they are too many for one file."""

import json

import numpy as np
import onnx
import pytest

from conftest import picture, scene
from exported_files import opened, write
from small_nets import make_net
from verydeep.export import onnx_file
from verydeep.export.operations import Output, Program
from verydeep.export.options import ExportOptions
from verydeep.export.sources import open_source
from verydeep.export.targets import TARGETS
from verydeep.images.geometry import rescale


@pytest.fixture
def model(tmp_path):
    return write(make_net("A", crop=32), tmp_path, scale=64)


def test_the_file_is_valid_and_says_what_it_is(model, tmp_path):
    options = ExportOptions(score_map=True)
    opened(open_source(model, options), "onnx", tmp_path, options)
    found = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(found, full_check=True)
    assert (found.opset_import[0].version, found.ir_version) == (18, 8)
    metadata = {entry.key: entry.value for entry in found.metadata_props}
    assert json.loads(metadata["classes"]) == list("abcdefg")
    assert json.loads(metadata["verydeep"])["architecture"] == "A"
    said = json.loads(metadata["verydeep.export"])
    assert said["softmax_inside"] is True
    assert "uint8, RGB in 0..255" in said["input"]
    assert {*said["outputs"]} == {"posteriors", "score_map"}


def test_weights_over_the_limit_lie_beside_the_file(model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "MOST_IN_ONE_FILE", 1000)
    source = open_source(model, ExportOptions())
    run, _ = opened(source, "onnx", tmp_path, ExportOptions())
    assert (tmp_path / "net.onnx").stat().st_size < 20_000 < (tmp_path / "net.onnx.data").stat().st_size
    images = np.asarray(scene(1, 96, 64))[None]
    assert np.allclose(run(images)["posteriors"], source.outputs(images)["posteriors"], atol=1e-5)


def test_fp16_halves_the_file_and_is_near(model, tmp_path):
    source = open_source(model, ExportOptions())
    opened(source, "onnx", tmp_path, ExportOptions())
    size = (tmp_path / "net.onnx").stat().st_size
    options = ExportOptions(precision="fp16", score_map=True)
    run, _ = opened(open_source(model, options), "onnx", tmp_path, options, "fp16")
    assert (tmp_path / "net.onnx").stat().st_size < 0.6 * size
    images = np.asarray(scene(1, 96, 64))[None]
    found = run(images)
    assert found["score_map"].dtype == np.float32
    assert 0 < np.abs(found["posteriors"] - source.outputs(images)["posteriors"]).max() < 0.01


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_each_kernel_rescales_nearly_as_ours(to, tmp_path):
    program = Program(layout="nhwc")
    planes = program.add("planes", "images", name="planes")
    rescaled = program.add("rescale", planes, name="rescaled", number=96)
    trimmed = program.add("trim", rescaled, name="trimmed", number=32)
    mean = {"mean": np.zeros((1, 3, 1, 1), np.float32)}
    program.add("normalise", trimmed, name="seen", constants=mean)
    program.outputs.append(Output("seen", ("n", 3, "i", "j"), "pixels"))
    runtime = TARGETS[to].runtime()
    file = tmp_path / f"pixels{TARGETS[to].suffix}"
    runtime.write(program, {}, "fp32", file, 64)
    run, _ = runtime.open(file)
    for seed, (width, height) in enumerate([(300, 227), (150, 211), (96, 160)]):
        for make in (scene, picture):
            pixels = np.asarray(make(seed, width, height))
            found = run(pixels[None])["seen"][0].transpose(1, 2, 0)
            ours = rescale(pixels, 96, 32)
            assert found.shape == ours.shape
            difference = np.abs(found - ours.astype(float))
            assert difference.mean() < 0.1
            assert difference.max() <= {"onnx": 16, "openvino": 2}[to]
