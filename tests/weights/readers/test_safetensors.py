"""safetensors of other programs: read by content, and every broken header told in one line."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from peer_nets import timm_net, torchvision_net
from verydeep.errors import UserError
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.weights.imported import assemble
from verydeep.weights.readers import find_reader, read_weights


def with_header(header, data=b""):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    return struct.pack("<Q", len(text)) + text + data


def part(start, stop, shape=(2,)):
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [start, stop]}


@pytest.mark.parametrize("make", [timm_net, lambda: torchvision_net("D")])
def test_tensors_come_bit_by_bit(make, tmp_path):
    if make is timm_net:
        pytest.importorskip("timm", reason="timm is an extra of the tests")
    state = make().state_dict()
    file = tmp_path / "weights.pth"  # the name says nothing
    save_file(state, file)
    assert find_reader(file).name == "safetensors"
    net = assemble(read_weights(file))
    assert torch.equal(net.get_parameter("conv5_3.weight"), state["features.28.weight"])
    fc6 = "pre_logits.fc1" if make is timm_net else "classifier.0"
    assert torch.equal(net.get_parameter("fc6.weight").flatten(), state[f"{fc6}.weight"].flatten())


@pytest.mark.parametrize(
    "broken",
    [
        struct.pack("<Q", 2 * 2**30) + b'{"a": {}}',
        struct.pack("<Q", 2**63) + b'{"a": {}}',
        with_header({"a": part(0, 8), "b": part(4, 12)}, bytes(12)),
        with_header({"a": part(0, 8), "b": part(0, 8)}, bytes(8)),
        with_header({"a": part(0, 8)}, bytes(4)),
        with_header({"a": part(2**40, 2**40 + 8)}, bytes(8)),
        with_header({"a": part(8, 16)}, bytes(16)),
        with_header({"a": part(0, 8, shape=(2**40, 2**40))}, bytes(8)),
        with_header(b'{"a": ' + 10_000 * b"["),
    ],
    ids=["2 GB", "2**63", "overlap", "twice", "short", "outside", "hole", "shape", "deep"],
)
def test_a_broken_header_is_told_in_one_line(broken, tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(broken)
    with pytest.raises(UserError, match="is a damaged safetensors file") as told:
        read_weights(file)
    assert "\n" not in str(told.value)


def test_a_header_of_2_gb_that_is_there_is_refused_unread(tmp_path):
    file = tmp_path / "a.safetensors"
    with file.open("wb") as written:
        written.write(struct.pack("<Q", 2**31) + b'{"')
        written.truncate(8 + 2**31)  # a hole in the file, and no bytes on the disk
    with pytest.raises(UserError, match="is a damaged safetensors file"):
        read_weights(file)


def test_a_model_file_needs_no_import(tmp_path):
    file = tmp_path / "net.safetensors"
    save(VeryDeep("A", width=0.125, crop=32), file)
    with pytest.raises(UserError, match="is a model file of verydeep already"):
        read_weights(file)
