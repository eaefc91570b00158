"""Heads of somebody's own: what is ours is read with its scores, the rest is left out by its own names."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models.vgg import make_layers

from conftest import scene
from peer_nets import CHANNELS, HIDDEN, as_pixels, configuration, randomise
from peer_nets import export_onnx as export
from verydeep.nets.net import IMAGENET_MEAN, VeryDeep
from verydeep.nets.reuse import TORCHVISION_MEAN, TORCHVISION_STD
from verydeep.weights.heads import with_head
from verydeep.weights.imported import ImportedWeights, assemble
from verydeep.weights.known import with_known_input
from verydeep.weights.layer_order import HeadLayer
from verydeep.weights.readers import read_weights
from verydeep.weights.resolve import load, read_card
from verydeep.weights.shipped import shipped_file
from verydeep.weights.verify import compare, largest_difference

SIDE = 64
LAST = CHANNELS[-1]
FLAT = LAST * (SIDE // 32) ** 2
PICTURES = [scene(seed, SIDE, SIDE) for seed in range(2)]


def torchvision_input(pixels):
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (TORCHVISION_MEAN, TORCHVISION_STD))
    return (pixels / 255 - mean) / std


class Net(nn.Module):
    """Convolutions of torchvision under a head of somebody's own."""

    def __init__(self, *head, named="classifier", batch_norm=False, last_pooling=True):
        super().__init__()
        layers = make_layers(configuration("D"), batch_norm)
        self.features = layers if last_pooling else layers[:-1]
        self.named = named
        setattr(self, named, nn.Sequential(*head) if len(head) > 1 else head[0])
        randomise(self)

    def forward(self, x):
        return getattr(self, self.named)(self.features(x))


def left_out(found):
    assert found.features_only
    assert found.reason
    return found.left_out


def check_features(found, expected):
    with torch.inference_mode():
        assert largest_difference(assemble(found).features(as_pixels(PICTURES)), expected) < 1e-5


def check_scores(found, expected, **options):
    net = assemble(found, **options)
    with torch.inference_mode():
        assert largest_difference(net(as_pixels(PICTURES)), expected) < 1e-5
    return net


def torch_output(net, part=None):
    with torch.inference_mode():
        return (net if part is None else part)(torchvision_input(as_pixels(PICTURES)))


def flat(*widths):
    """Fully connected layers of these widths on the flattened map, with ReLUs between."""
    layers = [nn.Flatten()]
    for inputs, outputs in zip((FLAT, *widths), widths, strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers[:-1]


def pooled(*layers):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers]


OWN_HEADS = {
    "two layers": (lambda: flat(40, 3), "13"),
    "other widths": (lambda: [*flat(40, 20, 3), nn.LogSoftmax(1)], "135"),
    "batch norm": (lambda: pooled(nn.BatchNorm1d(LAST), nn.Linear(LAST, 3)), "23"),
    "one score": (lambda: pooled(nn.Linear(LAST, 1), nn.Sigmoid()), "2"),
    "flattened": (lambda: flat(3), "1"),
    "convolutions": (lambda: [nn.Conv2d(LAST, 30, 3, padding=1), nn.ReLU(), nn.Conv2d(30, 3, 1)], "02"),
    "no ReLU": (lambda: [layer for layer in flat(HIDDEN, HIDDEN, 3) if not isinstance(layer, nn.ReLU)], "123"),
}
"""Of somebody's own, and the places in ``classifier`` that have weights."""


@pytest.mark.parametrize("name", OWN_HEADS)
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_state_dict_is_read_as_convolutions(name, ending, tmp_path):
    make, places = OWN_HEADS[name]
    theirs = Net(*make())
    file = tmp_path / f"net{ending}"
    (save_file if ending == ".safetensors" else torch.save)(theirs.state_dict(), file)
    found = read_weights(file)
    assert set(left_out(found)) == {f"classifier.{place}" for place in places}
    assert "a guess, the file does not say" in found.convention
    check_features(found, torch_output(theirs, theirs.features))


@pytest.mark.parametrize("name", OWN_HEADS)
@pytest.mark.parametrize("dynamo", [False, True])
def test_a_graph_is_read_as_convolutions(name, dynamo, tmp_path):
    theirs, file = Net(*OWN_HEADS[name][0]()), tmp_path / "net.onnx"
    export(theirs, file, SIDE, dynamo=dynamo)
    found = read_weights(file)
    assert left_out(found)
    check_features(found, torch_output(theirs, theirs.features))
    agreement = compare(file, found, assemble(found), PICTURES)
    assert agreement.largest_difference < 1e-5
    assert agreement.compared == "last map of the convolutions"
    assert "which the file does not say" in agreement.preprocessing


LINEAR_HEADS = {
    "mean": lambda: pooled(nn.Dropout(), nn.Linear(LAST, 3)),
    "soft-max": lambda: pooled(nn.Linear(LAST, 3), nn.LogSoftmax(1)),
    "map": lambda: [nn.Conv2d(LAST, 3, 1), *pooled()],
}


@pytest.mark.parametrize("name", LINEAR_HEADS)
@pytest.mark.parametrize("dynamo", [False, True])
def test_a_linear_head_of_a_graph_has_its_scores(name, dynamo, tmp_path):
    theirs, file = Net(*LINEAR_HEADS[name]()), tmp_path / "net.onnx"
    export(theirs, file, SIDE, dynamo=dynamo)
    found = read_weights(file)
    expected = torch_output(
        theirs, nn.Sequential(theirs.features, *list(theirs.classifier)[: 3 if name == "soft-max" else 4])
    )
    net = check_scores(found, expected)
    assert (net.geometry.head, net.geometry.crop, net.geometry.num_classes) == ("linear", SIDE, 3)
    assert not found.left_out
    assert compare(file, found, net, PICTURES).largest_difference < 1e-5


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("named", ["classifier", "fc", "head"])
def test_a_linear_head_of_a_state_dict_has_its_scores(batch_norm, named, tmp_path):
    """The names of kuangliu's VGGs for CIFAR, and others of one layer."""
    theirs = Net(nn.Linear(LAST, 10), named=named, batch_norm=batch_norm)
    torch.save({"net": {f"module.{name}": part for name, part in theirs.state_dict().items()}}, tmp_path / "a.pth")
    found = read_weights(tmp_path / "a.pth")
    means = torch_output(theirs, theirs.features).mean((2, 3))
    with torch.inference_mode():
        net = check_scores(found, getattr(theirs, named)(means), crop=32)
    assert (net.geometry.head, net.geometry.crop, net.geometry.batch_norm) == ("linear", 32, batch_norm)
    assert assemble(found).geometry.crop == 224


def test_the_widths_of_table_1_are_read_whatever_the_names(tmp_path):
    head = {"fc1": nn.Linear(FLAT, HIDDEN), "relu": nn.ReLU(), "fc2": nn.Linear(HIDDEN, HIDDEN), "relu2": nn.ReLU()}
    theirs = Net(nn.Flatten())
    theirs.classifier = nn.Sequential()
    for name, layer in {"flat": nn.Flatten(), **head, "output": nn.Linear(HIDDEN, 3)}.items():
        theirs.classifier.add_module(name, layer)
    randomise(theirs)
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    assert check_scores(read_weights(tmp_path / "a.pth"), torch_output(theirs)).geometry.head == "paper"


def test_no_head_is_no_head(tmp_path):
    theirs = Net(nn.Identity())
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    found = read_weights(tmp_path / "a.pth")
    assert (found.features_only, found.left_out, found.reason) == (True, (), None)


def test_a_head_without_the_last_pooling_is_left_out(tmp_path):
    theirs, file = (
        Net(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(LAST, 3), last_pooling=False),
        tmp_path / "a.onnx",
    )
    export(theirs, file, SIDE, dynamo=False)
    found = read_weights(file)
    assert [name.rpartition("/")[2] for name in left_out(found)] == ["GlobalAveragePool", "Flatten", "Gemm"]
    check_features(found, torch.max_pool2d(torch_output(theirs, theirs.features), 2))
    assert compare(file, found, assemble(found), PICTURES).largest_difference < 1e-5


def test_one_more_convolution_is_of_the_head(tmp_path):
    """As class activation maps have it: conv6 and a mean, in place of the last pooling."""
    head = [nn.Conv2d(LAST, 20, 3, padding=1), nn.ReLU(), *pooled(nn.Linear(20, 3))]
    theirs, file = Net(*head, last_pooling=False), tmp_path / "a.onnx"
    export(theirs, file, SIDE, dynamo=False)
    check_features(read_weights(file), torch.max_pool2d(torch_output(theirs, theirs.features), 2))


class Branching(Net):
    def forward(self, x):
        map_ = self.features(x)
        return self.classifier(torch.cat([map_.mean((2, 3)), map_.amax((2, 3))], 1))


def test_a_head_that_branches_is_left_out(tmp_path):
    theirs, file = Branching(nn.Linear(2 * LAST, 3)), tmp_path / "a.onnx"
    export(theirs, file, SIDE, dynamo=False)
    assert len(left_out(read_weights(file))) == 4
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    assert left_out(read_weights(tmp_path / "a.pth")) == ("classifier",)


def test_names_of_keras_in_a_graph_are_taken_for_its_order_of_channels(tmp_path):
    import onnx

    file = tmp_path / "a.onnx"
    export(Net(nn.Flatten(), nn.Linear(FLAT, 3)), file, SIDE, dynamo=False)
    before = read_weights(file)
    model = onnx.load(file)
    next(node for node in model.graph.node if node.op_type == "Conv").name = "functional_1/block1_conv1_1/BiasAdd"
    onnx.save(model, file)
    found = read_weights(file)
    assert torch.equal(found.tensors["conv1_1.weight"], before.tensors["conv1_1.weight"].flip(1))
    assert (found.mean, found.divisor, found.is_guessed) == (IMAGENET_MEAN, (1, 1, 1), True)
    assert "a guess, the file does not say (--mean, --divisor and --bgr say otherwise)" in found.convention
    assert compare(file, found, assemble(found), PICTURES).largest_difference < 1e-5


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_the_authors_own_first_convolution_is_known(order):
    """As in files with the names of torchvision that hold Caffe's weights."""
    first = load_file(shipped_file("vgg16-features"))["conv1_1.weight"].float()
    given = first.flip(1) if order == "BGR" else first
    guess = {"kind": "torchvision", "mean": (1.0,) * 3, "divisor": (9.0,) * 3, "convention": "", "is_guessed": True}
    found = with_known_input(ImportedWeights(tensors={"conv1_1.weight": given}, **guess))
    assert torch.equal(found.tensors["conv1_1.weight"], first)
    assert (found.mean, found.divisor, found.is_guessed) == (IMAGENET_MEAN, (1, 1, 1), False)
    for other in ({"conv1_1.weight": given + 0.1}, {"conv1_1.weight": torch.zeros(8, 3, 3, 3)}, {}):
        unknown = ImportedWeights(tensors=other, **guess)
        assert with_known_input(unknown) is unknown


def test_a_head_without_weights_is_left_out_by_name():
    state = VeryDeep("A", width=0.125, features_only=True).state_dict()
    tensors = {name: part for name, part in state.items() if name.startswith("conv")}
    given = {"kind": "test", "mean": IMAGENET_MEAN, "divisor": (1.0,) * 3, "convention": ""}
    convolutions = ImportedWeights(tensors=tensors, **given)
    layers = [HeadLayer(name="pool", kind="average pooling"), HeadLayer(name="drop", kind="nothing")]
    assert with_head(convolutions, layers).left_out == ("pool", "drop")
    assert with_head(convolutions, layers[1:]).reason is None


@pytest.fixture
def foreign(tmp_path):
    torch.save(Net(nn.Flatten(), nn.Linear(FLAT, 40), nn.ReLU(), nn.Linear(40, 3)).state_dict(), tmp_path / "a.pth")
    return tmp_path / "a.pth"


def test_what_is_left_out_is_printed_and_in_the_card(verydeep, foreign, tmp_path):
    out = tmp_path / "a.safetensors"
    status, printed, _ = verydeep("weights", "import", foreign, "--out", out)
    assert status == 0
    assert "note: left out, after the convolutions: classifier.1, classifier.3 (it is neither fc6, fc7" in printed
    assert "; left out: classifier.1, classifier.3)" in read_card(out).source
    assert load(out).features_only
    scene(0).save(tmp_path / "photo.png")
    status, _, error = verydeep("predict", out, tmp_path / "photo.png")
    assert status == 1
    assert "has no classes, only convolutions" in error
    status, printed, _ = verydeep("weights", "import", foreign, "--out", out, "--json")
    assert json.loads(printed)["left_out"] == ["classifier.1", "classifier.3"]


def test_names_of_classes_need_scores(verydeep, foreign, tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    arguments = ("weights", "import", foreign, "--out", tmp_path / "a.safetensors", "--classes", tmp_path / "names.txt")
    status, _, error = verydeep(*arguments)
    assert status == 2
    assert "--classes names scores, and of" in error
    status, _, error = verydeep(*arguments, "--features-only")
    assert status == 2
    assert "--features-only leaves them out" in error


def test_convolutions_only_where_asked_for(verydeep, tmp_path):
    torch.save(Net(nn.Linear(LAST, 3)).state_dict(), tmp_path / "a.pth")
    out = tmp_path / "a.safetensors"
    status, printed, _ = verydeep("weights", "import", tmp_path / "a.pth", "--out", out)
    assert status == 0
    assert "note: its linear head fits images of any size: crop 224 (--crop) is assumed" in printed
    assert load(out).geometry.head == "linear"
    status, printed, _ = verydeep("weights", "import", tmp_path / "a.pth", "--out", out, "--features-only")
    assert status == 0
    assert "note: left out, after the convolutions: classifier\n" in printed
    assert load(out).features_only
