"""The model file: round trips, and every way in which a file can be no model file."""

import json
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from verydeep.errors import UsageError, UserError
from verydeep.nets.model_card import make_card
from verydeep.nets.model_file import load_checkpoint, save
from verydeep.nets.net import VeryDeep
from verydeep.nets.stored_net import check_model
from verydeep.testing.classifier import Classifier
from verydeep.weights.resolve import find_model_file, load, read_card

FILES = Path(__file__).parent / "files"


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
    with pytest.raises(UserError, match="no checkpoint"):
        load_checkpoint(file)


@pytest.mark.parametrize("progress", ["{", "[]", "[" * 100_000])
def test_damaged_progress_is_told(progress, net, tmp_path, monkeypatch):
    numbers, dumps = {"epoch": 2}, json.dumps
    damaged = lambda value, **options: progress if value is numbers else dumps(value, **options)  # noqa: E731
    monkeypatch.setattr("verydeep.nets.model_file.json.dumps", damaged)
    save(net, tmp_path / "checkpoint.safetensors", progress=numbers)
    with pytest.raises(UserError, match="the progress of its training is damaged"):
        load_checkpoint(tmp_path / "checkpoint.safetensors")


def test_a_card_that_says_another_mean_than_the_net_has_is_told(net, tmp_path):
    file = tmp_path / "net.safetensors"
    card = make_card(net)
    net.set_input((1, 2, 3), (0.5, 1, 1))
    save(net, file, card=card)
    with pytest.raises(UserError, match=r"its mean is \[1\.0, 2\.0, 3\.0\], and its card says"):
        load(file)
    with pytest.raises(UserError, match="one of them was changed"):
        check_model(file)


def test_run_folder_prefers_the_model_to_the_checkpoint(net, tmp_path):
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        find_model_file(tmp_path)
    save(net, tmp_path / "checkpoint.safetensors")
    assert find_model_file(tmp_path).name == "checkpoint.safetensors"
    save(net, tmp_path / "model.safetensors")
    assert find_model_file(tmp_path).name == "model.safetensors"


class Payload:
    def __reduce__(self):
        return (pytest.fail, ("code from a pickle ran",))


def write_raw(file, header, body):
    """Writes the bytes of a safetensors file, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + body)


def entry(dtype, shape, begin, end):
    """What the header says of a tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


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
        case "header of 2 GB that is there":
            with file.open("wb") as written:
                written.write(struct.pack("<Q", 2**31) + b'{"a":')
                written.truncate(2**31 + 100)  # sparse: it takes no room
        case "header that is no JSON":
            write_raw(file, b"{" * 64, b"")
        case "header nested deeply":
            write_raw(file, b'{"a":' * 20_000 + b"1" + b"}" * 20_000, b"")
        case "tensors that overlap":
            write_raw(file, {name: entry("F32", [4], 0, 16) for name in ("conv1_1.bias", "conv1_2.bias")}, bytes(16))
        case "offsets out of the file":
            write_raw(file, {"conv1_1.bias": entry("F32", [4], 10**12, 10**12 + 16)}, bytes(16))
        case "offsets that run backwards":
            write_raw(file, {"conv1_1.bias": entry("F32", [4], 16, 0)}, bytes(16))
        case "a size that overflows":
            write_raw(file, {"conv1_1.bias": entry("F32", [2**62, 2**62], 0, 16)}, bytes(16))
        case "a hole between tensors":
            write_raw(file, {"conv1_1.bias": entry("F32", [4], 8, 24)}, bytes(24))
        case "bytes after the last tensor":
            file.write_bytes(data + b"more")
        case "card with too few classes":
            card = make_card(net).model_dump() | {"classes": ["cat", "dog"]}
            save_file(load_file(file), file, {"verydeep": json.dumps(card)})
        case "card of a net too large for any machine":
            card = make_card(net).model_dump() | {"num_classes": 10**18, "classes": None}
            save_file(load_file(file), file, {"verydeep": json.dumps(card)})
        case "card with a crop that does not fit":
            card = make_card(net).model_dump() | {"crop": 63}
            save_file(load_file(file), file, {"verydeep": json.dumps(card)})
        case "card that divides by zero":
            card = make_card(net).model_dump() | {"divisor": [0, 1, 1]}
            save_file(load_file(file), file, {"verydeep": json.dumps(card)})
        case "card with a training scale below its crop":
            card = make_card(net).model_dump() | {"train_scale": [net.geometry.crop - 1, 300]}
            save_file(load_file(file), file, {"verydeep": json.dumps(card)})
        case "card with the larger training scale first":
            card = make_card(net).model_dump() | {"train_scale": [128, 64]}
            save_file(load_file(file), file, {"verydeep": json.dumps(card)})
        case "weights that are whole numbers":
            tensors = load_file(file) | {"fc8.bias": torch.zeros(3, dtype=torch.int32)}
            save_file(tensors, file, {"verydeep": make_card(net).model_dump_json()})
        case "text":
            file.write_text("not a model")
        case "another program's":
            save_file({"weight": torch.zeros(2)}, file, {"format": "pt"})
        case "card is no JSON":
            save_file({"weight": torch.zeros(2)}, file, {"verydeep": "{"})
        case "card of the future":
            card = make_card(net).model_dump() | {"format_version": 3}
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
        ("header of 2 GB that is there", "no model file"),
        ("header that is no JSON", "no model file"),
        ("header nested deeply", "no model file"),
        ("tensors that overlap", "no model file"),
        ("offsets out of the file", "no model file"),
        ("offsets that run backwards", "no model file"),
        ("a size that overflows", "no model file"),
        ("a hole between tensors", "no model file"),
        ("bytes after the last tensor", "no model file"),
        ("card with too few classes", r"bad\.safetensors: .*classes: .*2 names for 3 classes"),
        ("card of a net too large for any machine", r"card is not readable at num_classes"),
        ("card with a crop that does not fit", r"bad\.safetensors: .*crop 63 is not a multiple of 32"),
        ("card that divides by zero", r"card is not readable at divisor\.0"),
        ("card with a training scale below its crop", r"not readable at train_scale: .* is below the crop of"),
        ("card with the larger training scale first", r"not readable at train_scale: .*128 to 64: the smaller one"),
        ("weights that are whole numbers", r"fc8\.bias is of type I32: weights are F32, BF16 or F16"),
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
    with pytest.raises(UserError, match=complaint) as caught:
        load(file)
    assert "\n" not in str(caught.value).strip()


@pytest.mark.parametrize("version", [1, 2])
def test_old_versions_stay_readable(version):
    """One file of each version; these files are never written again."""
    file = FILES / f"model-v{version}.safetensors"
    card = read_card(file)
    assert (card.format_version, card.architecture, card.classes) == (version, "A", ("cat", "dog"))
    assert (card.selected_on, card.errors["split"], card.data.num_train) == ("val", "val", 18)
    net = load(file)
    assert net.input_is_set
    with torch.inference_mode():
        scores = net(torch.full((1, 3, 32, 32), 128, dtype=torch.uint8))
    assert torch.allclose(scores, torch.tensor([[1.2642, 0.4789]]), atol=1e-3 if version == 1 else 1e-2)


def test_a_file_of_version_01_with_timms_names_is_read(tmp_path):
    """It was written by 0.1.0: A with batch norm, bf16, for a folder on the hub; written again, it has our names."""
    card = read_card(FILES / "model-v2-timm-names.safetensors")
    assert (card.names, card.precision, card.classes) == ("timm", "bf16", ("cat", "dog"))
    old = load(FILES / "model-v2-timm-names.safetensors")
    image = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.allclose(old(image), torch.tensor([[0.1291, -0.5177]]), atol=1e-2)
    features = load(FILES / "model-v2-timm-names.safetensors", features_only=True)
    assert all(torch.equal(tensor, old.state_dict()[name]) for name, tensor in features.state_dict().items())
    save(old, tmp_path / "new.safetensors", card=card, precision="bf16")
    assert read_card(tmp_path / "new.safetensors").names == "verydeep"
    assert "conv1_1.weight" in load_file(tmp_path / "new.safetensors")
    new = load(tmp_path / "new.safetensors").state_dict()
    assert all(torch.equal(tensor, new[name]) for name, tensor in old.state_dict().items())


def test_equal_nets_give_equal_files(net, tmp_path):
    net.classes = ("größe", 'two "words"', "tab\there")
    for number in range(16):
        save(net, tmp_path / f"{number}.safetensors", progress={"epoch": 1})
    assert len({(tmp_path / f"{number}.safetensors").read_bytes() for number in range(16)}) == 1
    assert read_card(tmp_path / "0.safetensors").classes == net.classes


def test_what_selected_the_weights_is_in_the_card(net, tmp_path):
    file = tmp_path / "net.safetensors"
    for known, selected in (
        ({}, None),
        ({"recipe": {"schedule": "cosine", "keep": "best"}}, "val"),
        ({"recipe": {"schedule": "cosine", "keep": "last"}}, None),
        ({"selected_on": "test"}, "test"),
    ):
        save(net, file, card=make_card(net, **known))
        assert read_card(file).selected_on == selected


@pytest.mark.parametrize(("precision", "rounding"), [("bf16", 2**-8), ("fp16", 2**-10)])
def test_half_the_bytes(precision, rounding, net, tmp_path):
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    with torch.no_grad():
        net.bn1_1.running_var.fill_(1.001)  # bf16 has no such number
    save(net, whole)
    save(net, half, precision=precision)
    assert 0.5 < half.stat().st_size / whole.stat().st_size < 0.56
    assert (read_card(half).precision, read_card(whole).precision) == (precision, "fp32")
    loaded = load(half)
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.mean, net.mean)
    for name, tensor in net.state_dict().items():
        ours = loaded.state_dict()[name]
        assert torch.allclose(ours, tensor, rtol=rounding, atol=1e-7) if tensor.ndim > 1 else torch.equal(ours, tensor)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        exact, rounded = net(images), loaded(images)
    assert (exact - rounded).abs().max() < 0.05 * exact.abs().max()
    save(loaded, whole, precision=precision)
    assert all(torch.equal(load_file(whole)[name], tensor) for name, tensor in load_file(half).items())


def test_weights_in_memory_as_asked(net, tmp_path):
    file = tmp_path / "net.safetensors"
    save(net, file)
    half = load(file, precision="bf16")
    assert {tensor.dtype for tensor in half.parameters()} == {torch.bfloat16}
    assert half.mean.dtype == half.divisor.dtype == torch.float32
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        expected = load(file).to(torch.bfloat16)(images)
        assert torch.equal(half(images), expected)
    save(half, file)  # what it holds is written in full again
    assert load_file(file)["fc8.weight"].dtype == torch.float32
    with pytest.raises(UsageError, match="unknown precision 'int8': choose one of fp32, bf16, fp16"):
        load(file, precision="int8")
    with pytest.raises(UsageError, match="unknown precision"):
        save(net, file, precision="fp8")


def test_a_weight_too_large_for_fp16_is_named(net, tmp_path):
    with torch.no_grad():
        net.fc7.weight[0, 0] = 1e5
    with pytest.raises(UserError, match=r"fc7\.weight has a weight of 1e\+05, too large for fp16"):
        save(net, tmp_path / "net.safetensors", precision="fp16")
    assert not list(tmp_path.iterdir())
    save(net, tmp_path / "net.safetensors", precision="bf16")


def test_features_only_leaves_the_rest_on_the_disk(net, tmp_path):
    file = tmp_path / "net.safetensors"
    save(net, file)
    features = load(file, features_only=True)
    assert not [name for name in features.state_dict() if name.startswith("fc")]
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(features.features(images), net.features(images))
        ours, theirs = (n.activations(images, ["relu3_2", "pool5"]) for n in (features, net))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        for ask in (features, features.score_map, Classifier):
            with pytest.raises(UserError, match=r"no classes, only convolutions: train or transfer from it"):
                ask(features if ask is Classifier else images)
    with pytest.raises(UsageError, match="no layer 'fc7'"):
        features.activations(images, ["fc7"])


def test_a_file_of_convolutions_only(net, tmp_path):
    whole, convolutions = tmp_path / "whole.safetensors", tmp_path / "convolutions.safetensors"
    save(net, whole)
    save(load(whole, features_only=True), convolutions)
    assert read_card(convolutions).features_only
    again = load(convolutions)
    assert again.features_only
    assert again.state_dict().keys() == load(whole, features_only=True).state_dict().keys()
    save_file(load_file(whole), convolutions, {"verydeep": read_card(convolutions).model_dump_json()})
    with pytest.raises(UserError, match=r"fc6\.bias is not one of C"):
        load(convolutions)


PEAK = """
import sys, torch
from verydeep.weights.resolve import load
net = load(sys.argv[1], features_only=sys.argv[2] == "features")
before = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")][0]
total = sum(float(tensor.sum()) for tensor in net.state_dict().values())
after = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")][0]
print(before, after)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from Linux's /proc")
def test_weights_are_read_when_they_are_used(tmp_path):
    net = VeryDeep("A", num_classes=10, crop=224, width=0.25)
    file = tmp_path / "net.safetensors"
    save(net, file)
    megabytes = {}
    for part in ("whole", "features"):
        ran = subprocess.run(
            [sys.executable, "-c", PEAK, str(file), part], capture_output=True, text=True, check=True, timeout=120
        )
        before, after = (int(number) / 1024 for number in ran.stdout.split())
        megabytes[part] = after - before
    weights = file.stat().st_size / 2**20
    assert weights > 30
    assert megabytes["whole"] > 0.8 * weights  # nothing was read before it was used
    assert megabytes["features"] < 0.25 * weights


def test_a_symlink_loop_is_no_model(tmp_path):
    loop = tmp_path / "loop.safetensors"
    loop.symlink_to(loop)
    with pytest.raises(UserError, match=r"no model .*loop\.safetensors"):
        load(loop)


def test_no_such_model(tmp_path):
    with pytest.raises(UserError, match="give a model file"):
        load(tmp_path / "nothing")


def test_saving_over_a_file_leaves_the_old_one_when_it_fails(net, tmp_path, monkeypatch):
    file = tmp_path / "net.safetensors"
    save(net, file)
    before = file.read_bytes()

    def fail(tensors, where, metadata):
        where.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("verydeep.nets.model_file.save_file", fail)
    with pytest.raises(UserError, match=r"net\.safetensors cannot be written: No space"):
        save(net, file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_mean_is_not_folded_into_the_weights(net, tmp_path):
    save(net, tmp_path / "net.safetensors")
    assert np.allclose(load_file(tmp_path / "net.safetensors")["mean"], [1.5, 2.5, 3.5])
