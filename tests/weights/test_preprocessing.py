"""What is done to the pixels travels with the weights; a guess is called one, by --verify too."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from conftest import scene
from peer_nets import as_pixels, export_onnx, randomise, torchvision_net, torchvision_scores
from verydeep.nets.net import IMAGENET_MEAN, VeryDeep
from verydeep.weights import known
from verydeep.weights.imported import ImportedWeights, assemble
from verydeep.weights.known import with_known_file, with_known_input
from verydeep.weights.preprocessing import class_names
from verydeep.weights.readers import read_weights
from verydeep.weights.verify import _checked_input, compare, largest_difference
from verydeep.weights.writers import TARGETS
from verydeep.weights.writers.target import Target

SIDE = 224
PICTURES = [scene(0, SIDE, SIDE)]
INPUTS = {"Caffe": (IMAGENET_MEAN, (1.0, 1.0, 1.0)), "its own": ((10.0, 200.0, 90.0), (30.0, 2.0, 70.0))}
FILES = {"torchvision": "a.pth", "timm": "a.safetensors", "keras": "a.weights.h5", "old keras": "a.h5"}


@pytest.fixture
def make(monkeypatch):
    """Narrow nets, which no target takes."""
    monkeypatch.setattr(Target, "check", lambda *_: None)

    def made(mean, divisor):
        net = randomise(VeryDeep("D", num_classes=3, width=0.125))
        net.set_input(mean, divisor)
        return net

    return made


@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("target", FILES)
def test_there_and_back_gives_the_same_scores(make, target, given, tmp_path):
    net, file = make(*INPUTS[given]), tmp_path / FILES[target]
    TARGETS[target.removeprefix("old ")].write(net, file)
    found = read_weights(file)
    assert not found.is_guessed
    assert "as recorded in the file" in found.convention
    again = assemble(found)
    assert (again.mean.tolist(), again.divisor.tolist()) == (net.mean.tolist(), net.divisor.tolist())
    expected = net.state_dict()
    assert all(torch.equal(part, expected[name]) for name, part in again.state_dict().items())


class Twin(nn.Module):
    """A twin as ``to_torchvision`` makes it, of a narrow net."""

    def __init__(self, net):
        super().__init__()
        from verydeep.weights.writers.torch import _adapted, to_state_dict

        theirs = torchvision_net("D", num_classes=3)
        theirs.load_state_dict(to_state_dict(net, "torchvision"))
        theirs.features[0] = _adapted(net, theirs.features[0])
        self.features, self.avgpool, self.classifier = theirs.features, theirs.avgpool, theirs.classifier

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@pytest.mark.parametrize("given", INPUTS)
def test_a_state_dict_of_a_twin_is_refused_by_the_plain_class_and_read_here(make, given, tmp_path):
    net = make(*INPUTS[given])
    twin = Twin(net).eval()
    with pytest.raises(RuntimeError, match=r"Unexpected key.*features\.0\.torchvision_scale"):
        torchvision_net("D", num_classes=3).load_state_dict(twin.state_dict())
    torch.save(twin.state_dict(), tmp_path / "a.pth")
    found = read_weights(tmp_path / "a.pth")
    again = assemble(found)
    assert again.mean.tolist() == pytest.approx(net.mean.tolist(), abs=1e-3)
    with torch.inference_mode():
        assert largest_difference(again(as_pixels(PICTURES)), net(as_pixels(PICTURES))) < 1e-5
    assert _checked_input(found, None) == "its own preprocessing"


@pytest.mark.parametrize("dynamo", [False, True])
def test_a_graph_of_a_twin_keeps_the_input_of_its_net(make, dynamo, tmp_path):
    net = make(*INPUTS["Caffe"])
    export_onnx(Twin(net).eval(), tmp_path / "a.onnx", SIDE, dynamo=dynamo)
    found = read_weights(tmp_path / "a.onnx")
    again = assemble(found)
    assert again.mean.tolist() == pytest.approx(net.mean.tolist(), abs=1e-3)
    with torch.inference_mode():
        assert largest_difference(again(as_pixels(PICTURES)), net(as_pixels(PICTURES))) < 1e-5
    agreement = compare(tmp_path / "a.onnx", found, again, PICTURES)
    assert agreement.largest_difference < 1e-5
    assert agreement.preprocessing == "its own preprocessing"


class Scaled(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x * 2 - 1)


def test_a_graph_that_normalises_says_that_its_range_is_a_guess(tmp_path):
    export_onnx(Scaled(torchvision_net("A")), tmp_path / "a.onnx", SIDE, dynamo=False)
    found = read_weights(tmp_path / "a.onnx")
    assert "whose range is a guess" in compare(tmp_path / "a.onnx", found, assemble(found), PICTURES).preprocessing


def test_a_plain_file_is_a_guess_and_verified_as_one(tmp_path):
    theirs = torchvision_net("A")
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    found = read_weights(tmp_path / "a.pth")
    assert found.is_guessed
    assert "a guess, the file does not say" in found.convention
    assert "which the file does not say and nothing checks" in _checked_input(found, None)


TIMM = {
    "architecture": "vgg16",
    "num_classes": 5,
    "label_names": list("abcde"),
    "pretrained_cfg": {"mean": [0.5, 0.25, 0.5], "std": [0.25, 0.5, 1.0], "input_size": [3, 224, 224]},
}
HUB = {"image_mean": [0.5, 0.25, 0.5], "image_std": [0.25, 0.5, 1.0], "do_rescale": True, "rescale_factor": 1 / 255}
PLAIN = {"do_normalize": False, "do_rescale": False}
BESIDE = {
    "timm": ({"config.json": TIMM}, (127.5, 63.75, 127.5), (63.75, 127.5, 255.0)),
    "older timm": ({"config.json": TIMM["pretrained_cfg"] | {"architecture": "vgg16_bn"}}, (127.5,), (63.75,)),
    "hub": (
        {"config.json": {"architectures": ["VggForImageClassification"]}, "preprocessor_config.json": HUB},
        (127.5,),
        (63.75,),
    ),
    "pixels as they are": ({"config.json": {"model_type": "vgg"}, "preprocessor_config.json": PLAIN}, (0,), (1,)),
}


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_what_lies_beside_a_file_is_read(kind, ending, tmp_path):
    files, mean, divisor = BESIDE[kind]
    state = torchvision_net("A").state_dict()
    (save_file if ending == ".safetensors" else torch.save)(state, tmp_path / f"model{ending}")
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    found = read_weights(tmp_path / f"model{ending}")
    assert found.mean[: len(mean)] == pytest.approx(mean)
    assert found.divisor[: len(divisor)] == pytest.approx(divisor)
    assert "beside it says" in found.convention
    assert found.classes == (tuple("abcde") if kind == "timm" else None)


@pytest.mark.parametrize("text", [json.dumps(TIMM | {"architecture": "resnet50"}), "[1]", "{", '"' * 9, "[" * 10_000])
def test_what_lies_beside_a_file_and_is_of_something_else_is_left(text, tmp_path):
    torch.save(torchvision_net("A").state_dict(), tmp_path / "a.pth")
    (tmp_path / "config.json").write_text(text)
    assert read_weights(tmp_path / "a.pth").is_guessed


@pytest.mark.parametrize("name", ["normalize", "data_preprocessor", ""])
@pytest.mark.parametrize("factor", [1, 255])
def test_a_mean_and_deviation_in_the_file_are_taken(name, factor, tmp_path):
    """As adversarial training and OpenMMLab keep them, in 0..1 or 0..255."""
    theirs = torchvision_net("A")
    numbers = {"mean": torch.tensor([0.4, 0.5, 0.6]), "std": torch.tensor([0.1, 0.2, 0.3])}
    kept = {f"{name}.{key}".strip("."): factor * part.view(1, 3, 1, 1) for key, part in numbers.items()}
    torch.save({f"model.{key}": part for key, part in theirs.state_dict().items()} | kept, tmp_path / "a.pth")
    found = read_weights(tmp_path / "a.pth")
    assert found.mean == pytest.approx((102, 127.5, 153))
    assert found.divisor == pytest.approx((25.5, 51, 76.5))
    assert not found.is_guessed


def foreign(tensors, **kinds):
    guess = {
        "kind": "torchvision",
        "mean": (1.0,) * 3,
        "divisor": (9.0,) * 3,
        "convention": "usual",
        "is_guessed": True,
    }
    return ImportedWeights(tensors=tensors, **guess | kinds)


def test_files_are_known_by_their_hash():
    first = torch.rand(8, 3, 3, 3)
    caffe = with_known_file(foreign({"conv1_1.weight": first}), "d01eb7cb" + "0" * 56)
    assert torch.equal(caffe.tensors["conv1_1.weight"], first.flip(1))
    assert (caffe.mean, caffe.divisor, caffe.is_guessed) == (IMAGENET_MEAN, (1, 1, 1), False)
    torchvision = with_known_file(foreign({"conv1_1.weight": first}), "397923af" + "0" * 56)
    assert (torchvision.mean, torchvision.is_guessed) == ((1, 1, 1), False)
    assert "known by its hash as imagenet-D" in torchvision.convention
    assert with_known_file(foreign({}), "0" * 64).is_guessed


def test_a_hash_is_looked_at_when_a_file_is_imported(verydeep, tmp_path, monkeypatch):
    theirs = torchvision_net("A")
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    from verydeep.download import digest_of

    monkeypatch.setattr(known, "_CAFFE_FILES", (digest_of(tmp_path / "a.pth", "sha256")[:8],))
    status, printed, _ = verydeep("weights", "import", tmp_path / "a.pth", "--out", tmp_path / "a.safetensors")
    assert status == 0
    assert "known by its hash; here RGB in 0..255, less (123.68, 116.779, 103.939)" in printed


@pytest.mark.parametrize("was_bgr", [False, True])
def test_vgg_face_is_known_by_its_scores(was_bgr):
    faces = foreign(
        {"conv1_1.weight": torch.rand(64, 3, 3, 3), "fc8.weight": torch.zeros(2622, 8, 1, 1)}, was_bgr=was_bgr
    )
    found = with_known_input(faces)
    assert found.mean == pytest.approx((129.1863, 104.7624, 93.5940))
    assert (found.divisor, found.is_guessed) == ((1, 1, 1), True)
    assert ("BGR" if was_bgr else "RGB") in found.convention


def test_names_of_classes_in_json():
    assert class_names(["a", "b"]) == ("a", "b")
    assert class_names({"b": 1, "a": 0}) == ("a", "b")
    assert class_names({"1": ["n02", "b"], "0": ["n01", "a"]}) == ("a", "b")
    assert class_names({0: "a", 1: "b"}) == ("a", "b")
    for other in ({"a": 0, "b": 0}, {"a": 1}, {"a": "b"}, [1], [], {}, None, "ab", {"a": True}):
        assert class_names(other) is None


def test_scores_of_torchvisions_own_input_stay_what_they_were(tmp_path):
    theirs = torchvision_net("A")
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    with torch.inference_mode():
        ours = assemble(read_weights(tmp_path / "a.pth"))(as_pixels(PICTURES))
    assert largest_difference(ours, torchvision_scores(theirs, PICTURES)) < 1e-5
