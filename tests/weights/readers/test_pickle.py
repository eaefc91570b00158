"""Files of torch.save: every form is read, and nothing in one is ever run."""

import pickle
import re
import sys
import zipfile

import pytest
import torch

from peer_nets import torchvision_net
from verydeep.errors import UserError
from verydeep.weights.imported import assemble
from verydeep.weights.readers import find_reader, read_weights
from verydeep.weights.readers.checkpoint import load_pickle


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, file) -> None:
        self.file = file

    def __reduce__(self):
        return (eval, (f"open({str(self.file)!r}, 'w').close()",))


@pytest.fixture
def state():
    return torchvision_net("A", batch_norm=True, num_classes=3).state_dict()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("key", "name"),
    [(None, "a.pth"), ("state_dict", "a.h5"), ("model", "a.safetensors")],  # the names say nothing
)
def test_tensors_come_bit_by_bit_whatever_holds_them(state, zipped, key, name, tmp_path):
    file = tmp_path / name
    torch.save(state if key is None else {"epoch": 3, key: state}, file, _use_new_zipfile_serialization=zipped)
    assert find_reader(file).name == "PyTorch"
    net = assemble(read_weights(file))
    assert torch.equal(net.get_parameter("conv1_1.weight"), state["features.0.weight"])
    assert torch.equal(net.get_buffer("bn5_2.running_var"), state["features.26.running_var"])
    assert torch.equal(net.get_parameter("fc6.weight").flatten(1), state["classifier.0.weight"])
    assert net.get_buffer("bn1_1.num_batches_tracked") == 7


def test_half_precision_is_widened(state, tmp_path):
    torch.save({name: tensor.half() for name, tensor in state.items()}, tmp_path / "half.pth")
    net = assemble(read_weights(tmp_path / "half.pth"))
    assert net.get_parameter("fc7.bias").dtype == torch.float32
    assert torch.equal(net.get_parameter("fc7.bias"), state["classifier.3.bias"].half().float())


@pytest.mark.parametrize(
    "ending", [".pth", ".pt", ".bin", ".h5", ".keras", ".safetensors", ".caffemodel", ".mat", ".onnx"]
)
@pytest.mark.parametrize("form", ["pickle", "torch", "old torch", "protocol 0"])
def test_a_pickle_with_a_payload_runs_under_no_name(state, ending, form, tmp_path):
    file, sign = tmp_path / f"weights{ending}", tmp_path / "it ran"
    harmful = state | {"features.0.weight": Payload(sign)}
    match form:
        case "pickle":
            file.write_bytes(pickle.dumps(harmful))
        case "protocol 0":
            file.write_bytes(pickle.dumps(harmful, protocol=0))
        case _:
            torch.save(harmful, file, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(UserError) as told:
        read_weights(file)
    assert not sign.exists()
    assert str(file) in str(told.value)
    assert "\n" not in str(told.value)


def test_the_payload_is_one_that_runs(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "it ran")))
    assert (tmp_path / "it ran").exists()


class Settings:
    pass


def test_objects_of_other_programs_beside_the_weights_are_passed_over_and_named(state, tmp_path, monkeypatch):
    settings = Settings()
    settings.inner = {"of": Settings()}
    torch.save({"model": state, "args": settings, "opt": {"state": [], "hypers": Settings()}}, tmp_path / "a.pth")
    monkeypatch.delattr(sys.modules[__name__], "Settings")
    found = load_pickle(tmp_path / "a.pth")
    assert found.tensors.keys() == state.keys()
    (note,) = found.notes
    assert re.fullmatch(r"objects of \S*Settings beside the weights were passed over, and nothing .* was run", note)


def test_what_asks_to_be_called_beside_the_weights_is_refused_with_the_remedy(state, tmp_path):
    sign = tmp_path / "it ran"
    torch.save({"model": state, "args": Payload(sign)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"asks to run \S+, .*torch\.save\(model\.state_dict\(\), FILE"):
        read_weights(tmp_path / "a.pth")
    assert not sign.exists()


class Backbone(torch.nn.Module):
    """A class that only the program knows that made the file."""

    def __init__(self):
        super().__init__()
        self.model = torchvision_net("A", num_classes=3)
        self.register_buffer("counted", torch.ones(3), persistent=False)
        self.names = {0: "a"}


@pytest.mark.parametrize("key", [None, "model", "ema"])
def test_the_weights_of_a_module_pickled_whole_are_taken_without_its_class(key, tmp_path, monkeypatch):
    net = Backbone()
    expected = read_weights_of(net.state_dict(), tmp_path)
    whole = net if key is None else {key: net, "epoch": 3, "train_args": {"lr": 0.1}, "optimizer": None}
    torch.save(whole, tmp_path / "whole.pth")
    monkeypatch.delattr(sys.modules[__name__], "Backbone")
    found = read_weights(tmp_path / "whole.pth")
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert torch.equal(found.tensors[name], tensor)


def read_weights_of(state, folder):
    torch.save(state, folder / "state.pth")
    return read_weights(folder / "state.pth")


def test_beside_a_module_nothing_is_run_either(tmp_path):
    sign = tmp_path / "it ran"
    torch.save({"model": torchvision_net("A", num_classes=3), "also": Payload(sign)}, tmp_path / "a.pth")
    assert read_weights(tmp_path / "a.pth").tensors
    assert not sign.exists()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_script_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "a.pt")
    with pytest.raises(UserError, match="TorchScript"):
        read_weights(tmp_path / "a.pt")


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_short_is_told(state, zipped, fraction, tmp_path):
    file = tmp_path / "a.pth"
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(UserError) as told:
        read_weights(file)
    assert str(told.value).count(str(file)) == 1


def test_compressed_members_are_refused(state, tmp_path):
    torch.save(state, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as source,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as copy,
    ):
        for name in source.namelist():
            copy.writestr(name, source.read(name))
    with pytest.raises(UserError, match="compressed members"):
        read_weights(tmp_path / "b.pth")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (torch.zeros(1).expand(10**6, 10**6), "claims the shape"),
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.zeros(4, 4, device="meta"), "without numbers"),
        ("text", "a str, where a state dict has tensors"),
    ],
)
def test_what_is_no_plain_tensor_is_told(state, value, says, tmp_path):
    torch.save(state | {"classifier.6.weight": value}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=says):
        read_weights(tmp_path / "a.pth")


def test_a_state_dict_that_lies_in_itself_is_told(tmp_path):
    value = {}
    value["model"] = value
    torch.save(value, tmp_path / "a.pth")
    with pytest.raises(UserError, match="'model', a dict, where a state dict has tensors"):
        read_weights(tmp_path / "a.pth")


@pytest.mark.parametrize("value", [torch.zeros(3), [1, 2], {}, 7])
def test_what_is_no_state_dict_is_told(value, tmp_path):
    torch.save(value, tmp_path / "a.pth")
    with pytest.raises(UserError, match="no state dict"):
        read_weights(tmp_path / "a.pth")
