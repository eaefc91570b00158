"""Weights of Keras in all its formats, and everything that can be wrong with one."""

import io
import json
import shutil
import zipfile

import numpy as np
import pytest
import torch

from conftest import scene

h5py = pytest.importorskip("h5py", reason="h5py is an extra")
keras = pytest.importorskip("keras", reason="keras is an extra of the tests")

from peer_nets import KERAS_FORMS as FORMS  # noqa: E402
from peer_nets import as_pixels, crops, keras_net, keras_scores  # noqa: E402
from peer_nets import write_keras as write  # noqa: E402
from verydeep.errors import UserError  # noqa: E402
from verydeep.weights.imported import assemble  # noqa: E402
from verydeep.weights.readers import find_reader, read_weights  # noqa: E402
from verydeep.weights.readers.keras_config import read_config  # noqa: E402
from verydeep.weights.verify import largest_difference  # noqa: E402

# Keras's own, with numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PICTURES = [scene(seed, 64, 64) for seed in range(3)]


@pytest.fixture(scope="module")
def theirs():
    return keras_net("D")


@pytest.fixture(scope="module")
def files(theirs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    return {form: write(theirs, folder / f"net{form}", form) for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_scores_are_those_of_keras(theirs, files, form, tmp_path):
    renamed = shutil.copy(files[form], tmp_path / "weights.pth")  # the name says nothing
    assert find_reader(renamed).name == "Keras"
    foreign = read_weights(renamed)
    assert (foreign.kind, foreign.features_only) == ("Keras", False)
    ours = assemble(foreign)
    assert (ours.geometry.architecture.name, ours.geometry.width, ours.geometry.crop) == ("D", 0.125, 64)
    with torch.inference_mode():
        scores = ours(as_pixels(PICTURES))
    assert largest_difference(scores, keras_scores(theirs, PICTURES)) < 1e-5


def test_scores_of_photographs_are_those_of_keras(theirs, files, shared_photos):
    photographs = crops(shared_photos, 64)
    with torch.inference_mode():
        scores = assemble(read_weights(files[".keras"]))(as_pixels(photographs))
    assert largest_difference(scores, keras_scores(theirs, photographs)) < 1e-5


@pytest.mark.parametrize("pattern", ["{layer}_{short}_1:0", "{layer}/{long}:0"])
def test_names_of_keras_1_and_2(theirs, files, pattern, tmp_path):
    """keras.applications' own files are of Keras 1."""
    with h5py.File(files["legacy.h5"]) as source, h5py.File(tmp_path / "a.h5", "w") as copy:
        copy.attrs["layer_names"] = source.attrs["layer_names"]
        for layer in source.attrs["layer_names"].astype(str):
            group = copy.create_group(layer)
            names = [pattern.format(layer=layer, short=part[0].upper(), long=part) for part in ("kernel", "bias")]
            given = source[layer].attrs["weight_names"].astype(str)
            group.attrs["weight_names"] = [name.encode() for name in names[: len(given)]]
            for name, stored in zip(names, given, strict=False):
                group[name] = source[layer][stored][()]
    ours = assemble(read_weights(tmp_path / "a.h5"))
    with torch.inference_mode():
        assert largest_difference(ours(as_pixels(PICTURES)), keras_scores(theirs, PICTURES)) < 1e-5


def test_kernels_of_theano_are_refused(files, tmp_path):
    shutil.copy(files["legacy.h5"], tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as opened:
        opened.attrs["backend"] = b"theano"
    with pytest.raises(UserError, match="whose kernels are flipped"):
        read_weights(tmp_path / "a.h5")


def test_the_state_of_a_training_is_passed_over(tmp_path):
    net = keras_net("A")
    net.compile("adam", "mse")
    net.optimizer.build(net.trainable_variables)
    net.save(tmp_path / "a.keras")
    assert assemble(read_weights(tmp_path / "a.keras")).geometry.architecture.name == "A"


@pytest.mark.parametrize("form", FORMS)
def test_convolutions_alone(form, tmp_path):
    theirs = keras_net("E", top=False)
    foreign = read_weights(write(theirs, tmp_path / f"net{form}", form))
    ours = assemble(foreign)
    assert foreign.features_only
    with torch.inference_mode():
        map_ = ours.features(as_pixels(PICTURES))
    assert largest_difference(map_, keras_scores(theirs, PICTURES)) < 1e-5


@pytest.mark.parametrize("architecture", ["A", "B", "C", "E"])
def test_other_columns_are_known_by_their_order(architecture, tmp_path):
    theirs = keras_net(architecture)
    ours = assemble(read_weights(write(theirs, tmp_path / "net.weights.h5", ".weights.h5")))
    assert ours.geometry.architecture.name == architecture
    with torch.inference_mode():
        assert largest_difference(ours(as_pixels(PICTURES)), keras_scores(theirs, PICTURES)) < 1e-5


def sequential(*layers, shape=(64, 64, 3)):
    return keras.Sequential([keras.layers.Input(shape), *layers])


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ([keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")], r"has strides \[2, 2\]"),
        ([keras.layers.Conv2D(8, 3, padding="valid", activation="relu")], "has padding valid"),
        ([keras.layers.Conv2D(8, 3, padding="same", activation="tanh")], "has activation tanh"),
        (
            [keras.layers.Conv2D(8, 3, padding="same", activation="relu"), keras.layers.MaxPooling2D(3)],
            r"has pool_size \[3, 3\]",
        ),
        (
            [keras.layers.Conv2D(8, 3, padding="same", activation="relu"), keras.layers.MaxPooling2D(2)],
            "it ends where no VGG does",
        ),
    ],
)
@pytest.mark.parametrize("form", [".keras", ".h5"])
def test_a_model_that_does_something_else_is_told(layers, says, form, tmp_path):
    # a layer belongs to one model only
    fresh = [type(layer).from_config(layer.get_config()) for layer in layers]
    with pytest.raises(UserError, match=says):
        read_weights(write(sequential(*fresh), tmp_path / f"net{form}", form))


def test_batch_norms_are_told_with_what_reads_them(tmp_path):
    layers = keras.layers
    net = sequential(layers.Conv2D(8, 3, padding="same"), layers.BatchNormalization(), layers.Conv2D(8, 3))
    net.pop()
    with pytest.raises(UserError, match=r"batch_normalization: batch norms of Keras between convolutions are not read"):
        read_weights(write(net, tmp_path / "net.weights.h5", ".weights.h5"))
    net.add(layers.Conv2D(8, 3))
    with pytest.raises(UserError, match=r"\(8,\): batch norms of Keras|not a kernel and a bias: batch norms of Keras"):
        read_weights(write(net, tmp_path / "net.h5", "legacy.h5"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.999])
def test_a_file_cut_short_is_told(files, form, fraction, tmp_path):
    whole = files[form].read_bytes()
    file = tmp_path / "cut"
    file.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(UserError) as told:
        read_weights(file)
    assert str(told.value).count(str(file)) == 1
    assert "\n" not in str(told.value)


def zip_of(file, **members):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"config.json": b"{}", **members}.items():
            archive.writestr(name, content)
    return file


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
def test_a_zip_bomb_is_refused(files, member, tmp_path):
    with zipfile.ZipFile(files[".keras"]) as archive:
        config = archive.read("config.json")
    bomb = zip_of(tmp_path / "bomb.keras", **{"config.json": config, member: bytes(200 * 2**20)})
    with pytest.raises(UserError, match=r"zip bomb|larger than") as told:
        read_weights(bomb)
    assert "\n" not in str(told.value)


def test_a_member_that_claims_less_than_it_gives_is_refused(files, tmp_path):
    """The size in the directory says 1,000 bytes, and the data go on."""
    content = files[".keras"].read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        info = archive.getinfo("model.weights.h5")
    claimed = content.replace(info.file_size.to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    (tmp_path / "net.keras").write_bytes(claimed)
    with pytest.raises(UserError, match="damaged"):
        read_weights(tmp_path / "net.keras")


@pytest.mark.parametrize("config", [b"no json", b"[" * 100_000, b"[]", b'{"config": {"layers": 3}}'])
def test_a_configuration_that_is_none_is_told(config, tmp_path):
    with pytest.raises(UserError, match=r"no JSON|it ends where no VGG does|is a None, which no VGG"):
        read_weights(zip_of(tmp_path / "a.keras", **{"config.json": config}))


def test_weights_of_another_form_are_told(files, tmp_path):
    with zipfile.ZipFile(files[".keras"]) as archive:
        config = archive.read("config.json")
    with pytest.raises(UserError, match=r"has no model\.weights.h5"):
        read_weights(zip_of(tmp_path / "a.keras", **{"config.json": config}))


def test_an_hdf5_file_of_something_else_is_told(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as opened:
        opened["values"] = np.zeros(3)
    with pytest.raises(UserError, match="no weights of Keras are in it"):
        read_weights(tmp_path / "a.h5")


def change(file, to, edit):
    """Copies a file of Keras 3 and changes the kernel of its first layer."""
    shutil.copy(file, to)
    with h5py.File(to, "r+") as opened:
        edit(opened, opened["layers/conv2d/vars"])
    return to


def claim_much(_, layer):
    del layer["0"]
    layer.create_dataset("0", (2**40, 2**20), "f4", chunks=(1024, 1024))


def hold_objects(_, layer):
    del layer["0"]
    layer["0"] = np.array([b"text"] * 4)


def lead_elsewhere(_, layer):
    del layer["0"]
    layer["0"] = h5py.ExternalLink("/etc/hostname", "/0")


def lie_elsewhere(_, layer):
    del layer["0"]
    layer.create_dataset("0", (8,), "f4", external=[("/etc/hostname", 0, 32)])


def lead_in_a_circle(opened, layer):
    del layer["0"]
    layer["0"] = h5py.SoftLink("/layers/conv2d/vars/0")
    opened["layers/conv2d/again"] = opened["layers"]


def be_nan(_, layer):
    layer["1"][...] = np.nan


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (claim_much, "claims .* bytes where 0 are stored"),
        (hold_objects, "no kernel and a bias|not a kernel and a bias"),
        (lead_elsewhere, "not a kernel and a bias"),
        (lie_elsewhere, "lies in another file"),
        (lead_in_a_circle, "not a kernel and a bias"),
    ],
)
def test_arrays_that_are_not_there_are_told(files, edit, says, tmp_path):
    with pytest.raises(UserError, match=says):
        read_weights(change(files[".weights.h5"], tmp_path / "a.h5", edit))


def test_weights_that_are_no_numbers_are_refused(files, tmp_path):
    with pytest.raises(UserError, match=r"conv1_1\.bias has 8 of 8 weights that are NaN"):
        assemble(read_weights(change(files[".weights.h5"], tmp_path / "a.h5", be_nan)))


def test_without_h5py_one_line_says_what_to_install(files, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    for form in (".keras", ".h5"):
        with pytest.raises(UserError, match=r"pip install 'verydeep\[weights\]'"):
            read_weights(files[form])
    assert files[".h5"].read_bytes()[:8] == b"\x89HDF\r\n\x1a\n"


def test_a_lambda_of_a_configuration_is_left_out_and_not_run(files, tmp_path):
    """A .keras may hold marshalled code; the configuration is only looked at."""
    with zipfile.ZipFile(files[".keras"]) as archive:
        config, weights = json.loads(archive.read("config.json")), archive.read("model.weights.h5")
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAA", "defaults": None, "closure": None}}
    evil = {"class_name": "Lambda", "config": {"name": "evil", "function": code}}
    config["config"]["layers"].append(evil)
    file = zip_of(tmp_path / "a.keras", **{"config.json": json.dumps(config), "model.weights.h5": weights})
    found = read_weights(file)
    assert found.left_out == ("flatten", "fc1", "fc2", "predictions", "evil")
    config["config"]["layers"].insert(3, evil)
    zip_of(file, **{"config.json": json.dumps(config), "model.weights.h5": weights})
    with pytest.raises(UserError, match="layer evil is a Lambda, which no VGG has"):
        read_weights(file)


def changed_net(before=(), *, pooling=None, flatten=None, hidden="relu", last=None, activation="relu"):
    """A narrow A of Keras with something else in one place."""
    layers, crop = keras.layers, 32
    net = [layers.Input((crop, crop, 3)), *before]
    for channels, count in zip((8, 16, 32, 64, 64), (1, 1, 2, 2, 2), strict=True):
        for _ in range(count):
            net.append(layers.Conv2D(channels, 3, padding="same", activation=activation))
            net += [layers.ReLU()] if activation is None else []
        net.append(layers.MaxPooling2D(2, **(pooling or {})))
    net += [flatten or layers.Flatten(), layers.Dense(512, hidden), layers.Dropout(0.5), layers.Dense(512, hidden)]
    return keras.Sequential([*net, layers.Dense(5, last)])


@pytest.mark.parametrize(
    ("scale", "offset"), [(1 / 255, 0.0), (1 / 127.5, -1.0), ([1 / 58, 1 / 57, 1 / 56], [-2.1, -2.0, -1.8])]
)
@pytest.mark.parametrize("form", [".keras", ".h5"])
def test_a_rescaling_becomes_mean_and_divisor(scale, offset, form, tmp_path):
    theirs = changed_net([keras.layers.Rescaling(scale, offset)])
    foreign = read_weights(write(theirs, tmp_path / f"net{form}", form))
    assert "the file's own Rescaling" in foreign.convention
    assert "-0.0" not in str(foreign.mean)
    pictures = [scene(seed, 32, 32) for seed in range(2)]
    pixels = np.stack([np.asarray(picture, np.float32) for picture in pictures])
    with torch.no_grad():
        expected = torch.from_numpy(np.array(keras.ops.convert_to_numpy(theirs(pixels, training=False))))
    with torch.inference_mode():
        assert largest_difference(assemble(foreign)(as_pixels(pictures)), expected) < 1e-5


def test_activations_may_be_layers_of_their_own(tmp_path):
    theirs = changed_net(activation=None, last="softmax", pooling={"padding": "same"})
    assert assemble(read_weights(write(theirs, tmp_path / "net.keras", ".keras"))).geometry.crop == 32


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"before": [keras.layers.Normalization(mean=[1.0] * 3, variance=[1.0] * 3)]}, "is a Normalization, which no"),
        ({"before": [keras.layers.Rescaling(0.0)]}, "has scale 0.0 and offset"),
        ({"pooling": {"strides": 1, "padding": "same"}}, r"has strides \[1, 1\], and a VGG has \[2, 2\]"),
    ],
)
@pytest.mark.parametrize("form", [".keras", ".h5"])
def test_what_changes_the_scores_is_refused(change, says, form, tmp_path):
    fresh = {
        key: [type(part).from_config(part.get_config()) for part in value]
        for key, value in change.items()
        if key == "before"
    }
    with pytest.raises(UserError, match=says):
        read_weights(write(changed_net(**change | fresh), tmp_path / f"net{form}", form))


@pytest.mark.parametrize(
    "change",
    [
        {"flatten": keras.layers.GlobalAveragePooling2D},
        {"flatten": lambda: keras.layers.Rescaling(2.0)},
        {"flatten": keras.layers.GlobalMaxPooling2D},
        {"hidden": "tanh"},
        {"hidden": None},
        {"last": "relu"},
        {"last": "sigmoid"},
    ],
)
@pytest.mark.parametrize("form", [".keras", ".h5"])
def test_a_head_that_gives_other_scores_is_left_out(change, form, tmp_path):
    theirs = changed_net(**change | ({"flatten": change["flatten"]()} if "flatten" in change else {}))
    found = read_weights(write(theirs, tmp_path / f"net{form}", form))
    assert found.features_only
    assert set(found.left_out) == {layer.name for layer in theirs.layers[13:]}
    with torch.inference_mode():
        map_ = assemble(found).features(as_pixels([scene(0, 32, 32)]))
    last = keras.Model(theirs.inputs[0], theirs.layers[12].output)
    assert largest_difference(map_, keras_scores(last, [scene(0, 32, 32)])) < 1e-5


@pytest.mark.parametrize(
    ("cls", "key", "value"),
    [("Conv2D", "dilation_rate", [2, 2]), ("Conv2D", "groups", 2), ("ReLU", "max_value", 6.0)],
)
def test_settings_are_checked(cls, key, value):
    net = json.loads(changed_net(activation=None).to_json())
    for layer in net["config"]["layers"]:
        if layer["class_name"] == cls:
            layer["config"][key] = value
    with pytest.raises(UserError, match=rf"has {key} .*, and a VGG has"):
        read_config(net)


@pytest.mark.parametrize("scale", [1e308, "text", [1.0, 2.0], float("nan")])
def test_a_rescaling_to_no_numbers_is_refused(scale):
    net = json.loads(changed_net([keras.layers.Rescaling(2.0), keras.layers.Rescaling(1e10)]).to_json())
    for layer in net["config"]["layers"]:
        if layer["class_name"] == "Rescaling":
            layer["config"]["scale"] = scale
    with pytest.raises(UserError, match=r"has scale .* and offset 0\.0: they are no mean and divisor of pixels"):
        read_config(net)


@pytest.mark.parametrize("side", [40, None])
def test_padded_poolings_are_refused_where_they_change_the_map(side):
    net = json.loads(changed_net(pooling={"padding": "same"}).to_json())
    net["config"]["layers"][0]["config"]["batch_shape"] = [None, side, side, 3]
    with pytest.raises(UserError, match="padding same, and images of sides"):
        read_config(net)


def test_weights_alone_do_not_hide_a_rescaling(tmp_path):
    net = changed_net([keras.layers.Rescaling(1 / 255)])
    with pytest.raises(UserError, match=r"layers/rescaling does what .* does not say: save the whole model as"):
        read_weights(write(net, tmp_path / "net.weights.h5", ".weights.h5"))
