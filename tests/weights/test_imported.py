"""Files known by their content, and nets that are none of Table 1."""

import os

import pytest
import torch

from conftest import scene
from peer_nets import as_pixels, torchvision_net
from verydeep.errors import UsageError, UserError
from verydeep.nets.net import IMAGENET_MEAN, VeryDeep
from verydeep.weights.imported import ImportedWeights, assemble
from verydeep.weights.readers import READERS, find_reader, read_weights
from verydeep.weights.readers.torch import from_state_dict


def foreign_of(net, **changes):
    """Weights as a reader would give them."""
    tensors = {name: tensor for name, tensor in net.state_dict().items() if name not in ("mean", "divisor")}
    known = {"kind": "test", "mean": IMAGENET_MEAN, "divisor": (1.0, 1.0, 1.0), "convention": "none"}
    return ImportedWeights(tensors=tensors | changes.pop("tensors", {}), **(known | changes))


@pytest.fixture
def net():
    return VeryDeep("D", num_classes=3, batch_norm=True, crop=64, width=0.125).eval()


def test_rows_have_their_own_names():
    assert {"safetensors", "Keras", "PyTorch"} <= READERS.keys()


def test_what_is_no_file_of_weights_is_told(tmp_path):
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pth").write_text("not weights\n")
    scene(0).save(tmp_path / "image.png")
    loop = tmp_path / "loop.pth"
    loop.symlink_to(loop)
    os.mkfifo(tmp_path / "pipe.pth")
    told = {
        "empty.pth": "is empty",
        "text.pth": "no file of weights that can be read. These are: ",
        "image.png": "no file of weights that can be read",
        "loop.pth": "cannot be read: Too many levels of symbolic links",
        "pipe.pth": "is no file",
        "missing.pth": "cannot be read: No such file",
        "": "is no file",
    }
    for name, words in told.items():
        with pytest.raises(UserError, match=words):
            find_reader(tmp_path / name)
        with pytest.raises(UserError, match=words):
            read_weights(str(tmp_path / name))


@pytest.mark.parametrize("architecture", ["A", "B", "C", "D", "E", "B-5x5"])
@pytest.mark.parametrize("width", [0.125, 0.3])
def test_a_net_is_found_again_from_its_tensors(architecture, width):
    net = VeryDeep(architecture, num_classes=4, crop=96, width=width)
    again = assemble(foreign_of(net))
    assert again.geometry.architecture == net.geometry.architecture
    assert (again.geometry.crop, again.geometry.num_classes) == (96, 4)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert not again.training
    assert again.input_is_set


def test_mean_and_divisor_are_the_file_s_and_the_weights_stay(net):
    images = as_pixels([scene(0, 64, 64)])
    again = assemble(foreign_of(net, mean=(1.0, 2.0, 3.0), divisor=(4.0, 5.0, 6.0)))
    net.set_input((1, 2, 3), (4, 5, 6))
    with torch.inference_mode():
        assert torch.equal(again(images), net(images))


def test_another_convention_can_be_given(net):
    foreign = foreign_of(net).with_input(mean=(1.0, 2.0, 3.0), divisor=(2.0, 2.0, 2.0), bgr=True)
    assert (foreign.mean, foreign.divisor) == ((1.0, 2.0, 3.0), (2.0, 2.0, 2.0))
    given = net.state_dict()["conv1_1.weight"]
    assert torch.equal(foreign.tensors["conv1_1.weight"], given[:, [2, 1, 0]])
    assert "--mean" in foreign.convention


@pytest.mark.parametrize(
    "convention",
    [{"divisor": (1.0, 0.0, 1.0)}, {"divisor": (1.0, -1.0, 1.0)}, {"mean": (0.0, float("nan"), 0.0)}],
)
def test_a_mean_or_divisor_that_is_none_is_told(net, convention):
    with pytest.raises(UserError, match="with --mean and --divisor"):
        assemble(foreign_of(net, **convention))


def test_names_of_classes_are_as_many_as_the_scores(net):
    assert assemble(foreign_of(net), classes=["a", "b", "a"]).classes == ("a", "b", "a")
    assert assemble(foreign_of(net, classes=("x", "y", "z"))).classes == ("x", "y", "z")
    with pytest.raises(UserError, match="2 names of classes for the 3 scores of fc8"):
        assemble(foreign_of(net), classes=["a", "b"])


@pytest.mark.parametrize(
    ("name", "tensor", "says"),
    [
        ("conv3_2.weight", torch.zeros(32, 32, 5, 5), "3x3 5x5 3x3 .* no column of Table 1"),
        ("conv3_2.weight", torch.zeros(32, 32), r"conv3_2.weight has the shape \(32, 32\)"),
        ("conv4_2.bias", torch.zeros(63), r"conv4_2.bias has the shape \(63,\), and not \(64,\)"),
        ("conv3_1.weight", torch.zeros(40, 16, 3, 3), r"conv3_1.weight has the shape \(40, 16, 3, 3\), and not \(32,"),
        ("conv6_1.weight", torch.zeros(64, 64, 3, 3), "no column of Table 1"),
        ("bn2_1.running_var", torch.zeros(3), r"bn2_1.running_var has the shape \(3,\)"),
        ("fc6.weight", torch.zeros(512, 64, 2, 3), "square"),
        ("fc9.bias", torch.zeros(3), r"fc9.bias, of shape \(3,\), is none of D"),
        ("bn2_1.running_var", torch.full((16,), -1.0), "a variance of -1"),
        ("fc7.bias", torch.tensor([float("nan")] * 2 + [1.0] * 510), "2 of 512 weights that are NaN or infinite"),
        ("fc7.bias", torch.tensor([float("inf")] + [1.0] * 511), "1 of 512 weights that are NaN or infinite"),
        ("fc7.bias", torch.zeros(512, dtype=torch.int64), "floating point"),
    ],
)
def test_what_does_not_fit_is_named_with_its_shape(net, name, tensor, says):
    with pytest.raises(UserError, match=says):
        assemble(foreign_of(net, tensors={name: tensor}))


@pytest.mark.parametrize("name", ["fc7.bias", "bn1_1.running_mean", "fc8.weight", "fc6.weight", "conv2_2.bias"])
def test_what_is_missing_is_named(net, name):
    foreign = foreign_of(net)
    del foreign.tensors[name]
    with pytest.raises(UserError, match=f"{name}.* is missing"):
        assemble(foreign)


def test_counters_of_batch_norm_may_be_missing(net):
    foreign = foreign_of(net)
    for name in [name for name in foreign.tensors if name.endswith("num_batches_tracked")]:
        del foreign.tensors[name]
    assert assemble(foreign).get_buffer("bn1_1.num_batches_tracked") == 0


def test_no_convolution_is_no_net():
    with pytest.raises(UserError, match="no name is that of a convolution of a VGG"):
        assemble(
            from_state_dict(
                {
                    "classifier.0.weight": torch.zeros(1),
                    "classifier.1.weight": torch.zeros(1),
                    "classifier.2.weight": torch.zeros(1),
                }
            )
        )


def test_a_crop_is_taken_only_where_the_other_program_pools(net):
    with pytest.raises(UsageError, match="crop 32: fc6 of these weights of test is of crop 64"):
        assemble(foreign_of(net), crop=32)
    with pytest.raises(UsageError, match="crop 33 is not a multiple of 32"):
        assemble(from_state_dict(torchvision_net("A").state_dict()), crop=33)
    assert assemble(foreign_of(net), crop=64).geometry.crop == 64
