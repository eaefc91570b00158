"""Caffe's files: made with protobuf from the published schema, compared with an independent forward pass."""

from functools import cache

import numpy as np
import pytest
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from conftest import picture
from foreign_nets import damage_many, images, make_net, relative_difference
from verydeep.errors import UserError
from verydeep.weights.imported import assemble
from verydeep.weights.readers import READERS, find_reader, read_weights
from verydeep.weights.readers.caffe import is_caffe, read_caffe
from verydeep.weights.verify import compare

BGR_MEAN = (103.939, 116.779, 123.68)

# name, number, type and "*" for repeated, "+" for packed, as in caffe.proto
SCHEMA = {
    "BlobShape": "dim 1 int64 +",
    "BlobProto": """num 1 int32, channels 2 int32, height 3 int32, width 4 int32, data 5 float +, diff 6 float +,
        shape 7 BlobShape, double_data 8 double +""",
    "ConvolutionParameter": """num_output 1 uint32, pad 3 uint32 *, kernel_size 4 uint32 *, stride 6 uint32 *,
        pad_h 9 uint32, pad_w 10 uint32, stride_h 13 uint32, stride_w 14 uint32, dilation 18 uint32 *""",
    "PoolingParameter": """pool 1 int32, kernel_size 2 uint32, stride 3 uint32, pad 4 uint32, kernel_h 5 uint32,
        kernel_w 6 uint32, stride_h 7 uint32, stride_w 8 uint32, pad_h 9 uint32, pad_w 10 uint32""",
    "ReLUParameter": "negative_slope 1 float",
    "BatchNormParameter": "eps 3 float",
    "TransformationParameter": "scale 1 float, mean_value 5 float *",
    "V1LayerParameter": """bottom 2 string *, top 3 string *, name 4 string, type 5 int32, blobs 6 BlobProto *,
        convolution_param 10 ConvolutionParameter, pooling_param 19 PoolingParameter, relu_param 30 ReLUParameter,
        transform_param 36 TransformationParameter""",
    "LayerParameter": """name 1 string, type 2 string, bottom 3 string *, top 4 string *, blobs 7 BlobProto *,
        transform_param 100 TransformationParameter, convolution_param 106 ConvolutionParameter,
        pooling_param 121 PoolingParameter, relu_param 123 ReLUParameter, batch_norm_param 139 BatchNormParameter""",
    "NetParameter": """name 1 string, layers 2 V1LayerParameter *, input 3 string *, input_dim 4 int32 *,
        layer 100 LayerParameter *""",
}

V1_TYPES = {"conv": 4, "fc": 14, "relu": 18, "pool": 17, "drop": 6, "softmax": 20, "data": 5, "lrn": 15}
TYPES = {
    "conv": "Convolution",
    "fc": "InnerProduct",
    "relu": "ReLU",
    "pool": "Pooling",
    "drop": "Dropout",
    "softmax": "Softmax",
    "bn": "BatchNorm",
    "scale": "Scale",
    "data": "Data",
}


@cache
def schema():
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for name, rows in SCHEMA.items():
        message = file.message_type.add(name=name)
        for row in rows.split(","):
            label, number, kind, *repeated = row.split()
            added = message.field.add(name=label, number=int(number), label=3 if repeated else 1)
            if kind in SCHEMA:
                added.type, added.type_name = 11, f".caffe.{kind}"
            else:
                added.type = getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{kind.upper()}")
            added.options.packed = repeated == ["+"]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def add_blob(layer, numbers, *, old_shape, double=False):
    blob = layer.blobs.add()
    (blob.double_data if double else blob.data).extend(numbers.ravel().tolist())
    if old_shape:
        blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - numbers.ndim) + numbers.shape
    else:
        blob.shape.dim.extend(numbers.shape)


def caffemodel(net, *, v1=True, settings=True, only_weights=False, transform=None, double=False):
    """A NetParameter with the layers of a net, its first convolution over BGR."""
    whole = schema()(name="VGG")
    rows = [("data", "data"), *net.layers()]
    for kind, name in rows:
        if only_weights and name not in net.weights:
            continue
        layer = (whole.layers if v1 else whole.layer).add(name=name, type=(V1_TYPES if v1 else TYPES)[kind])
        layer.bottom.append("before")
        layer.top.append(name)
        if kind == "data" and transform:
            layer.transform_param.mean_value.extend(transform[0])
            layer.transform_param.scale = transform[1]
        if kind == "conv" and settings:
            layer.convolution_param.pad.append(1)
            layer.convolution_param.kernel_size.append(3)
        if kind == "pool" and settings:
            layer.pooling_param.kernel_size, layer.pooling_param.stride = 2, 2
        for numbers in net.weights.get(name, ()):
            add_blob(layer, numbers, old_shape=v1, double=double)
        if kind == "bn":
            mean, variance, scale, shift = net.moments[name]
            for numbers in (mean * 8, variance * 8, np.array([8], np.float32)):
                add_blob(layer, numbers, old_shape=False)
            layer.batch_norm_param.eps = net.epsilon
            after = whole.layer.add(name=name.replace("bn", "scale"), type="Scale")
            for numbers in (scale, shift):
                add_blob(after, numbers, old_shape=False)
    return whole.SerializeToString()


def caffe_input(pixels, mean=BGR_MEAN, scale=1.0):
    """What Caffe puts into the net: BGR, mean subtracted, then scaled."""
    bgr = pixels[:, [2, 1, 0]].double()
    return (bgr - torch.tensor(mean).double()[:, None, None]) * scale


@pytest.mark.parametrize("crop", [32, 64])
@pytest.mark.parametrize("v1", [True, False], ids=["layers", "layer"])
@pytest.mark.parametrize("architecture", ["A", "D", "E"])
def test_scores_are_those_of_caffe(architecture, v1, crop, tmp_path, record_property):
    net = make_net(architecture, crop=crop)
    file = tmp_path / "net.bin"
    file.write_bytes(caffemodel(net, v1=v1))
    assert is_caffe(file)
    assert find_reader(file).name == "Caffe"
    found = read_caffe(file)
    assert (found.mean, found.divisor) == (tuple(reversed(BGR_MEAN)), (1, 1, 1))
    assert "not in the file" in found.convention
    pixels = images(crop)
    difference = relative_difference(found, pixels, net.scores(caffe_input(pixels)))
    record_property("relative_difference", f"{difference:.1e}")
    assert difference < 1e-5
    assert assemble(found).geometry.architecture.name == architecture


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3])
def test_batch_norm_with_its_scale(epsilon, tmp_path, record_property):
    net = make_net("D", batch_norm=True, epsilon=epsilon)
    file = tmp_path / "net.caffemodel"
    file.write_bytes(caffemodel(net, v1=False))
    pixels = images(32)
    difference = relative_difference(read_caffe(file), pixels, net.scores(caffe_input(pixels)))
    record_property("relative_difference", f"{difference:.1e}")
    assert difference < 1e-5


def test_no_program_verifies_it(tmp_path):
    file = tmp_path / "net.caffemodel"
    file.write_bytes(caffemodel(make_net("D", crop=64)))
    found = read_caffe(file)
    with pytest.raises(UserError, match="weights of Caffe cannot be verified: no program that runs them can be"):
        compare(file, found, assemble(found), [picture(1, 80, 90)])


@pytest.mark.parametrize("variant", [{"only_weights": True}, {"settings": False}, {"double": True}], ids=str)
def test_variants_give_the_same_weights(variant, tmp_path):
    net = make_net("D")
    plain, other = tmp_path / "plain", tmp_path / "other"
    plain.write_bytes(caffemodel(net))
    other.write_bytes(caffemodel(net, **variant))
    expected, found = read_caffe(plain).tensors, read_caffe(other).tensors
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_mean_of_the_data_layer(tmp_path):
    net = make_net()
    mean, scale = (90.0, 100.0, 110.0), 1 / 64
    file = tmp_path / "net.caffemodel"
    file.write_bytes(caffemodel(net, transform=(mean, scale)))
    found = read_caffe(file)
    assert (found.mean, found.divisor) == ((110, 100, 90), (64, 64, 64))
    pixels = images(32)
    assert relative_difference(found, pixels, net.scores(caffe_input(pixels, mean, scale))) < 1e-5


def test_convolutions_alone(tmp_path):
    net = make_net("D")
    file = tmp_path / "net.caffemodel"
    net.weights = {name: both for name, both in net.weights.items() if name.startswith("conv")}
    rows = net.layers()
    net.layers = lambda: [row for row in rows if row[1] in net.weights or row[1][:-1] == "pool" or "_" in row[1]]
    file.write_bytes(caffemodel(net))
    assert read_caffe(file).features_only
    file.write_bytes(caffemodel(net, only_weights=True))
    assert read_caffe(file).features_only


def test_the_weights_stay_in_the_file(tmp_path):
    file = tmp_path / "net.caffemodel"
    file.write_bytes(caffemodel(make_net()))
    before = file.read_bytes()
    found = read_caffe(file)
    with torch.no_grad():
        for tensor in found.tensors.values():
            tensor.zero_()
    assert file.read_bytes() == before


def delete(net, which):
    del net.layers[which]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (
            lambda net: net.layers.add(name="norm9", type=V1_TYPES["lrn"]),
            {"fc6", "relu6", "fc7", "relu7", "fc8", "norm9"},
        ),
        (lambda net: delete(net, slice(-4, None)), {"fc6", "relu6", "fc7"}),
    ],
)
def test_another_head_is_left_out(change, names, tmp_path):
    whole, file = schema().FromString(caffemodel(make_net())), tmp_path / "net.caffemodel"
    change(whole)
    file.write_bytes(whole.SerializeToString())
    found = read_weights(file)
    assert set(found.left_out) == names
    file.write_bytes(caffemodel(make_net()))
    given = read_weights(file).without_head()
    assert assemble(given).state_dict().keys() == assemble(found).state_dict().keys()
    assert all(torch.equal(given.tensors[name], tensor) for name, tensor in found.tensors.items())


def test_a_head_of_other_names_in_weights_alone_is_left_out(tmp_path):
    whole, file = (
        schema().FromString(caffemodel(make_net(), only_weights=True, settings=False)),
        tmp_path / "a.caffemodel",
    )
    for layer in whole.layers[-3:]:
        layer.name = f"my_{layer.name}"
    file.write_bytes(whole.SerializeToString())
    found = read_weights(file)
    assert found.left_out == ("my_fc6", "my_fc7", "my_fc8")
    assert assemble(found).features_only


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: setattr(net.layers[2], "type", V1_TYPES["lrn"]), "'pool1' is of type 'LRN'"),
        (lambda net: delete(net, slice(12, None)), "ends after 5 layers"),
        (lambda net: delete(net, 2), "'fc6' is a fully connected layer after a pooling, where a VGG net has"),
        (
            lambda net: delete(net, 1),
            "'pool1' is a pooling after a convolution, where a VGG net has a batch norm or a ReLU",
        ),
        (lambda net: setattr(net.layers[1].relu_param, "negative_slope", 0.1), "slope 0.1"),
        (lambda net: net.layers[0].convolution_param.stride.append(2), "'conv1_1' has stride 2"),
        (lambda net: setattr(net.layers[0].convolution_param, "stride_h", 2), "'conv1_1' has stride 2"),
        (lambda net: setattr(net.layers[0].convolution_param, "pad_w", 3), "padding -1 where the paper has"),
        (lambda net: net.layers[0].convolution_param.dilation.append(2), "'conv1_1' has dilation 2 where the paper"),
        (lambda net: setattr(net.layers[2].pooling_param, "kernel_h", 3), "'pool1' pools with a window of -1"),
        (lambda net: setattr(net.layers[2].pooling_param, "stride_w", 1), "window of 2, stride -1"),
        (lambda net: setattr(net.layers[2].pooling_param, "pad_h", 1), "stride 2 and padding 1"),
        (lambda net: net.layers[0].blobs[0].data.pop(), r"says the shape \(8, 3, 3, 3\) and has 215 numbers"),
        (lambda net: setattr(net.layers[2].pooling_param, "pool", 1), "'pool1' is no max-pooling"),
        (lambda net: setattr(net.layers[2].pooling_param, "kernel_size", 3), "window of 3"),
        (lambda net: net.layers[0].ClearField("blobs"), "'conv1_1' has no weights"),
    ],
)
def test_what_is_no_net_of_the_paper(change, message, tmp_path):
    whole = schema().FromString(caffemodel(make_net()))
    del whole.layers[0]  # the data layer
    change(whole)
    file = tmp_path / "net.caffemodel"
    file.write_bytes(whole.SerializeToString())
    with pytest.raises(UserError, match=message) as caught:
        assemble(read_weights(file))
    assert str(file) in str(caught.value)


def test_settings_told_for_each_axis_are_those_told_once(tmp_path):
    whole = schema().FromString(caffemodel(make_net()))
    for layer in whole.layers:
        if layer.type == V1_TYPES["conv"]:
            settings = layer.convolution_param
            del settings.pad[:]
            settings.pad_h = settings.pad_w = settings.stride_h = settings.stride_w = 1
        elif layer.type == V1_TYPES["pool"]:
            settings = layer.pooling_param
            settings.Clear()
            settings.kernel_h = settings.kernel_w = settings.stride_h = settings.stride_w = 2
    file = tmp_path / "net.caffemodel"
    file.write_bytes(whole.SerializeToString())
    assert assemble(read_caffe(file)).geometry.architecture.name == "A"


def test_other_files_are_not_caffes(tmp_path):
    for content in (b"", b"layers { name: 'conv1_1' }", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", bytes(1000), b"\n\x03VGG"):
        file = tmp_path / "other"
        file.write_bytes(content)
        assert not is_caffe(file)
        with pytest.raises(UserError):
            read_caffe(file)


def test_damaged_files_are_refused_or_read(tmp_path, record_property):
    net = make_net(channels=(2, 2, 3, 3, 3), hidden=4, num_classes=2)
    for v1 in (True, False):
        data = caffemodel(net, v1=v1)
        counts = damage_many(data, tmp_path / "net", read_caffe, times=40, most_bytes=10_000_000)
        record_property("refused_and_read", counts)
        assert counts[0] > 10


def test_hostile_lengths_take_no_memory(tmp_path):
    file = tmp_path / "net.caffemodel"
    empty_layers = b"\x12\x00" * 3_000_000
    long_shape = b"\x12\x20" + b"\x22\x01a\x28\x04" + b"\x32\x19" + b"\x08\xff\xff\xff\xff\x0f" * 4 + b"\x00"
    for content in (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f", empty_layers, long_shape):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"net\.caffemodel"):
            read_weights(file)


@pytest.mark.parametrize("divisor", [8, pytest.param(1, marks=pytest.mark.slow)], ids=["narrow", "full size"])
def test_the_whole_net_d(divisor, tmp_path, record_property):
    """The authors' 16 layer net, at full size with the sizes 1,1,4096,25088 that their file gives fc6."""
    channels = tuple(count // divisor for count in (64, 128, 256, 512, 512))
    net = make_net("D", crop=224, channels=channels, hidden=4096 // divisor, num_classes=1000)
    file = tmp_path / "net.caffemodel"
    file.write_bytes(_large(net))
    found = READERS["Caffe"].read(file)
    assert tuple(found.tensors["fc6.weight"].shape) == (4096 // divisor, 512 // divisor, 7, 7)
    pixels = images(224, 1)
    difference = relative_difference(found, pixels, net.scores(caffe_input(pixels).float()))
    record_property("relative_difference", f"{difference:.1e}")
    assert difference < 1e-5


def _large(net):
    """A message with its numbers put in as bytes: a hundred million Python floats would take a minute."""

    def varint(number):
        out = bytearray()
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        return bytes([*out, number])

    def part(number, content):
        return varint(number << 3 | 2) + varint(len(content)) + content

    layers = []
    for kind, name in net.layers():
        layer = part(4, name.encode()) + varint(5 << 3) + varint(V1_TYPES[kind])
        for numbers in net.weights.get(name, ()):
            sizes = (1,) * (4 - numbers.ndim) + numbers.shape
            shape = b"".join(varint(axis << 3) + varint(size) for axis, size in enumerate(sizes, start=1))
            layer += part(6, shape + part(5, numbers.astype("<f4").tobytes()))
        layers.append(part(2, layer))
    return b"".join(layers)
