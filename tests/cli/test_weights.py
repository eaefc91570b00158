"""The command line of published weights, with weights of our own size on a server of our own."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import VGG16_Weights

from conftest import picture
from verydeep.download import Digest
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.weights.published import PUBLISHED


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("VERYDEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("VERYDEEP_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)
    picture(0, 300, 240).save("photo.png")
    return tmp_path


@pytest.fixture
def published(serve, tmp_path, monkeypatch):
    """Narrow nets on a server: imagenet-A with a published hash, timm-A without."""
    net = VeryDeep("A", num_classes=1000, width=0.0625)
    numbers = {"conv1_1": 0, "conv2_1": 3, "conv3_1": 6, "conv3_2": 8, "conv4_1": 11, "conv4_2": 13, "conv5_1": 16}
    numbers |= {"conv5_2": 18}
    names = {layer: f"features.{number}" for layer, number in numbers.items()}
    names |= {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}
    state = {}
    for name, tensor in net.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if layer:
            state[f"{names[layer]}.{kind}"] = tensor.flatten(1) if name == "fc8.weight" else tensor
    folder = tmp_path / "published"
    folder.mkdir()
    save_file(state, folder / "w.safetensors")
    content = (folder / "w.safetensors").read_bytes()
    server = serve(folder)
    digest = Digest("sha256", hashlib.sha256(content).hexdigest())
    for name, known in (("imagenet-A", digest), ("timm-A", None)):
        row = replace(PUBLISHED[name], url=f"{server.address}/w.safetensors", size=len(content), digest=known)
        monkeypatch.setitem(PUBLISHED, name, row)
    return server, digest.digits


def test_list(verydeep):
    status, out, _ = verydeep("weights", "list")
    assert status == 0
    for text in (
        "imagenet-D-bn",
        "26.64%",
        "8.48%",
        "sha256 6c64b313",
        "554 MB",
        "authors-E",
        "VERYDEEP_CACHE",
        "verydeep-cifar10 comes",
    ):
        assert text in out
    status, out, _ = verydeep("weights", "list", "--json")
    record = json.loads(out)
    assert [row["name"] for row in record["weights"]] == list(PUBLISHED)
    assert {"url", "licence", "top1_error", "top5_error", "protocol", "bytes", "hash", "here"} <= record["weights"][
        0
    ].keys()
    assert [row["name"] for row in record["shipped"]] == ["vgg16-features", "verydeep-cifar10"]
    assert all(row["here"] for row in record["shipped"])


def test_a_name_is_a_model(verydeep, published):
    server, _ = published
    status, out, err = verydeep("predict", "imagenet-A", "photo.png", "--json")
    assert status == 0
    assert "imagenet-A is fetched from torchvision (" in err
    assert "licence: BSD-3-Clause" in err
    classes = json.loads(out)["images"][0]["classes"]
    assert len(classes) == 5
    assert classes[0]["name"] in VGG16_Weights.IMAGENET1K_V1.meta["categories"]
    status, out, err = verydeep("predict", "torchvision-a", "photo.png", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["images"][0]["classes"] == classes
    assert len(server.requests) == 1
    status, out, _ = verydeep("inspect", "imagenet-A")
    assert status == 0
    for text in ("30.98%", "val images of imagenet by centre", "stored as fp32", "torchvision: http://127.0.0.1"):
        assert text in " ".join(out.split())
    status, out, _ = verydeep("weights", "list", "--json")
    here = {row["name"]: row["here"] for row in json.loads(out)["weights"]}
    assert [name for name, is_here in here.items() if is_here] == ["imagenet-A"]


def test_weights_without_a_hash_want_consent(verydeep, published):
    _, sha256 = published
    status, out, err = verydeep("evaluate", "timm-A", "digits")
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].endswith(f"verydeep weights fetch timm-A --accept-hash {sha256}")
    status, _, err = verydeep("weights", "fetch", "timm-A", "imagenet-A", "--accept-hash", sha256)
    assert status == 2
    assert "give one name" in err
    status, out, err = verydeep("weights", "fetch", "timm-A", "--accept-hash", sha256, "--json")
    assert status == 0
    assert json.loads(out)["weights"][0]["here"] is True
    status, _, err = verydeep("weights", "fetch", "timm-A", "--accept-hash", sha256[:-1])
    assert status == 1
    assert "was made of another file" in err
    assert verydeep("weights", "fetch", "timm-A", "--accept-hash", sha256.upper())[0] == 0
    assert verydeep("predict", "timm/vgg11.tv_in1k", "photo.png")[0] == 0


def test_offline_is_one_line(verydeep, published, monkeypatch):
    monkeypatch.setenv("VERYDEEP_OFFLINE", "1")
    for command in (
        ["predict", "imagenet-A", "photo.png"],
        ["inspect", "imagenet-A"],
        ["weights", "fetch", "imagenet-A"],
    ):
        status, out, err = verydeep(*command)
        assert (status, out) == (1, "")
        assert "VERYDEEP_OFFLINE is set" in err.splitlines()[-1]
    assert verydeep("weights", "fetch", "imagenet-Z")[0] == 2


def test_training_from_a_name(verydeep, published):
    status, _, err = verydeep(
        "train", "digits", "--init-from", "imagenet-A", "--architecture", "A", "--width", 0.0625, "--crop", 32,
        "--epochs", 1, "--recipe", "quick", "--batch-size", 500, "--out", "run",
    )  # fmt: skip
    assert status == 0, err
    assert "from imagenet-A: copied conv1_1" in err


def test_check_reads_a_file_through(verydeep, tmp_path):
    net = VeryDeep("A", num_classes=3, crop=32, width=0.125)
    save(net, "net.safetensors")
    status, out, _ = verydeep("inspect", "net.safetensors", "--check", "--json")
    sha256 = hashlib.sha256((tmp_path / "net.safetensors").read_bytes()).hexdigest()
    assert status == 0
    assert json.loads(out)["check"]["sha256"] == sha256
    status, out, _ = verydeep("inspect", "net.safetensors", "--check")
    assert status == 0
    assert "all numbers finite" in " ".join(out.split())
    with torch.no_grad():
        net.fc8.bias[0] = float("nan")
    save(net, "net.safetensors")
    assert load_file("net.safetensors")["fc8.bias"].isnan().any()
    status, out, err = verydeep("inspect", "net.safetensors", "--check", "--json")
    assert status == 1
    assert json.loads(out)["check"]["not_finite"] == {"fc8.bias": 1}
    assert "tensor fc8.bias has NaN or infinity in 1 of its numbers" in err
    status, _, err = verydeep("inspect", "D", "--check")
    assert status == 2
    assert "--check reads a model file" in err


@pytest.mark.filterwarnings("ignore:computing with torch instead of verydeep's kernel")  # no compiler
def test_inspect_measures_the_backends(verydeep):
    generator = torch.Generator().manual_seed(0)
    save(VeryDeep("A", num_classes=3, crop=32, width=0.125, generator=generator), "net.safetensors")
    status, out, err = verydeep("inspect", "net.safetensors", "--speed", "--json")
    assert status == 0, err
    for row in json.loads(out)["speed"]:
        assert row["images_per_second"].keys() == {"1", "8"}
        # bf16 has eight bits, and the scores of random weights are small differences
        assert 0 < row["relative_error"] < 5e-2
    status, out, _ = verydeep("inspect", "A", "--crop", 32, "--classes", 3, "--speed")
    assert status == 0
    assert "relative error" in out
    assert "bf16" in out


def test_training_without_validation(verydeep):
    common = ("train", "digits", "--recipe", "quick", "--epochs", 1, "--width", 0.0625, "--no-validation")
    status, out, err = verydeep(*common, "--out", "run")
    assert status == 0, err
    assert "digits: 10 classes, 1,438 train, 359 test images" in err
    assert "validation error" not in err
    assert "training images by single after" in " ".join(out.split())
    record = json.loads(Path("run/run.json").read_text())
    assert record["hold_out"] is False
    status, out, _ = verydeep("inspect", "run", "--json")
    card = json.loads(out)["card"]
    assert (card["data"]["num_train"], card["errors"]["split"]) == (1438, "train")
    assert card["data"]["validation"].startswith("none")
    status, _, err = verydeep("train", "--resume", "--out", "run")
    assert status == 0, err
    status, _, err = verydeep(*common, "--set", "schedule=plateau", "--out", "other")
    assert status == 2
    assert "--no-validation: the recipe quick chooses by the validation error" in err


def test_a_folder_for_the_hub(verydeep, tmp_path):
    save(VeryDeep("A", num_classes=3, crop=32, width=0.125), "net.safetensors", precision="bf16")
    status, out, _ = verydeep("weights", "export", "net.safetensors", "--to", "hub", "--out", "my-net", "--json")
    assert status == 0
    assert json.loads(out)["files"] == ["my-net/README.md", "my-net/config.json", "my-net/model.safetensors"]
    assert verydeep("predict", "my-net", "photo.png")[0] == 0
    status, _, err = verydeep("weights", "export", "net.safetensors", "--to", "hub", "--out", "my-net")
    assert status == 2
    assert "my-net holds something already" in err
    status, out, _ = verydeep("weights", "export", "net.safetensors", "--to", "hub", "--out", "other")
    assert status == 0
    assert "upload_folder(repo_id='OWNER/NAME', folder_path='other')" in out
