"""A model's folder as the hub shows it: the hub's own parser reads its card, timm loads it, and so do we."""

import json

import pytest
import torch

from conftest import picture
from verydeep.cli.card import card_facts
from verydeep.errors import UsageError, UserError
from verydeep.nets.model_card import DataCard, make_card
from verydeep.nets.model_file import load, read_card, save
from verydeep.nets.net import VeryDeep
from verydeep.weights.hub_folder import write_model_folder

RESULTS = (
    {"protocol": "single", "split": "test", "data": "pets", "num_images": 40, "top1_error": 0.25, "top5_error": None},
    {
        "protocol": "multi-scale",
        "split": "test",
        "data": "pets",
        "num_images": 40,
        "top1_error": 0.2,
        "top5_error": 0.05,
    },
)


def make_net(architecture="D", **options):
    net = VeryDeep(architecture, **{"num_classes": 3, "crop": 32, "width": 0.125} | options).eval()
    net.set_input((1.5, 2.5, 3.5), (60, 61, 62))
    net.classes = None if net.features_only else ("cat", 'do"g', "bird | <b>")
    return net


def write(net, tmp_path, **known):
    """Writes a model file and its folder; gives the folder."""
    card = make_card(net, **{"licence": "Apache-2.0, as the package", "results": RESULTS} | known)
    save(net, tmp_path / "net.safetensors", card=card)
    return write_model_folder(tmp_path / "net.safetensors", tmp_path / "my-net")


def hub_data(folder):
    hub = pytest.importorskip("huggingface_hub")
    return hub.ModelCard.load(folder / "README.md", ignore_metadata_errors=False)


def test_the_hub_reads_the_card(tmp_path):
    data = DataCard(name="pets", fingerprint="ab" * 32, num_train=18, validation="a tenth")
    folder = write(make_net(), tmp_path, data=data)
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = hub_data(folder)
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "apache-2.0",
        "verydeep",
        "image-classification",
    )
    assert card.data.datasets == ["pets"]
    assert "arxiv:1409.1556" in card.data.tags
    measured = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert measured == {
        "top-1 accuracy by single": 0.75,
        "top-1 accuracy by multi-scale": 0.8,
        "top-5 accuracy by multi-scale": 0.95,
    }
    assert {(result.dataset_name, result.dataset_split) for result in card.data.eval_results} == {("pets", "test")}
    for text in (
        "D (VGG-16), crop 32, width 0.125",
        'cat, do"g, bird \\| &lt;b>',
        "top-1 error 20.00%",
        "verydeep.load",
    ):
        assert text in card.text
    assert "timm" not in card.text


@pytest.mark.parametrize(
    ("licence", "known"),
    [(None, "unknown"), ("MIT", "mit"), ("ask us", "other"), ("BSD-3-Clause for torchvision, which says", "other")],
)
def test_a_licence_that_the_hub_knows_is_named(licence, known, tmp_path):
    card = hub_data(write(make_net(), tmp_path, licence=licence))
    assert card.data.license == known
    assert (licence or "unknown") in card.text


@pytest.mark.parametrize("net", [make_net("C", batch_norm=True), make_net("A-LRN"), make_net(features_only=True)])
def test_verydeep_loads_the_folder(net, tmp_path):
    folder = write(net, tmp_path)
    again = load(folder)
    assert again.state_dict().keys() == net.state_dict().keys()
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in again.state_dict().items())
    config = json.loads((folder / "config.json").read_text())
    assert config["num_classes"] == (0 if net.features_only else 3)
    assert config["num_features"] == (64 if net.features_only else 512)
    assert config["pretrained_cfg"]["mean"] == pytest.approx([value / 255 for value in (1.5, 2.5, 3.5)])
    assert hub_data(folder).data.pipeline_tag == (
        "image-feature-extraction" if net.features_only else "image-classification"
    )


def test_storage_stays_as_it_was(tmp_path):
    save(make_net(), tmp_path / "net.safetensors", precision="bf16")
    assert "stored as bf16" in card_facts(read_card(tmp_path / "net.safetensors"))["weights"]
    folder = write_model_folder(tmp_path / "net.safetensors", tmp_path / "my-net")
    assert read_card(folder).precision == "bf16"
    assert (folder / "model.safetensors").stat().st_size == (tmp_path / "net.safetensors").stat().st_size


def test_timm_and_verydeep_load_the_same_folder(tmp_path):
    timm = pytest.importorskip("timm")
    net = make_net("A", batch_norm=True, crop=224, width=1)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    net.train_scale = (256, 256)
    folder = write(net, tmp_path)
    (tmp_path / "net.safetensors").unlink()
    card = hub_data(folder)
    assert card.data.library_name == "timm"
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))
    again = load(folder)
    assert read_card(folder).names == "timm"
    assert again.state_dict().keys() == net.state_dict().keys()
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in again.state_dict().items())
    image = picture(0, 320, 256)
    crop = image.crop((48, 16, 272, 240))  # the centre of the image, whose shorter side is Q already
    pixels = torch.frombuffer(bytearray(crop.tobytes()), dtype=torch.uint8).reshape(1, 224, 224, 3).permute(0, 3, 1, 2)
    with torch.inference_mode():
        ours = again(pixels)
        assert torch.allclose(theirs(transform(image)[None]), ours, rtol=1e-3, atol=1e-3 * ours.abs().max().item())
    features = load(folder, features_only=True)
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in features.state_dict().items())
    assert theirs.pretrained_cfg["label_names"] == list(net.classes)
    (folder / "model.safetensors").unlink()  # pytest keeps the folders of three runs


def test_what_ends_early_leaves_the_folder_empty(tmp_path, monkeypatch):
    save(make_net(), tmp_path / "net.safetensors")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("verydeep.weights.hub_folder.readme", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_model_folder(tmp_path / "net.safetensors", tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())
    assert write_model_folder(tmp_path / "net.safetensors", tmp_path / "new") == tmp_path / "new"


def test_a_folder_that_cannot_be(tmp_path):
    save(make_net(), tmp_path / "net.safetensors")
    with pytest.raises(UsageError, match=r"--out .* holds something already: give a new folder"):
        write_model_folder(tmp_path / "net.safetensors", tmp_path)
    with pytest.raises(UserError, match=r"cannot be written: Not a directory"):
        write_model_folder(tmp_path / "net.safetensors", tmp_path / "net.safetensors/folder")
    with pytest.raises(UserError, match="no model"):
        write_model_folder(tmp_path / "nothing", tmp_path / "new")
    assert not (tmp_path / "new").exists()
