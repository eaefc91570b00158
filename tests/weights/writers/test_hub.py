"""A folder for the hub: the hub's own parser reads its card, and we load it."""

import json

import pytest
import torch

from verydeep.errors import UsageError, UserError
from verydeep.nets.model_card import DataCard, card_facts, make_card
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.weights.resolve import load, read_card
from verydeep.weights.writers.hub import write_hub_folder

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
    return write_hub_folder(tmp_path / "net.safetensors", tmp_path / "my-net")


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
    assert config["architecture"] == net.geometry.architecture.name
    assert (config["crop"], config["width"], config["features_only"]) == (32, 0.125, net.features_only)
    assert (config["num_classes"], config["batch_norm"]) == (net.geometry.num_classes, net.geometry.batch_norm)
    assert (config["mean"], config["divisor"]) == ([1.5, 2.5, 3.5], [60, 61, 62])
    assert hub_data(folder).data.pipeline_tag == (
        "image-feature-extraction" if net.features_only else "image-classification"
    )


def test_storage_stays_as_it_was(tmp_path):
    save(make_net(), tmp_path / "net.safetensors", precision="bf16")
    assert "stored as bf16" in card_facts(read_card(tmp_path / "net.safetensors"))["weights"]
    folder = write_hub_folder(tmp_path / "net.safetensors", tmp_path / "my-net")
    assert read_card(folder).precision == "bf16"
    assert (folder / "model.safetensors").stat().st_size == (tmp_path / "net.safetensors").stat().st_size


def test_without_huggingface_hub_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'verydeep\[hub\]'"):
        write(make_net(), tmp_path)
    assert not (tmp_path / "my-net").exists()


def test_what_ends_early_leaves_the_folder_empty(tmp_path, monkeypatch):
    save(make_net(), tmp_path / "net.safetensors")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("verydeep.weights.writers.hub._write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_hub_folder(tmp_path / "net.safetensors", tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())
    assert write_hub_folder(tmp_path / "net.safetensors", tmp_path / "new") == tmp_path / "new"


def test_a_folder_that_cannot_be(tmp_path):
    save(make_net(), tmp_path / "net.safetensors")
    with pytest.raises(UsageError, match=r"--out .* holds something already: give a new folder"):
        write_hub_folder(tmp_path / "net.safetensors", tmp_path)
    with pytest.raises(UserError, match=r"cannot be written: Not a directory"):
        write_hub_folder(tmp_path / "net.safetensors", tmp_path / "net.safetensors/folder")
    with pytest.raises(UserError, match="no model"):
        write_hub_folder(tmp_path / "nothing", tmp_path / "new")
    assert not (tmp_path / "new").exists()
