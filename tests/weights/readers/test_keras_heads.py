"""Heads of somebody's own in the files of Keras."""

import pytest
import torch

from conftest import scene

pytest.importorskip("h5py", reason="h5py is an extra")
keras = pytest.importorskip("keras", reason="keras is an extra of the tests")

from peer_nets import KERAS_FORMS, as_pixels, keras_net, keras_scores, write_keras  # noqa: E402
from verydeep.weights.imported import assemble  # noqa: E402
from verydeep.weights.readers import read_weights  # noqa: E402
from verydeep.weights.verify import largest_difference  # noqa: E402

# Keras's own, with numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIDE = 64
PICTURES = [scene(seed, SIDE, SIDE) for seed in range(2)]


def keras_heads():
    layers = keras.layers
    return {
        "dense": [layers.Flatten(), layers.Dense(7, "relu"), layers.Dropout(0.5), layers.Dense(3, "softmax")],
        "batch norm": [layers.Flatten(), layers.Dense(7, "relu"), layers.BatchNormalization(), layers.Dense(3)],
        "pooled batch norm": [layers.GlobalAveragePooling2D(), layers.BatchNormalization(), layers.Dense(3)],
        "maximum": [layers.GlobalMaxPooling2D(), layers.Dense(3)],
        "linear": [layers.GlobalAveragePooling2D(), layers.Dropout(0.5), layers.Dense(3, name="mine")],
        "linear soft-max": [layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax", use_bias=False)],
    }


def keras_model(base, head, nested):
    if nested:
        return keras.Sequential([keras.layers.Input((SIDE, SIDE, 3)), base, *head])
    x = base.output
    for layer in head:
        x = layer(x)
    return keras.Model(base.input, x)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("form", KERAS_FORMS)
@pytest.mark.parametrize("head", ["dense", "batch norm", "pooled batch norm", "maximum", "linear", "linear soft-max"])
def test_heads_of_keras(head, form, nested, tmp_path):

    base, layers = keras_net("D", crop=SIDE, top=False), keras_heads()[head]
    theirs = keras_model(base, layers, nested)
    found = read_weights(write_keras(theirs, tmp_path / f"net{form}", form))
    if not head.startswith("linear"):
        names = {layer.name for layer in layers}
        with_weights = {layer.name for layer in layers if layer.weights}
        assert found.features_only
        assert with_weights <= set(found.left_out) <= names | {"global_max_pooling2d", "global_average_pooling2d"}
        with torch.inference_mode():
            map_ = assemble(found).features(as_pixels(PICTURES))
        assert largest_difference(map_, keras_scores(base, PICTURES)) < 1e-5
        return
    assert not found.left_out
    layers[-1].activation = keras.activations.linear
    net = assemble(found)
    with torch.inference_mode():
        assert largest_difference(net(as_pixels(PICTURES)), keras_scores(theirs, PICTURES)) < 1e-5
    assert net.geometry.head == "linear"
    assert net.geometry.crop == (SIDE if form in (".keras", ".h5") else 224)
    assert "a guess, the file does not say" in found.convention


def test_two_heads_of_keras_are_left_out(tmp_path):
    """Two layers after one mean would be taken for a chain, and none of them is the whole head."""
    base = keras_net("A", crop=SIDE, top=False)
    mean = keras.layers.GlobalAveragePooling2D()(base.output)
    heads = [keras.layers.Dense(3, name="kind")(mean), keras.layers.Softmax(name="other")(mean)]
    keras.Model(base.input, heads).save(tmp_path / "a.keras")
    assert set(read_weights(tmp_path / "a.keras").left_out) >= {"kind", "other"}
