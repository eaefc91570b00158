"""The script and the package say the same of a photograph."""

import pytest
import torchvision

from benchmarks.compare import plain_script, top5
from benchmarks.compare.contender import LeftOutError, Options
from benchmarks.compare.nets import as_torchvision_builds_it
from benchmarks.compare.predict import Predict
from conftest import scene
from verydeep.errors import UsageError


@pytest.mark.filterwarnings("ignore:computing with torch instead of verydeep's kernel")  # where no compiler was
def test_the_script_computes_the_same_net(tmp_path, monkeypatch, capsys):
    import torch

    from verydeep.nets.model_file import save
    from verydeep.nets.net import VeryDeep

    net = VeryDeep("A", width=0.0625, num_classes=9, generator=torch.Generator().manual_seed(0)).eval()
    net.set_input((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    save(net, tmp_path / "net.safetensors")
    twin = as_torchvision_builds_it(net)
    torch.save(twin.state_dict(), tmp_path / "net.pth")
    monkeypatch.setattr(torchvision.models, "vgg11", lambda num_classes, init_weights: as_torchvision_builds_it(net))
    files = []
    for seed in range(3):
        files.append(str(tmp_path / f"{seed}.png"))
        scene(seed, 256, 256).save(files[-1])
    plain_script.main("vgg11", str(tmp_path / "net.pth"), files)
    theirs = capsys.readouterr().out.splitlines()
    top5.main(str(tmp_path / "net.safetensors"), "fp32", files)
    ours = capsys.readouterr().out.splitlines()
    assert len(ours) == len(theirs) == 3
    for mine, other in zip(ours, theirs, strict=True):
        assert len(mine.split()) == 5
        first, second = ({i: float(p) for i, p in (pair.split(":") for pair in line.split())} for line in (mine, other))
        for index in first.keys() & second.keys():
            assert first[index] == pytest.approx(second[index], abs=2e-3)
        assert len(first.keys() & second.keys()) >= 4  # the last two may be nearly alike


@pytest.mark.parametrize(
    ("change", "says"), [({"precision": "int8"}, "has fp32, bf16 and auto"), ({"tuned": False}, "both ways")]
)
def test_what_predict_does_not_measure(change, says):
    with pytest.raises(UsageError, match=says):
        Predict(Options(what="predict", **change))


def test_a_net_that_the_script_cannot_have():
    predict = Predict(Options(what="predict", width=0.0625, crop=32, photographs=2))
    for case in predict.cases():
        for contender in case.contenders:
            if "script" in contender.name:
                with pytest.raises(LeftOutError, match="the paper's width"):
                    contender.make()
