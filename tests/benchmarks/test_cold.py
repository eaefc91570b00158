"""The script of ONNX Runtime and the package say the same of a photograph."""

import pytest

from benchmarks.cold import in_turns, write_graph
from benchmarks.compare import onnx_script
from conftest import scene
from small_nets import make_net
from verydeep import Classifier
from verydeep.nets.model_file import save


def test_the_script_computes_the_same_view(tmp_path, capsys):
    net = make_net("A", crop=64)
    net.train_scale = (96, 96)
    model, photograph = tmp_path / "net.safetensors", tmp_path / "scene.png"
    save(net, model)
    scene(0, 200, 130).save(photograph)
    write_graph(str(model), 96, photograph, tmp_path / "net.onnx")
    capsys.readouterr()
    onnx_script.main(str(tmp_path / "net.onnx"), 96, str(photograph))
    theirs = {int(index): float(value) for index, value in map(str.split, capsys.readouterr().out.splitlines())}
    ours = {ranked.index: ranked.posterior for ranked in Classifier(model).predict(photograph, top=7).classes}
    assert len(theirs) == 5
    assert theirs == pytest.approx({index: ours[index] for index in theirs}, abs=2e-3)


def test_commands_take_turns(tmp_path):
    log = tmp_path / "log"
    commands = {name: ["sh", "-c", f"echo {name} | tee -a {log}"] for name in "ab"}
    found = in_turns(commands, 2)
    assert log.read_text().split() == ["a", "b"] * 3
    assert found["a"].output.strip() == "a"
    assert found["b"].seconds > 0
