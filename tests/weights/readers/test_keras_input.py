"""What a model of Keras does to the pixels itself: preprocess_input and augmentation; what is refused by name."""

import numpy as np
import pytest
import torch

from conftest import scene
from peer_nets import as_pixels, keras_net, write_keras
from verydeep.errors import UserError
from verydeep.weights.imported import assemble
from verydeep.weights.readers import read_weights
from verydeep.weights.verify import largest_difference

keras = pytest.importorskip("keras", reason="keras is an extra of the tests")
pytest.importorskip("h5py", reason="h5py is an extra")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning", "ignore:.*HDF5 file")

PICTURES = [scene(0, 32, 32)]
MEANS = {"caffe": (123.68, 116.779, 103.939), "torch": (123.675, 116.28, 103.53), "tf": (127.5, 127.5, 127.5)}


def net_of(mode, *, augmented=False):
    layers = keras.layers
    x = image = layers.Input((32, 32, 3))
    if augmented:
        x = layers.RandomRotation(0.1)(layers.RandomFlip("horizontal")(x))
    x = keras.applications.imagenet_utils.preprocess_input(x, mode=mode)
    x = layers.GlobalAveragePooling2D()(keras_net("D", crop=32, top=False)(x))
    return keras.Model(image, layers.Dense(3, name="mine")(layers.Dropout(0.5)(x)))


def scores(net):
    pixels = np.stack([np.asarray(picture, np.float32) for picture in PICTURES])
    with torch.no_grad():
        return torch.from_numpy(np.array(keras.ops.convert_to_numpy(net(pixels, training=False))))


@pytest.mark.parametrize(
    ("mode", "form"), [("caffe", ".keras"), ("caffe", ".h5"), ("torch", ".keras"), ("tf", ".keras")]
)
def test_preprocess_input_and_augmentation_inside_a_model_are_read(mode, form, tmp_path):
    theirs = net_of(mode, augmented=mode == "caffe")
    found = read_weights(write_keras(theirs, tmp_path / f"a{form}", form))
    assert found.mean == pytest.approx(MEANS[mode])
    assert not found.is_guessed
    net = assemble(found)
    assert (net.geometry.head, found.left_out) == ("linear", ())
    with torch.inference_mode():
        assert largest_difference(net(as_pixels(PICTURES)), scores(theirs)) < 1e-5


def test_channels_that_are_mixed_otherwise_are_refused(tmp_path):
    layers = keras.layers
    image = layers.Input((32, 32, 3))
    turned = keras.ops.stack([image[..., 1], image[..., 0], image[..., 2]], axis=-1)
    write_keras(keras.Model(image, keras_net("D", crop=32, top=False)(turned)), tmp_path / "a.keras", ".keras")
    with pytest.raises(UserError, match="what it does to the channels of the pixels is not turning RGB to BGR"):
        read_weights(tmp_path / "a.keras")


@pytest.mark.parametrize("form", [".keras", ".weights.h5"])
def test_batch_norms_between_convolutions_say_what_reads_them(form, tmp_path):
    layers = keras.layers
    parts = [layers.Input((32, 32, 3))]
    for channels in (8, 8, 16, 16, 32, 32, 32, 64):
        parts += [layers.Conv2D(channels, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()]
    write_keras(keras.Sequential(parts), tmp_path / f"a{form}", form)
    with pytest.raises(UserError, match=r"batch norms of Keras between convolutions are not read.*format='onnx'"):
        read_weights(tmp_path / f"a{form}")


def test_theanos_order_is_named(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"block1_conv1"]
        group = file.create_group("block1_conv1")
        group.attrs["weight_names"] = [b"W", b"b"]
        group["W"], group["b"] = np.zeros((64, 3, 3, 3), np.float32), np.zeros(64, np.float32)
    with pytest.raises(UserError, match=r"block1_conv1 has the shape \(64, 3, 3, 3\), .*Theano's order"):
        read_weights(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.attrs["nb_layers"] = 37
        file.create_group("layer_0")
    with pytest.raises(UserError, match=r"Keras before 1\.0 on Theano"):
        read_weights(tmp_path / "b.h5")


@pytest.mark.parametrize("form", [".keras", "legacy.h5"])
def test_a_head_of_another_name_keeps_its_scores(form, tmp_path):
    base = keras_net("D", crop=32)
    renamed = keras.Model(base.input, keras.layers.Dense(4, name="my_classes")(base.layers[-2].output))
    found = read_weights(write_keras(renamed, tmp_path / f"a{form}", form))
    net = assemble(found)
    assert (net.geometry.head, net.geometry.num_classes) == ("paper", 4)
