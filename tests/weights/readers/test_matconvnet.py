"""MatConvNet's files: made by scipy in the published layouts, compared with an independent forward pass."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from foreign_nets import damage_many, images, make_net, relative_difference
from verydeep.errors import UserError
from verydeep.weights.imported import assemble
from verydeep.weights.readers import find_reader
from verydeep.weights.readers.mat5 import read_mat5
from verydeep.weights.readers.matconvnet import is_matconvnet, read_matconvnet

RGB_MEAN = np.array([123.68, 116.779, 103.939])
TYPES = {"conv": "conv", "fc": "conv", "relu": "relu", "pool": "pool", "drop": "dropout", "softmax": "softmax"}


def cell(values):
    """A cell of one row."""
    found = np.empty((1, len(values)), dtype=object)
    found[0, :] = values
    return found


def structs(rows):
    """A struct array: fields of every row."""
    found = np.empty((1, len(rows)), dtype=[(key, object) for key in rows[0]])
    for index, row in enumerate(rows):
        found[0, index] = tuple(row.values())
    return found


def filters(net, name, channels):
    """Weights as MatConvNet has them: y,x,i,o; those of fc6 over the map's places."""
    weight, bias = net.weights[name]
    if weight.ndim == 2:
        side = int((weight.shape[1] / channels) ** 0.5)
        weight = weight.reshape(weight.shape[0], channels, side, side)
    return weight.transpose(2, 3, 1, 0), bias.reshape(1, -1)


def matconvnet_layers(net, *, old):
    rows, channels = [], 3
    for kind, name in net.layers():
        row = {"name": name, "type": "bnorm" if kind == "bn" else TYPES[kind]}
        if kind in ("conv", "fc"):
            weight, bias = filters(net, name, channels)
            channels = weight.shape[3]
            pad = 1.0 if kind == "conv" else 0.0
            row |= {"filters": weight, "biases": bias} if old else {"weights": cell([weight, bias])}
            row |= {"stride": np.array([1.0, 1.0]), "pad": np.full(4, pad)}
        if kind == "bn":
            mean, variance, scale, shift = net.moments[name]
            moments = np.stack([mean, np.sqrt(variance + np.float32(net.epsilon))], axis=1)
            row |= {"weights": cell([scale[:, None], shift[:, None], moments]), "epsilon": net.epsilon}
        if kind == "pool":
            pad = [0.0, 1.0, 0.0, 1.0] if old else [0.0] * 4
            row |= {"method": "max", "pool": [2.0, 2.0], "stride": 2.0, "pad": pad}
        rows.append(row)
    return cell(rows)


def matconvnet(net, *, layout="new", image=RGB_MEAN, classes=None, compress=False, more=()):
    """A .mat with the layers of a net, its first convolution over RGB."""
    normalization = {"imageSize": [32.0, 32.0, 3.0], "averageImage": np.asarray(image, np.float32)} | dict(more)
    names = {"name": cell([f"n{i:08}" for i in range(len(classes))]), "description": cell(classes)} if classes else {}
    meta = {"normalization": normalization, "classes": names or {"name": cell([])}}
    variables = {"layers": matconvnet_layers(net, old=layout == "old")}
    if layout == "dag":
        variables = dag(net)
    variables |= meta if layout == "old" else {"meta": meta}
    buffer = io.BytesIO()
    savemat(buffer, {"net": variables} if layout == "net" else variables, do_compression=compress)
    return buffer.getvalue()


def dag(net):
    """The same chain as the struct that a DagNN is saved as."""
    rows, parameters = [], []
    for row in matconvnet_layers(net, old=False)[0]:
        numbers = row.get("weights", cell([]))[0]
        names = [f"{row['name']}_{index}" for index in range(len(numbers))]
        parameters += [{"name": name, "value": value} for name, value in zip(names, numbers, strict=True)]
        kind = {"conv": "Conv", "bnorm": "BatchNorm", "relu": "ReLU", "pool": "Pooling", "dropout": "DropOut"}
        block = {"opts": cell([]), "stride": row.get("stride", 1.0), "pad": row.get("pad", 0.0)}
        block |= {"dilate": row.get("dilate", 1.0)}
        block |= {"method": "max", "poolSize": [2.0, 2.0]} if row["type"] == "pool" else {}
        type_ = f"dagnn.{kind.get(row['type'], 'SoftMax')}"
        rows.append({"name": row["name"], "type": type_, "params": cell(names), "block": block})
    return {"layers": structs(rows), "params": structs(parameters)}


def source_input(pixels, image=RGB_MEAN):
    """What MatConvNet puts into the net: RGB minus the mean or the mean image (y,x,c)."""
    mean = torch.tensor(np.asarray(image).reshape(-1, 1, 3) if np.ndim(image) == 1 else image.copy()).double()
    mean = mean.permute(2, 0, 1)
    return pixels.double() - mean


@pytest.mark.parametrize("crop", [32, 64])
@pytest.mark.parametrize("layout", ["old", "new", "net", "dag"])
@pytest.mark.parametrize("architecture", ["D", "E"])
def test_scores_are_those_of_matconvnet(architecture, layout, crop, tmp_path, record_property):
    net = make_net(architecture, crop=crop)
    names = ["tench, Tinca tinca", "goldfish", "3", "4", "5"]
    file = tmp_path / "net.bin"
    file.write_bytes(matconvnet(net, layout=layout, classes=names, compress=crop == 64))
    assert is_matconvnet(file)
    assert find_reader(file).name == "MatConvNet"
    found = read_matconvnet(file)
    assert found.classes == tuple(names)
    assert found.mean == pytest.approx(RGB_MEAN.tolist())
    pixels = images(crop)
    difference = relative_difference(found, pixels, net.scores(source_input(pixels)))
    record_property("relative_difference", f"{difference:.1e}")
    assert difference < 1e-5
    assert assemble(found).geometry.architecture.name == architecture


@pytest.mark.parametrize("epsilon", [1e-4, 1e-5, 1e-7])
def test_batch_norm(epsilon, tmp_path, record_property):
    net = make_net("D", batch_norm=True, epsilon=epsilon)
    for mean, variance, _, _ in net.moments.values():
        variance[0], variance[1] = 0, 1e-6  # dead channels
        mean[:2] *= 1e-3
    file = tmp_path / "net.mat"
    file.write_bytes(matconvnet(net))
    pixels = images(32)
    difference = relative_difference(read_matconvnet(file), pixels, net.scores(source_input(pixels)))
    record_property("relative_difference", f"{difference:.1e}")
    assert difference < 2e-5


def test_mean_image_becomes_its_mean_pixel_and_says_so(tmp_path):
    net = make_net()
    constant = np.broadcast_to(RGB_MEAN, (32, 32, 3))
    varying = constant + np.linspace(-8, 8, 32)[:, None, None]
    file = tmp_path / "net.mat"
    for image, words in ((constant, "RGB in 0..255 minus the file's mean image"), (varying, "varies by up to 16 grey")):
        file.write_bytes(matconvnet(net, image=image))
        found = read_matconvnet(file)
        assert words in found.convention
        assert found.mean == pytest.approx(RGB_MEAN.tolist(), abs=1e-4)
    file.write_bytes(matconvnet(net, image=constant))
    pixels = images(32)
    assert relative_difference(read_matconvnet(file), pixels, net.scores(source_input(pixels, constant))) < 1e-5
    file.write_bytes(matconvnet(net, image=np.zeros((0, 0))))
    assert "not in the file" in read_matconvnet(file).convention


def test_nets_that_were_pytorchs(tmp_path):
    """They divide by a deviation, and their numbers are for 0..1."""
    net = make_net()
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    file = tmp_path / "net.mat"
    file.write_bytes(matconvnet(net, image=mean, more={"imageStd": deviation}.items()))
    pixels = images(32)
    x = (pixels.double() / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]
    found = read_matconvnet(file)
    assert "0..1 minus" in found.convention
    assert relative_difference(found, pixels, net.scores(x)) < 1e-5


@pytest.mark.parametrize("compress", [False, True])
def test_our_reader_of_the_format_agrees_with_scipys(compress, tmp_path):
    generator = np.random.default_rng(0)
    dtypes = ["f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]
    arrays = {f"a_{dtype}": generator.integers(0, 100, (2, 3, 4)).astype(dtype) for dtype in dtypes}
    file = tmp_path / "a.mat"
    texts = {"text": "hällo", "short": "ab", "cell": cell([np.eye(2), "x", cell(["y"])])}
    savemat(file, arrays | texts | {"record": {"a": 1.0, "b": {"c": "d"}}, "rows": structs([{"v": 1.0}, {"v": "w"}])},
            do_compression=compress)  # fmt: skip
    ours, theirs = read_mat5(file), loadmat(file)
    for name, array in arrays.items():
        np.testing.assert_array_equal(ours[name], theirs[name])
        np.testing.assert_array_equal(ours[name], array)
    assert (ours["text"], ours["short"]) == (theirs["text"][0], theirs["short"][0]) == ("hällo", "ab")
    np.testing.assert_array_equal(ours["cell"][0], theirs["cell"][0, 0])
    assert ours["cell"][1:] == ["x", ["y"]]
    assert ours["record"]["b"] == {"c": "d"}
    assert ours["rows"][1] == {"v": "w"}


def element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x100) + b"IM"


def test_declared_sizes_take_no_memory(tmp_path):
    """The first of these makes scipy take 16 GB."""
    huge = struct.pack("<ii", 2**31 - 1, 1)
    file = tmp_path / "net.mat"
    for array_class, rest in (
        (1, b""),
        (2, element(5, struct.pack("<i", 8)) + element(1, b"name".ljust(8, b"\0"))),
        (7, element(7, b"")),
    ):
        body = element(6, struct.pack("<II", array_class, 0)) + element(5, huge) + element(1, b"layers") + rest
        file.write_bytes(HEADER + element(14, body))
        with pytest.raises(UserError, match=r"is no file of MATLAB, or is damaged"):
            read_matconvnet(file)


def test_what_unpacks_to_far_more_is_refused(tmp_path):
    packer = zlib.compressobj()
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(200)) + packer.flush()
    file = tmp_path / "net.mat"
    file.write_bytes(HEADER + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(UserError, match="far more than a net"):
        read_matconvnet(file)


def test_objects_and_functions_are_passed_over(tmp_path):
    """A function handle, an object and an opaque value stand before a whole net."""
    net = matconvnet(make_net())
    extra = b""
    for array_class in (16, 3, 17):
        flags = element(6, struct.pack("<II", array_class, 0))
        extra += element(14, flags + element(5, struct.pack("<ii", 1, 1)) + element(1, b"f") + element(14, b"system"))
    file = tmp_path / "net.mat"
    file.write_bytes(net[:128] + extra + net[128:])
    assert len(read_matconvnet(file).tensors) == 22


def test_refused_with_the_remedy(tmp_path):
    file = tmp_path / "net.mat"
    file.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UserError, match="save -v7"):
        read_matconvnet(file)
    savemat(file, {"weights": np.eye(2)})
    with pytest.raises(UserError, match="no variable 'layers'"):
        read_matconvnet(file)
    rows = [{"name": "conv1_1", "type": "conv", "weights": cell([np.zeros((3, 3, 3, 8), np.float32), np.zeros(8)])}]
    savemat(file, {"layers": cell(rows)})
    with pytest.raises(UserError, match="'conv1_1' has stride 1 and padding 0"):
        read_matconvnet(file)
    savemat(file, {"layers": cell([rows[0] | {"pad": 1.0, "dilate": 2.0}])})
    with pytest.raises(UserError, match="'conv1_1' has dilation 2"):
        read_matconvnet(file)
    savemat(file, {"layers": cell([{"name": "norm1", "type": "lrn"}])})
    with pytest.raises(UserError, match="'norm1' is of type 'lrn'"):
        read_matconvnet(file)
    file.write_bytes(b"MATLAB")
    with pytest.raises(UserError, match="no file of MATLAB's format 5"):
        read_matconvnet(file)
    assert not is_matconvnet(file)


@pytest.mark.parametrize("compress", [False, True])
def test_damaged_files_are_refused_or_read(compress, tmp_path, record_property):
    net = make_net(channels=(2, 2, 3, 3, 3), hidden=4, num_classes=2)
    data = matconvnet(net, classes=["a", "b"], compress=compress)
    counts = damage_many(data, tmp_path / "net", read_matconvnet, times=40, most_bytes=150_000_000)
    record_property("refused_and_read", counts)
    assert counts[0] > 10


@pytest.mark.parametrize("layout", ["new", "dag"])
def test_a_dilated_convolution_is_refused(layout, tmp_path, monkeypatch):
    made = matconvnet_layers

    def dilated(net, *, old):
        rows = made(net, old=old)
        rows[0, 0]["dilate"] = 2.0
        return rows

    monkeypatch.setitem(globals(), "matconvnet_layers", dilated)
    file = tmp_path / "net.mat"
    file.write_bytes(matconvnet(make_net(), layout=layout))
    with pytest.raises(UserError, match="'conv1_1' has dilation 2 where the paper has 1"):
        read_matconvnet(file)


def test_another_head_is_left_out(tmp_path):
    file, rows = tmp_path / "net.mat", matconvnet_layers(make_net(), old=False)[0]
    savemat(file, {"layers": cell([*rows[:-1], {"name": "mine", "type": "lrn"}, rows[-1]])})
    found = read_matconvnet(file)
    assert found.left_out == ("fc6", "relu6", "fc7", "relu7", "fc8", "mine")
    assert assemble(found).features_only
