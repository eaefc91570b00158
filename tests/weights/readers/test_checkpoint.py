"""Checkpoints as people write them: plain settings beside the weights, averages, nesting, prefixes, other tensors."""

import argparse
import collections
import pathlib
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from peer_nets import torchvision_net
from verydeep.errors import UserError
from verydeep.weights.readers import read_weights
from verydeep.weights.readers.torch import from_state_dict


@pytest.fixture(scope="module")
def state():
    return torchvision_net("A", num_classes=3).state_dict()


def check(found, state, factor=1.0):
    expected = from_state_dict(state).tensors
    assert found.tensors.keys() == expected.keys()
    for name in ("conv1_1.weight", "conv5_2.bias", "fc6.weight", "fc8.bias"):
        assert torch.equal(found.tensors[name], factor * expected[name])


def read(value, tmp_path, **options):
    torch.save(value, tmp_path / "a.pth")
    return read_weights(tmp_path / "a.pth", **options)


def settings():
    nested = argparse.Namespace(lr=0.1, out=pathlib.Path("runs/a"), decay=np.float32(0.1), names=["a", "b"])
    return {
        "args": nested,
        "best": np.float64(0.93),
        "count": np.int64(3),
        "history": np.arange(4.0),
        "seed": np.bool_(True),
        "plain": types.SimpleNamespace(a=1),
        "counts": collections.defaultdict(list, a=[1]),
        "epoch": 7,
        "nothing": None,
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_plain_settings_beside_the_weights_are_read(state, zipped, tmp_path):
    file = tmp_path / "a.pth"
    torch.save({"state_dict": state} | settings(), file, _use_new_zipfile_serialization=zipped)
    check(read_weights(file), state)


def test_settings_that_are_dictionaries_of_their_own_are_read(state, tmp_path, monkeypatch):
    """As Lightning keeps hyper-parameters."""
    module = types.ModuleType("lightning_fabric.utilities.data")
    kind = type("AttributeDict", (dict,), {"__module__": module.__name__})
    module.AttributeDict = kind
    for name in ("lightning_fabric", "lightning_fabric.utilities", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    lightning = {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"model.{name}": part for name, part in state.items()} | {"loss_fn.weight": torch.ones(3)},
        "hyper_parameters": kind(lr=0.1, class_to_idx={"b": 1, "a": 0, "c": 2}),
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": "a", "current_score": torch.tensor(1.0)}},
    }
    torch.save(lightning, tmp_path / "a.ckpt")
    for name in ("lightning_fabric", "lightning_fabric.utilities", module.__name__):
        monkeypatch.delitem(sys.modules, name)
    found = read_weights(tmp_path / "a.ckpt")
    check(found, state)
    assert found.classes == ("a", "b", "c")
    assert any("passed over, no part of the net: loss_fn.weight" in note for note in found.notes)


def doubled(state):
    return {name: 2 * part for name, part in state.items()}


AVERAGES = {
    "timm": lambda state: {"state_dict": state, "state_dict_ema": doubled(state)},
    "torchvision": lambda state: {
        "model": state,
        "model_ema": {f"module.{name}": part for name, part in doubled(state).items()}
        | {"n_averaged": torch.tensor(9)},
    },
    "restoration": lambda state: {"params": state, "params_ema": doubled(state)},
}


@pytest.mark.parametrize("kind", AVERAGES)
def test_averaged_weights_are_taken_and_said_and_the_others_where_asked_for(state, kind, tmp_path):
    value = AVERAGES[kind](state)
    plain, average = value
    found = read(value, tmp_path)
    check(found, state, 2)
    assert found.notes == (f"the file has {average} and {plain}: {average} is taken (--last-weights takes the other)",)
    last = read(value, tmp_path, averaged=False)
    check(last, state)
    assert last.notes == (f"the file has {plain} and {average}: {plain} is taken (as --last-weights says)",)


def test_the_choice_is_an_option_of_the_command(verydeep, state, tmp_path):
    torch.save({"state_dict": state, "state_dict_ema": doubled(state)}, tmp_path / "a.pth")
    arguments = ("weights", "import", tmp_path / "a.pth", "--out", tmp_path / "a.safetensors")
    assert "note: the file has state_dict_ema and state_dict: state_dict_ema is taken" in verydeep(*arguments)[1]
    assert "state_dict is taken (as --last-weights says)" in verydeep(*arguments, "--last-weights")[1]


def test_an_averaged_model_is_read(state, tmp_path):
    from torch.optim.swa_utils import AveragedModel

    value = AveragedModel(torchvision_net("A", num_classes=3)).state_dict()
    assert "n_averaged" in value
    check(read(value, tmp_path), state)


NESTINGS = {
    "params": lambda state: {"params": state},
    "list": lambda state: [state],
    "list of one of several": lambda state: [{"epoch": 1}, {"model": state}],
    "deep": lambda state: {"checkpoint": 1, "model": {"state_dict": {"net": state}}},
    "network": lambda state: {"network": state, "iter": 5},
    "module of DeepSpeed": lambda state: {"module": state, "global_steps": 5},
    "numbers among the tensors": lambda state: state | {"epoch": 3, "loss": 0.5, "best": np.float64(1)},
}


@pytest.mark.parametrize("kind", NESTINGS)
def test_nested_state_dicts_are_found(state, kind, tmp_path):
    check(read(NESTINGS[kind](state), tmp_path), state)


PREFIXES = (
    "timm_model.",
    "vgg.",
    "net.",
    "student.",
    "model.backbone.net.vgg16.",
    "a.b.c.d.",
    "_forward_module.model.",
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_any_length_are_taken_off(state, prefix):
    found = from_state_dict({prefix + name: part for name, part in state.items()})
    check(found, state)
    assert found.kind == "torchvision"


@pytest.mark.parametrize("inner", ["features.module.", "module.features.module.", "features._orig_mod."])
def test_wrappers_inside_are_taken_off(state, inner):
    check(from_state_dict({name.replace("features.", inner): part for name, part in state.items()}), state)


def test_tensors_of_something_else_are_passed_over_by_name(state, tmp_path):
    others = {
        "criterion.weight": torch.ones(3),
        "train_metrics.confmat": torch.zeros(3, 3),
        "loss_fn.vgg.features.0.weight": torch.zeros(8, 3, 3, 3),
    }
    found = read(state | others, tmp_path)
    check(found, state)
    assert len(found.notes) == 1
    assert all(name in found.notes[0] for name in others)
    prefixed = {f"net.{name}": part for name, part in state.items()} | {"decoder.0.weight": torch.zeros(3, 3)}
    save_file(prefixed, tmp_path / "a.safetensors")
    found = read_weights(tmp_path / "a.safetensors")
    check(found, state)
    assert found.notes == ("passed over, no part of the net: decoder.0.weight",)


def test_two_nets_in_one_file_are_told(state):
    both = {f"{prefix}.{name}": part for prefix in ("student", "teacher") for name, part in state.items()}
    with pytest.raises(
        UserError, match=r"2 nets of 8 convolutions, under 'student\.features\.' and 'teacher\.features\.'"
    ):
        from_state_dict(both)


LABELS = {
    "class_to_idx": ({"class_to_idx": {"cat": 0, "dog": 1, "gnu": 2}}, ("cat", "dog", "gnu")),
    "classes": ({"classes": ["cat", "dog", "gnu"]}, ("cat", "dog", "gnu")),
    "OpenMMLab": ({"meta": {"CLASSES": ("cat", "dog", "gnu")}}, ("cat", "dog", "gnu")),
    "settings": ({"args": argparse.Namespace(class_names=["cat", "dog", "gnu"])}, ("cat", "dog", "gnu")),
    "of another head": ({"classes": ["cat", "dog"]}, None),
}


@pytest.mark.parametrize("kind", LABELS)
def test_names_of_classes_are_taken(state, kind, tmp_path):
    beside, classes = LABELS[kind]
    assert read({"state_dict": state} | beside, tmp_path).classes == classes


class Payload:
    def __init__(self, sign) -> None:
        self.sign = sign

    def __reduce__(self):
        return (eval, (f"open({str(self.sign)!r}, 'w').close()",))


@pytest.mark.parametrize(
    "place",
    [
        lambda load: argparse.Namespace(a=load),
        lambda load: np.array([load], dtype=object),
        lambda load: collections.defaultdict(list, a=load),
    ],
)
def test_nothing_among_plain_settings_is_run(state, place, tmp_path):
    torch.save({"state_dict": state, "args": place(Payload(tmp_path / "it ran"))}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="nothing in it was run"):
        read_weights(tmp_path / "a.pth")
    assert not (tmp_path / "it ran").exists()
