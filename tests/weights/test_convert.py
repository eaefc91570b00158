"""weights import and weights export: what they write, print and refuse."""

import json
import pickle
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from conftest import scene
from peer_nets import as_pixels, keras_net, randomise, torchvision_net, torchvision_scores
from verydeep.download import digest_of
from verydeep.errors import UserError
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.weights import verify
from verydeep.weights.convert import read_classes
from verydeep.weights.resolve import load, read_card
from verydeep.weights.verify import largest_difference

# Keras's own, with numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def theirs():
    return torchvision_net("D", num_classes=3)


@pytest.fixture
def file(theirs, tmp_path):
    torch.save(theirs.state_dict(), tmp_path / "hands.pth")
    return tmp_path / "hands.pth"


def test_import_writes_a_model_file_that_says_where_it_comes_from(verydeep, theirs, file, tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndög\nlong name\n\n", encoding="utf-8")
    out = tmp_path / "hands.safetensors"
    status, printed, _ = verydeep(
        "weights", "import", file, "--out", out, "--classes", tmp_path / "classes.txt", "--licence", "CC0"
    )
    assert status == 0
    assert "torchvision, D (VGG-16), width 0.125, 3 classes" in printed
    assert "less (123.675, 116.28, 103.53), divided by (58.395, 57.12, 57.375)" in printed
    card = read_card(out)
    assert (card.classes, card.licence) == (("cat", "dög", "long name"), "CC0")
    assert digest_of(file, "sha256") in card.source
    pictures = [scene(1, 224, 224)]
    with torch.inference_mode():
        assert largest_difference(load(out)(as_pixels(pictures)), torchvision_scores(theirs, pictures)) < 1e-5


def test_import_answers_in_json(verydeep, file, tmp_path):
    options = ("--crop", 32, "--mean", "125.3,123,113.9", "--divisor", "63,62.1,66.7", "--precision", "bf16")
    status, printed, _ = verydeep(
        "weights", "import", file, "--out", tmp_path / "a.safetensors", *options, "--source", "https://x.y", "--json"
    )
    record = json.loads(printed)
    assert status == 0
    assert (record["architecture"], record["crop"], record["num_classes"]) == ("D", 32, 3)
    assert record["mean"] == pytest.approx([125.3, 123, 113.9])
    assert record["divisor"] == pytest.approx([63, 62.1, 66.7])
    assert record["sha256"] == digest_of(file, "sha256")
    assert record["verified"] is None
    card = read_card(tmp_path / "a.safetensors")
    assert card.precision == "bf16"
    assert card.source.startswith("https://x.y (torchvision, sha256 ")


def test_a_net_of_full_size_is_verified_in_torchvision_on_photographs(verydeep, tmp_path):
    import torchvision

    with torch.device("meta"):
        net = torchvision.models.vgg11_bn(num_classes=4, init_weights=False)
    torch.save(randomise(net.to_empty(device="cpu")).half().state_dict(), tmp_path / "a.pth")  # widened by both
    (tmp_path / "photos").mkdir()
    scene(0).save(tmp_path / "photos" / "a.png")
    arguments = ("--out", tmp_path / "a.safetensors", "--verify", "--images", tmp_path / "photos", "--json")
    status, printed, _ = verydeep("weights", "import", tmp_path / "a.pth", *arguments)
    verified = json.loads(printed)["verified"]
    assert status == 0
    assert verified["package"] == f"torchvision {torchvision.__version__.partition('+')[0]}"
    assert verified["num_images"] == 1
    assert 0 <= verified["largest_difference"] < 1e-5


def test_convolutions_of_keras_are_verified_in_keras(verydeep, tmp_path):
    keras = pytest.importorskip("keras", reason="keras is an extra of the tests")
    keras.applications.VGG16(weights=None, include_top=False, input_shape=(64, 64, 3)).save(tmp_path / "a.keras")
    scene(0).save(tmp_path / "photo.png")
    arguments = ("--out", tmp_path / "a.safetensors", "--verify", "--images", tmp_path / "photo.png")
    status, printed, error = verydeep("weights", "import", tmp_path / "a.keras", *arguments)
    assert status == 0, error
    assert "Keras, D (VGG-16), convolutions only" in printed
    assert "verified: keras " in printed
    assert load(tmp_path / "a.safetensors").features_only


def test_convolutions_under_a_head_of_its_own_are_verified_in_keras(verydeep, tmp_path):
    keras = pytest.importorskip("keras", reason="keras is an extra of the tests")
    layers = keras.layers
    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    head = [layers.Flatten(), layers.Dense(7, "relu"), layers.BatchNormalization(), layers.Dense(3, "softmax")]
    net = keras.Sequential([layers.Input((32, 32, 3)), base, *head])
    net.save_weights(tmp_path / "a.weights.h5")
    scene(0).save(tmp_path / "photo.png")
    arguments = ("--out", tmp_path / "a.safetensors", "--verify", "--images", tmp_path / "photo.png")
    status, printed, error = verydeep("weights", "import", tmp_path / "a.weights.h5", *arguments)
    assert status == 0, error
    assert "gives the same last map of the convolutions on 1 images" in printed
    net.save(tmp_path / "a.h5")
    status, _, error = verydeep("weights", "import", tmp_path / "a.h5", *arguments)
    assert status == 1
    assert "so that nothing can be compared: import it without --verify" in error


def test_a_difference_that_is_no_rounding_ends_it_and_nothing_is_written(verydeep, file, tmp_path, monkeypatch):
    def disagree(file, found, geometry, images):
        return torch.zeros(len(images), 3) + torch.tensor([1.0, 2.0, 3.0])

    monkeypatch.setitem(verify.PEERS, "torchvision", ("torchvision", disagree))
    status, _, error = verydeep("weights", "import", file, "--out", tmp_path / "a.safetensors", "--verify")
    assert status == 1
    assert "the scores differ from those of torchvision" in error
    assert not (tmp_path / "a.safetensors").exists()


def test_an_export_does_not_overwrite_its_model(verydeep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    save(VeryDeep("D", num_classes=3, crop=224, width=0.125), tmp_path / "run/model.safetensors")
    before = (tmp_path / "run/model.safetensors").read_bytes()
    status, _, error = verydeep("weights", "export", "run", "--to", "timm", "--out", "run/model.safetensors")
    assert (status, error.count("\n")) == (2, 1)
    assert "is the file that is read" in error
    assert (tmp_path / "run/model.safetensors").read_bytes() == before


def test_without_the_other_program_verify_says_so(verydeep, tmp_path, monkeypatch):
    pytest.importorskip("h5py", reason="h5py is an extra")
    pytest.importorskip("keras", reason="keras is an extra of the tests")
    keras_net("D").save(tmp_path / "a.keras")
    monkeypatch.setitem(__import__("sys").modules, "keras", None)
    status, _, error = verydeep(
        "weights", "import", tmp_path / "a.keras", "--out", tmp_path / "a.safetensors", "--verify"
    )
    assert status == 1
    assert error.strip().endswith("keras is not installed, and only it can run its files: pip install 'keras'")


def test_export_says_how_to_load_it_and_what_it_expects(verydeep, tmp_path):
    pytest.importorskip("h5py", reason="h5py is an extra")
    with torch.device("meta"):
        empty = VeryDeep("D", features_only=True, initialisation=None)
    net = randomise(empty.to_empty(device="cpu"))
    net.set_input((123.68, 116.779, 103.939))
    save(net, tmp_path / "a.safetensors")
    arguments = ("weights", "export", tmp_path / "a.safetensors", "--to", "keras", "--out", tmp_path / "a.weights.h5")
    status, printed, _ = verydeep(*arguments)
    assert status == 0
    assert "keras.applications.VGG16(weights=None, include_top=False)" in printed
    assert "BGR in 0..255, less (103.939, 116.779, 123.68), divided by (1, 1, 1)" in printed
    assert "its default" in printed
    status, printed, _ = verydeep(*arguments, "--json")
    record = json.loads(printed)
    assert record["preprocessing"]["is_default"] is True
    assert record["preprocessing"]["channels"] == "BGR"
    again = tmp_path / "again.safetensors"
    assert verydeep("weights", "import", tmp_path / "a.weights.h5", "--out", again)[0] == 0
    expected = net.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load(again).state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "says", "status"),
    [
        (("--to", "torchvision", "--out", "a.pth"), "torchvision cannot hold this net: its fc6 is of crop", 2),
        (("--to", "caffe", "--out", "a.caffemodel"), "unknown program 'caffe'", 2),
    ],
)
def test_what_cannot_be_exported_is_one_line(verydeep, arguments, says, status, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with torch.device("meta"):
        empty = VeryDeep("A", crop=32, num_classes=2, initialisation=None)
    net = randomise(empty.to_empty(device="cpu"))
    net.set_input((1, 2, 3))
    save(net, "net.safetensors")
    given, _, error = verydeep("weights", "export", "net.safetensors", *arguments)
    assert (given, error.count("\n")) == (status, 1)
    assert says in error


class Payload:
    def __init__(self, sign) -> None:
        self.sign = sign

    def __reduce__(self):
        return (eval, (f"open({str(self.sign)!r}, 'w').close()",))


def nan_weights(folder, theirs):
    state = theirs.state_dict()
    state["features.0.bias"] = torch.full((8,), torch.nan)
    save_file(state, folder / "bad")


def zip_bomb(folder, _):
    with zipfile.ZipFile(folder / "bad", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(2**23))
        archive.writestr("model.weights.h5", bytes(2**26))


def link_loop(folder, _):
    (folder / "bad").symlink_to("other")
    (folder / "other").symlink_to("bad")


def large_header(folder, _):
    (folder / "bad").write_bytes(struct.pack("<Q", 2**31) + b'{"a": {}}')


def overlapping(folder, _):
    parts = {name: {"dtype": "F32", "shape": [2], "data_offsets": at} for name, at in (("a", [0, 8]), ("b", [4, 12]))}
    text = json.dumps(parts).encode()
    (folder / "bad").write_bytes(struct.pack("<Q", len(text)) + text + bytes(12))


def payload(folder, _):
    (folder / "bad").write_bytes(pickle.dumps({"features.0.weight": Payload(folder / "it ran")}))


def another_net(folder, _):
    torch.save({"layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3)}, folder / "bad")


def too_large(folder, theirs):
    state = {name: tensor.double() for name, tensor in theirs.state_dict().items()}
    state["features.0.bias"][3] = 1e300
    save_file(state, folder / "bad")


def without_numbers(folder, theirs):
    torch.save(theirs.state_dict() | {"features.2.weight": torch.zeros(4, 0)}, folder / "bad")


def many_digits(folder, theirs):
    torch.save(theirs.state_dict() | {f"features.{'9' * 5000}.weight": torch.zeros(4)}, folder / "bad")


def odd_zip(folder, _):
    with zipfile.ZipFile(folder / "bad", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(100))
    raw = bytearray((folder / "bad").read_bytes())
    at = raw.index(b"PK\x01\x02")
    raw[at + 6] = 99  # the version needed to extract
    (folder / "bad").write_bytes(raw)


def encrypted(folder, _):
    with zipfile.ZipFile(folder / "bad", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(100))
    raw = bytearray((folder / "bad").read_bytes())
    for sign, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = raw.index(sign)
        while at >= 0:
            raw[at + place] |= 1
            at = raw.find(sign, at + 1)
    (folder / "bad").write_bytes(raw)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (too_large, "conv1_1.bias has 1 of 8 weights that are NaN or infinite"),
        (without_numbers, "bad"),
        (many_digits, "bad"),
        (odd_zip, "bad"),
        (encrypted, "bad"),
        (nan_weights, "conv1_1.bias has 8 of 8 weights that are NaN"),
        (zip_bomb, "zip bomb"),
        (link_loop, "Too many levels of symbolic links"),
        (large_header, "is a damaged safetensors file"),
        (overlapping, "is a damaged safetensors file"),
        (payload, "nothing in it was run"),
        (another_net, "layer1.0.conv1.weight, of shape (64, 64, 3, 3)"),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_runs_nothing(verydeep, theirs, make, says, tmp_path):
    make(tmp_path, theirs)
    before = set(tmp_path.iterdir())
    status, printed, error = verydeep("weights", "import", tmp_path / "bad", "--out", tmp_path / "a.safetensors")
    assert (status, printed, error.count("\n")) == (1, "", 1)
    assert says in error
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "says", "status"),
    [
        (("--out", "hands.pth.safetensors"), "is the file that is read", 2),
        (("--out", "a.pth"), "a model file ends in .safetensors", 2),
        (("--out", "a.safetensors", "--images", "."), "give --verify too", 2),
        (("--out", "a.safetensors", "--verify", "--bgr"), "and --bgr is another", 2),
        (("--out", "a.safetensors", "--mean", "1,2"), "--mean 1,2: give three numbers", 2),
        (("--out", "a.safetensors", "--mean", "1,2,nan"), "three finite numbers", 2),
        (("--out", "a.safetensors", "--divisor", "1,2,0"), "--divisor: give numbers above 0", 2),
        (("--out", "a.safetensors", "--crop", "48"), "crop 48 is not a multiple of 32", 2),
        (("--out", "a.safetensors", "--precision", "int8"), "unknown precision 'int8'", 2),
        (("--out", "a.safetensors", "--classes", "two.txt"), "2 names of classes for the 3 scores of fc8", 1),
        (("--out", "a.safetensors", "--classes", "missing.txt"), "missing.txt cannot be read", 1),
        (
            (
                "--out",
                "no/a.safetensors",
            ),
            "cannot be written",
            1,
        ),
    ],
)
def test_wrong_use_is_one_line_and_nothing_is_written(verydeep, file, options, says, status, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.txt").write_text("a\nb\n")
    (tmp_path / "hands.pth.safetensors").symlink_to(file)
    given, _, error = verydeep("weights", "import", file, *options)
    assert (given, error.count("\n")) == (status, 1)
    assert says in error
    assert not (tmp_path / "a.safetensors").exists()


def test_names_of_classes(tmp_path):
    assert len(read_classes("imagenet")) == 1000
    assert read_classes("imagenet")[:2] == ("tench", "goldfish")
    (tmp_path / "a.txt").write_text("a\n\nb\n")
    with pytest.raises(UserError, match="line 2 is empty"):
        read_classes(str(tmp_path / "a.txt"))
    (tmp_path / "windows.txt").write_bytes("\ufeffcat\r\nd\u2028og\r\n".encode())
    assert read_classes(str(tmp_path / "windows.txt")) == ("cat", "d\u2028og")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="no text in UTF-8"):
        read_classes(str(tmp_path / "b.txt"))


CLASSES = {
    "list": ["cat", "dog", "gnu"],
    "names with indices": {"dog": 1, "cat": 0, "gnu": 2},
    "indices with names": {"0": "cat", "2": "gnu", "1": "dog"},
    "indices with identifiers": {"0": ["n1", "cat"], "1": ["n2", "dog"], "2": ["n3", "gnu"]},
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("kind", CLASSES)
def test_names_of_classes_in_json(kind, indent, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(CLASSES[kind], indent=indent) + "\n")
    assert read_classes(str(tmp_path / "a.json")) == ("cat", "dog", "gnu")


@pytest.mark.parametrize(
    ("text", "says"), [('["cat",', "is none"), ('{"cat": 3}', "no list of names"), ("[[1]]", "no list of names")]
)
def test_json_without_names_is_one_line(text, says, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=says):
        read_classes(str(tmp_path / "a.json"))
