"""The model file: round trips, and every way in which a file can be no model file."""

import json
import pickle
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from verydeep.convnets.model_file import find_model_file, load, load_checkpoint, make_card, read_card, save
from verydeep.convnets.net import VeryDeep
from verydeep.mistakes import MistakeError


@pytest.fixture
def net():
    net = VeryDeep("C", num_classes=3, batch_norm=True, crop=64, width=0.125).eval()
    net.classes, net.mirror, net.train_scale = ("cat", "dög", "10"), False, (73, 146)
    net.set_input((1.5, 2.5, 3.5), (60, 61, 62))
    return net


def test_round_trip(net, tmp_path):
    file = tmp_path / "net.safetensors"
    save(net, file, card=make_card(net, epochs=3, recipe={"name": "quick"}))
    loaded = load(file)
    assert not loaded.training
    assert (loaded.geometry, loaded.classes, loaded.mirror, loaded.train_scale) == (
        net.geometry,
        net.classes,
        net.mirror,
        net.train_scale,
    )
    assert loaded.input_is_set
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(loaded(images), net(images))
    card = read_card(file)
    assert (card.epochs, card.mean, card.recipe) == (3, (1.5, 2.5, 3.5), {"name": "quick"})
    assert list(tmp_path.iterdir()) == [file]


def test_a_loaded_net_can_be_trained_and_its_file_stays(net, tmp_path):
    file = tmp_path / "net.safetensors"
    save(net, file)
    before = file.read_bytes()
    loaded = load(file).train()
    loaded(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)).sum().backward()
    with torch.no_grad():
        for parameter in loaded.parameters():
            assert parameter.grad is not None
            parameter -= parameter.grad
    assert file.read_bytes() == before


def test_metadata_is_one_string_of_plain_json(net, tmp_path):
    file = tmp_path / "net.safetensors"
    save(net, file)
    data = file.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    assert set(header["__metadata__"]) == {"format", "verydeep"}
    assert json.loads(header["__metadata__"]["verydeep"])["architecture"] == "C"


def test_checkpoint_is_a_model_file_with_more(net, tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    velocity = {"conv1_1.weight": torch.ones_like(net.get_submodule("conv1_1").weight)}
    save(net, file, state=velocity, progress={"epoch": 2})
    again, state, progress = load_checkpoint(file)
    assert progress == {"epoch": 2}
    assert torch.equal(state["conv1_1.weight"], velocity["conv1_1.weight"])
    assert torch.equal(again.mean, load(file).mean)
    save(net, file)
    with pytest.raises(MistakeError, match="no checkpoint"):
        load_checkpoint(file)


def test_run_folder_prefers_the_model_to_the_checkpoint(net, tmp_path):
    with pytest.raises(MistakeError, match=r"holds no model\.safetensors"):
        find_model_file(tmp_path)
    save(net, tmp_path / "checkpoint.safetensors")
    assert find_model_file(tmp_path).name == "checkpoint.safetensors"
    save(net, tmp_path / "model.safetensors")
    assert find_model_file(tmp_path).name == "model.safetensors"


class Payload:
    def __reduce__(self):
        return (pytest.fail, ("code from a pickle ran",))


def damage(kind, file, net):
    """Writes a file that is no model file."""
    save(net, file)
    data = file.read_bytes()
    match kind:
        case "cut in half":
            file.write_bytes(data[: len(data) // 2])
        case "empty":
            file.write_bytes(b"")
        case "pickle":
            file.write_bytes(pickle.dumps(Payload()))
        case "torch pickle":
            torch.save({"state": Payload()}, file)
        case "huge header":
            file.write_bytes(struct.pack("<Q", 2**31) + data[8:])
        case "text":
            file.write_text("not a model")
        case "another program's":
            save_file({"weight": torch.zeros(2)}, file, {"format": "pt"})
        case "card is no JSON":
            save_file({"weight": torch.zeros(2)}, file, {"verydeep": "{"})
        case "card of the future":
            card = make_card(net).model_dump() | {"format_version": 2}
            save_file(load_file(file), file, {"verydeep": json.dumps(card)})
        case "card of an unknown architecture":
            card = make_card(net).model_dump() | {"architecture": "Z"}
            save_file(load_file(file), file, {"verydeep": json.dumps(card)})
        case "tensor missing":
            tensors = load_file(file)
            del tensors["fc8.bias"]
            save_file(tensors, file, {"verydeep": make_card(net).model_dump_json()})
        case "tensor too many":
            tensors = load_file(file) | {"fc9.bias": torch.zeros(1)}
            save_file(tensors, file, {"verydeep": make_card(net).model_dump_json()})
        case "tensor of another shape":
            tensors = load_file(file) | {"fc8.bias": torch.zeros(4)}
            save_file(tensors, file, {"verydeep": make_card(net).model_dump_json()})


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("cut in half", "cut short"),
        ("empty", "no model file"),
        ("pickle", "no model file"),
        ("torch pickle", "no model file"),
        ("huge header", "no model file"),
        ("text", "no model file"),
        ("another program's", "another program"),
        ("card is no JSON", "card"),
        ("card of the future", "format_version"),
        ("card of an unknown architecture", "unknown architecture"),
        ("tensor missing", r"fc8\.bias is missing"),
        ("tensor too many", r"fc9\.bias is not one of C"),
        ("tensor of another shape", r"fc8\.bias.*\(4,\), not \(3,\)"),
    ],
)
def test_files_that_are_no_model_files(kind, complaint, net, tmp_path):
    file = tmp_path / "bad.safetensors"
    damage(kind, file, net)
    with pytest.raises(MistakeError, match=complaint) as caught:
        load(file)
    assert "\n" not in str(caught.value).strip()


def test_no_such_model(tmp_path):
    with pytest.raises(MistakeError, match="give a model file"):
        load(tmp_path / "nothing")


def test_saving_over_a_file_leaves_the_old_one_when_it_fails(net, tmp_path, monkeypatch):
    file = tmp_path / "net.safetensors"
    save(net, file)
    before = file.read_bytes()

    def fail(tensors, where, metadata):
        where.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("verydeep.convnets.model_file.save_file", fail)
    with pytest.raises(MistakeError, match=r"net\.safetensors cannot be written: No space"):
        save(net, file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_mean_is_not_folded_into_the_weights(net, tmp_path):
    save(net, tmp_path / "net.safetensors")
    assert np.allclose(load_file(tmp_path / "net.safetensors")["mean"], [1.5, 2.5, 3.5])
