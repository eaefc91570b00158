"""ONNX: files that torch.onnx and the onnx package write, compared with ONNX Runtime."""

import itertools
import os
import warnings
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torchvision.models.vgg import VGG, cfgs, make_layers
from torchvision.transforms._presets import ImageClassification

from conftest import picture
from foreign_nets import damage_many, images, make_net
from peer_nets import as_pixels, crops
from peer_nets import export_onnx as export
from verydeep.errors import UserError
from verydeep.nets.net import VeryDeep
from verydeep.weights.imported import assemble
from verydeep.weights.readers import find_reader, read_weights
from verydeep.weights.readers.onnx import find_input, is_onnx, read_onnx
from verydeep.weights.verify import compare, largest_difference

TORCHVISION_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
TORCHVISION_DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def vgg(configuration="D", batch_norm=False, width=0.125):
    """Torchvision's net with an eighth of the channels, its batch norms used a little."""
    torch.manual_seed(0)
    channels = [size if size == "M" else int(size * width) for size in cfgs[configuration]]
    with torch.device("meta"):
        net = VGG(make_layers(channels, batch_norm=batch_norm), init_weights=False)
    net.classifier = nn.Sequential(
        nn.Linear(64 * 49, 512),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(512, 5),
    )
    net.to_empty(device="cpu")
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return net.eval()


def onnx_scores(file, x):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def difference(file, x, pixels):
    """Largest difference to ONNX Runtime's scores, as a share of the largest."""
    expected = onnx_scores(file, x)
    net = assemble(read_onnx(file))
    with torch.inference_mode():
        scores = net(pixels)
    assert expected.abs().max() > 1e-4
    return float((scores - expected).abs().max() / expected.abs().max())


def torchvision_input(pixels):
    return (pixels / 255 - TORCHVISION_MEAN) / TORCHVISION_DEVIATION


QUICK = {("D", True), ("E", False)}


@pytest.mark.parametrize("exporter", ["torch.export", "TorchScript", "TorchScript, batch norm kept"])
@pytest.mark.parametrize(
    ("configuration", "batch_norm"),
    [
        pytest.param(*net, marks=[] if net in QUICK else pytest.mark.slow)
        for net in itertools.product(("D", "E"), (False, True))
    ],
)
def test_torchvisions_net_exported(configuration, batch_norm, exporter, tmp_path, record_property):
    file = tmp_path / "net.bin"
    options = {"dynamo": exporter == "torch.export"}
    if "kept" in exporter:
        options |= {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    export(vgg(configuration, batch_norm), file, 224, **options)
    if "kept" in exporter and batch_norm:
        assert "BatchNormalization" in {node.op_type for node in onnx.load(file).graph.node}
    assert is_onnx(file)
    assert find_reader(file).name == "ONNX"
    found = read_onnx(file)
    kept = batch_norm and "kept" in exporter
    assert ("a guess" in found.convention, "folded" in found.convention) == (True, not kept)
    pixels = images(224)
    largest = difference(file, torchvision_input(pixels), pixels)
    record_property("relative_difference", f"{largest:.1e}")
    assert largest < 1e-5
    geometry = assemble(found).geometry
    assert (geometry.architecture.name, geometry.batch_norm, geometry.crop) == (configuration, kept, 224)


@pytest.mark.parametrize("dynamo", [True, False])
def test_our_own_net_exported_keeps_its_mean(dynamo, tmp_path, record_property):
    """Its graph subtracts and divides, its fully connected layers are convolutions, and a mean over places ends it."""
    net = VeryDeep("D", num_classes=5, crop=64, width=0.125, generator=torch.Generator().manual_seed(0)).eval()
    net.set_input((100, 110, 120), (50, 60, 70))
    file = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _AsConvolutions(net), (255 * torch.rand(2, 3, 64, 64),), str(file), dynamo=dynamo, verbose=False
        )
    found = read_onnx(file)
    assert found.mean == pytest.approx((100, 110, 120))
    assert found.divisor == pytest.approx((50, 60, 70))
    pixels = images(64)
    largest = difference(file, pixels.float(), pixels)
    record_property("relative_difference", f"{largest:.1e}")
    assert largest < 1e-5


class _AsConvolutions(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        x = (x - self.net.mean[:, None, None]) / self.net.divisor[:, None, None]
        for layer in list(self.net.children()):
            weight = getattr(layer, "weight", None)
            x = layer(x) if weight is None else nn.functional.conv2d(x, weight, layer.bias, padding=layer.padding)
        return x.mean((2, 3))


def tensorflow_style(net, *, half=False):
    """A net over n,y,x,c as converters of Keras write it: kernels turned by nodes, biases as additions."""
    nodes, tensors, value = [], [], "image"

    def constant(name, numbers):
        tensors.append(numpy_helper.from_array(numbers.astype(np.float16 if half else np.float32), name))
        if not half:
            return name
        nodes.append(helper.make_node("Cast", [name], [f"{name}_cast"], to=TensorProto.FLOAT))
        return f"{name}_cast"

    def add(kind, *inputs, **attributes):
        nonlocal value
        following = f"v{len(nodes)}"
        nodes.append(helper.make_node(kind, [value, *inputs], [following], **attributes))
        value = following

    add("Mul", constant("scale", np.array(1 / 127.5)))
    add("Sub", constant("one", np.ones(3)))
    add("Transpose", perm=[0, 3, 1, 2])
    channels = 3
    for kind, name in net.layers():
        if kind == "conv":
            weight, bias = net.weights[name]
            channels = weight.shape[0]
            stored = constant(f"{name}_k", weight.transpose(2, 3, 1, 0))
            nodes.append(helper.make_node("Transpose", [stored], [f"{name}_t"], perm=[3, 2, 0, 1]))
            add("Conv", f"{name}_t", auto_pad="SAME_UPPER", kernel_shape=[3, 3])
            add("Add", constant(f"{name}_b", bias.reshape(1, -1, 1, 1)))
        elif kind == "relu":
            add("Relu")
        elif kind == "pool":
            add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
        elif kind == "fc":
            weight, bias = net.weights[name]
            if name == "fc6":
                add("Transpose", perm=[0, 2, 3, 1])
                tensors.append(numpy_helper.from_array(np.array([-1, weight.shape[1]], np.int64), "flat"))
                add("Reshape", "flat")
                side = int((weight.shape[1] / channels) ** 0.5)
                weight = weight.reshape(-1, channels, side, side).transpose(0, 2, 3, 1).reshape(len(weight), -1)
            add("MatMul", constant(f"{name}_k", weight.T))
            add("Add", constant(f"{name}_b", bias))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 64, 64, 3])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", None])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


@pytest.mark.parametrize("half", [False, True])
def test_a_net_over_channels_last(half, tmp_path, record_property):
    net = make_net("D", crop=64)
    file = tmp_path / "net.onnx"
    onnx.save(tensorflow_style(net, half=half), file)
    found = read_onnx(file)
    assert found.mean == pytest.approx((127.5,) * 3, rel=1e-4)
    assert found.divisor == pytest.approx((127.5,) * 3, rel=1e-4)
    pixels = images(64)
    largest = difference(file, pixels.permute(0, 2, 3, 1).float().contiguous(), pixels)
    record_property("relative_difference", f"{largest:.1e}")
    assert largest < 1e-5


def test_verified_by_onnx_runtime(tmp_path):
    """What is compared sees the input that each graph wants: bare, with its own mean, and channels last."""
    bare, last = tmp_path / "bare.onnx", tmp_path / "last.onnx"
    export(vgg("A"), bare, 224, dynamo=False)
    onnx.save(tensorflow_style(make_net("D", crop=64)), last)
    pictures = [picture(seed, 80, 90) for seed in range(3)]
    for file, expected in ((bare, ("nchw", 2, None)), (last, ("nhwc", -1, 255))):
        wanted = find_input(file)
        assert (wanted.axes, wanted.batch, wanted.largest) == expected
        found = read_onnx(file)
        agreement = compare(file, found, assemble(found), pictures)
        assert agreement.package.startswith("onnxruntime ")
        assert agreement.largest_difference < 1e-5
        shifted = replace(found, mean=(0, 0, 0)) if file == last else replace(found, tensors=found.tensors | {
            "conv1_1.weight": found.tensors["conv1_1.weight"].flip(1)})  # fmt: skip
        assert compare(file, found, assemble(shifted), pictures).largest_difference > 1e-3


def test_scores_of_photographs_are_those_of_onnx_runtime(shared_photos, tmp_path):
    """The graph of torchvision's net wants torchvision's preprocessing."""
    file, photographs = tmp_path / "net.onnx", crops(shared_photos, 224)
    export(vgg("A"), file, 224, dynamo=False)
    with torch.inference_mode():
        ours = assemble(read_onnx(file))(as_pixels(photographs))
    preset = ImageClassification(crop_size=224, resize_size=224)
    inputs = torch.stack([preset(photograph) for photograph in photographs])
    expected = torch.cat([onnx_scores(file, inputs[:2]), onnx_scores(file, inputs[2:])])  # exported for two
    assert largest_difference(ours, expected) < 1e-5


@pytest.mark.parametrize("ending", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_a_net_that_ends_in_a_softmax_is_verified(ending, tmp_path):
    file = tmp_path / "net.onnx"
    export(nn.Sequential(vgg("A"), ending), file, 224, dynamo=False)
    found = read_onnx(file)
    assert compare(file, found, assemble(found), [picture(1, 80, 90)]).largest_difference < 1e-5


def test_convolutions_without_the_last_pooling_are_verified(tmp_path):
    file = tmp_path / "net.onnx"
    export(vgg("A").features[:-1], file, 224, dynamo=False)
    found = read_onnx(file)
    assert found.features_only
    assert compare(file, found, assemble(found), [picture(1, 80, 90)]).largest_difference < 1e-5


def swap_inputs(graph, kind):
    node = next(node for node in graph.node if node.op_type == kind)
    node.input[:] = reversed(node.input)


def small_model():
    return tensorflow_style(make_net(channels=(2, 2, 3, 3, 3), hidden=4, num_classes=2, crop=64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda graph: setattr(graph.node[4], "op_type", "ConvTranspose"), "'ConvTranspose' stands where no VGG"),
        (lambda graph: graph.node.insert(0, helper.make_node("LRN", ["image"], ["image"])), "branch|'LRN'"),
        (lambda graph: graph.node.add(op_type="Abs", input=["v2"], output=["other"]), "makes the graph branch"),
        (lambda graph: graph.input.add(name="other"), "has one input, the image, and this graph has 'image', 'other'"),
        (lambda graph: graph.initializer[2].dims.append(2), "says the shape"),
        (lambda graph: setattr(graph.initializer[2], "data_type", TensorProto.INT8), "data type 3"),
        (lambda graph: graph.initializer.pop(2), "no numbers that are in the file"),
        (lambda graph: setattr(graph.node[0], "domain", "com.custom"), "'com.custom.Mul'"),
        (lambda graph: swap_inputs(graph, "Sub"), "subtracts or divides the other way round"),
    ],
)
def test_what_is_no_net_of_the_paper(change, message, tmp_path):
    model = small_model()
    change(model.graph)
    file = tmp_path / "net.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=message) as caught:
        read_weights(file)
    assert "net.onnx" in str(caught.value)


def first_pooling(model):
    return next(node for node in model.graph.node if node.op_type == "MaxPool")


ROUNDING = [{"ceil_mode": 1}, {"auto_pad": "SAME_UPPER"}]


@pytest.mark.parametrize("setting", ROUNDING, ids=str)
def test_a_pooling_that_rounds_up_is_taken_where_nothing_is_rounded(setting, tmp_path):
    model, file = tensorflow_style(make_net(crop=64)), tmp_path / "net.onnx"
    first_pooling(model).attribute.extend(helper.make_attribute(key, value) for key, value in setting.items())
    onnx.save(model, file)
    pixels = images(64)
    assert difference(file, pixels.permute(0, 2, 3, 1).float().contiguous(), pixels) < 1e-5
    for size in (
        model.graph.input[0].type.tensor_type.shape.dim[1],
        model.graph.input[0].type.tensor_type.shape.dim[2],
    ):
        size.dim_value = 63
        onnx.save(model, file)
        with pytest.raises(UserError, match=r"of type 'MaxPool' rounds sides up .* a multiple of 32"):
            read_onnx(file)
        size.dim_param = "side"
        onnx.save(model, file)
        with pytest.raises(UserError, match="rounds sides up"):
            read_onnx(file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda node: node.attribute.append(helper.make_attribute("dilations", [2, 2])), r"has dilations \[2, 2\]"),
        (lambda node: node.attribute.append(helper.make_attribute("pads", [0, 0, 1, 1])), "padding -1"),
    ],
)
def test_poolings_of_another_kind_are_refused(change, says, tmp_path):
    model = small_model()
    change(first_pooling(model))
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(UserError, match=says):
        read_onnx(tmp_path / "net.onnx")


def outside(tmp_path, location):
    model = small_model()
    tensor = model.graph.initializer[2]
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "16"), ("length", str(len(content)))):
        tensor.external_data.add(key=key, value=value)
    file = tmp_path / "folder" / "net.onnx"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(model.SerializeToString())
    return file, bytes(16) + content


def test_weights_in_a_file_beside_it(tmp_path):
    file, content = outside(tmp_path, "weights.bin")
    with pytest.raises(UserError, match=r"'weights\.bin' with its weights is missing: put it into the same folder"):
        read_onnx(file)
    (file.parent / "weights.bin").write_bytes(content)
    whole = tmp_path / "whole.onnx"
    whole.write_bytes(small_model().SerializeToString())
    assert torch.equal(read_onnx(file).tensors["conv1_1.weight"], read_onnx(whole).tensors["conv1_1.weight"])
    (file.parent / "weights.bin").write_bytes(content[:-1])
    with pytest.raises(UserError, match="beyond the end"):
        read_onnx(file)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "link", "pipe", "loop", "", "a\0b", "."])
def test_no_file_outside_the_folder_is_opened(location, tmp_path):
    file, content = outside(tmp_path, location)
    (tmp_path / "weights.bin").write_bytes(content)
    (file.parent / "link").symlink_to(tmp_path / "weights.bin")
    (file.parent / "loop").symlink_to(file.parent / "loop")
    os.mkfifo(file.parent / "pipe")
    with pytest.raises(UserError, match=r"net\.onnx") as caught:
        read_onnx(file)
    assert "outside the folder" in str(caught.value) or location in ("pipe", "loop", "a\0b", ".")


def test_without_onnx_one_line_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "net").write_bytes(small_model().SerializeToString())
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    assert find_reader(tmp_path / "net").name == "ONNX"
    with pytest.raises(UserError, match=r"net is an ONNX file, .* not installed: pip install 'verydeep\[onnx\]'"):
        read_onnx(tmp_path / "net")


def test_more_than_a_net_has_is_refused_before_onnx_reads_it(tmp_path, monkeypatch):
    """Two bytes of an empty message become a hundred in memory."""
    monkeypatch.setattr(onnx, "load_model", None)
    file = tmp_path / "net"
    for part, says in (
        (b"\x0a\x00" * 2001, "more than 2000 messages"),
        (b"\x0a\x00" * 10_001, "more than 10000 fields"),
    ):
        file.write_bytes(b"\x08\x08\x3a" + varint(len(part)) + part)
        assert is_onnx(file)
        with pytest.raises(UserError, match=says):
            read_onnx(file)
    with file.open("r+b") as opened:
        opened.truncate(2**31)  # a hole in the file, and no bytes on the disk
    with pytest.raises(UserError, match="larger than 2 GiB, and a model of that size has its weights in other files"):
        read_onnx(file)


def varint(number):
    return bytes([number & 127 | 128, number >> 7 & 127 | 128, number >> 14])


def test_other_files_are_not_onnx(tmp_path):
    file = tmp_path / "other"
    for content in (b"", b"PK\x03\x04", bytes(100), b"\x08\x08", b"\x89HDF\r\n\x1a\n"):
        file.write_bytes(content)
        assert not is_onnx(file)
        with pytest.raises(UserError):
            read_onnx(file)


def test_damaged_files_are_refused_or_read(tmp_path, record_property):
    counts = damage_many(
        small_model().SerializeToString(), tmp_path / "net", read_onnx, times=60, most_bytes=10_000_000
    )
    record_property("refused_and_read", counts)
    assert counts[0] > 15
