"""Weights for other programs: the same bits there and back, the same scores, and what cannot be held."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import scene
from peer_nets import as_pixels, keras_net, keras_scores, randomise, timm_net, torchvision_net
from verydeep.errors import UsageError, UserError
from verydeep.nets.net import IMAGENET_MEAN, VeryDeep
from verydeep.nets.reuse import TORCHVISION_MEAN, TORCHVISION_STD
from verydeep.weights.imported import assemble
from verydeep.weights.readers import read_weights
from verydeep.weights.readers.torch import pixels
from verydeep.weights.verify import largest_difference
from verydeep.weights.writers import TARGETS, export, find_target
from verydeep.weights.writers.keras import write_keras
from verydeep.weights.writers.torch import to_state_dict

# Keras's own, with numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TORCHVISION_INPUT = (pixels(TORCHVISION_MEAN), pixels(TORCHVISION_STD))
CAFFE_INPUT = (IMAGENET_MEAN, (1.0, 1.0, 1.0))
PICTURES = [scene(seed, 64, 64) for seed in range(2)]


def narrow(target, monkeypatch):
    """A row whose nets may be narrow and of any crop; the files are the same but for their size."""
    monkeypatch.setattr(type(target), "check", lambda *_: None)
    return target


def meta_net(architecture="D", *, mean=TORCHVISION_INPUT[0], divisor=TORCHVISION_INPUT[1], **options):
    """A net of full size without its weights."""
    net = VeryDeep("A", width=0.125, crop=32)
    with torch.device("meta"):
        net = VeryDeep(architecture, initialisation=None, **options)
    net.mean, net.divisor = torch.tensor(mean), torch.tensor(divisor)
    return net


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("architecture", ["A", "B", "D", "E"])
def test_torchvision_to_ours_to_torchvision_is_bit_exact(architecture, batch_norm, monkeypatch, tmp_path):
    theirs = torchvision_net(architecture, batch_norm=batch_norm)
    state = theirs.state_dict()
    torch.save(state, tmp_path / "a.pth")
    net = assemble(read_weights(tmp_path / "a.pth"))
    preprocessing = export(net, narrow(TARGETS["torchvision"], monkeypatch), tmp_path / "b.pth")
    again = torch.load(tmp_path / "b.pth", weights_only=True)
    assert list(again) == list(state)
    for name, tensor in state.items():
        assert torch.equal(again[name], tensor)
        assert again[name].dtype == tensor.dtype
    theirs.load_state_dict(again, strict=True)
    assert preprocessing.is_default
    assert (preprocessing.mean, preprocessing.std) == (TORCHVISION_MEAN, TORCHVISION_STD)


def test_d_of_full_size_loads_strictly_in_torchvision(tmp_path):
    import torchvision

    net = randomise(VeryDeep("D", num_classes=2, initialisation=None))
    net.set_input(*TORCHVISION_INPUT)
    assert export(net, TARGETS["torchvision"], tmp_path / "d.pth").is_default
    with torch.device("meta"):
        theirs = torchvision.models.vgg16(num_classes=2, init_weights=False).eval()
    state = torch.load(tmp_path / "d.pth", weights_only=True, mmap=True)
    theirs.load_state_dict(state, strict=True, assign=True)
    picture = scene(0, 224, 224)
    preset = torchvision.models.VGG16_Weights.IMAGENET1K_V1.transforms(resize_size=224)
    with torch.inference_mode():
        expected = theirs(preset(picture)[None])
        assert largest_difference(net(as_pixels([picture])), expected) < 1e-5


@pytest.mark.parametrize("batch_norm", [False, True])
def test_timm_to_ours_to_timm_is_bit_exact(batch_norm, monkeypatch, tmp_path):
    pytest.importorskip("timm", reason="timm is an extra of the tests")
    theirs = timm_net(batch_norm=batch_norm)
    state = theirs.state_dict()
    save_file(state, tmp_path / "a.safetensors")
    net = assemble(read_weights(tmp_path / "a.safetensors"))
    preprocessing = export(net, narrow(TARGETS["timm"], monkeypatch), tmp_path / "b.safetensors")
    again = load_file(tmp_path / "b.safetensors")
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())
    theirs.load_state_dict(again, strict=True)
    assert preprocessing.is_default


@pytest.mark.parametrize("ending", [".weights.h5", ".h5"])
@pytest.mark.parametrize("top", [True, False])
def test_keras_to_ours_to_keras_is_bit_exact(top, ending, tmp_path):
    pytest.importorskip("keras", reason="keras is an extra of the tests")
    theirs = keras_net("D", top=top)
    theirs.save(tmp_path / "a.keras")
    net = assemble(read_weights(tmp_path / "a.keras"))
    file = tmp_path / f"b{ending}"
    write_keras(net, file)
    assert TARGETS["keras"].expects(net).is_default
    again = keras_net("D", top=top)
    again.set_weights([np.zeros_like(part) for part in again.get_weights()])
    again.load_weights(file)
    for before, after in zip(theirs.get_weights(), again.get_weights(), strict=True):
        assert np.array_equal(before, after)


@pytest.mark.parametrize("ending", [".weights.h5", ".h5"])
def test_keras_applications_take_the_convolutions_of_e(ending, tmp_path):
    keras = pytest.importorskip("keras", reason="keras is an extra of the tests")
    net = randomise(VeryDeep("E", features_only=True, initialisation=None))
    net.set_input(*CAFFE_INPUT)
    assert export(net, TARGETS["keras"], tmp_path / f"e{ending}").is_default
    theirs = keras.applications.VGG19(weights=None, include_top=False, input_shape=(64, 64, 3))
    theirs.load_weights(tmp_path / f"e{ending}")
    with torch.inference_mode():
        assert largest_difference(net.features(as_pixels(PICTURES)), keras_scores(theirs, PICTURES)) < 1e-5


@pytest.mark.parametrize(
    "convention", [TORCHVISION_INPUT, ((100.0, 110.0, 120.0), (2.0, 3.0, 4.0))], ids=["torchvision", "its own"]
)
def test_the_call_that_is_stated_for_keras_gives_the_same_scores(convention, tmp_path):
    keras = pytest.importorskip("keras", reason="keras is an extra of the tests")
    net = randomise(VeryDeep("D", num_classes=5, width=0.125, crop=64))
    net.set_input(*convention)
    write_keras(net, tmp_path / "a.weights.h5")
    theirs = keras_net("D")
    theirs.load_weights(tmp_path / "a.weights.h5")
    stated = TARGETS["keras"].expects(net)
    assert not stated.is_default
    rgb = np.stack([np.asarray(picture, np.float32) for picture in PICTURES])
    prepared = eval(stated.call, {"keras": keras, "numpy": np, "rgb": rgb})  # what a user would paste
    with torch.inference_mode():
        scores = torch.from_numpy(np.array(keras.ops.convert_to_numpy(theirs(prepared, training=False))))
        assert largest_difference(net(as_pixels(PICTURES)), scores) < 1e-5


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_the_numbers_that_are_stated_give_the_same_scores(name):
    from torchvision.transforms import v2

    net = randomise(VeryDeep("D", num_classes=5, width=0.125, crop=224))
    net.set_input((100, 110, 120), (2, 3, 4))
    stated = TARGETS[name].expects(net)
    assert not stated.is_default
    assert "which is not its default" in str(stated)
    theirs = torchvision_net("D")
    theirs.load_state_dict(to_state_dict(net, "torchvision"), strict=True)
    images = as_pixels([scene(0, 224, 224)])
    normalise = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(stated.mean, stated.std)])
    with torch.inference_mode():
        assert largest_difference(net(images), theirs(normalise(images))) < 1e-5


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("torchvision", {"architecture": "A-LRN"}, "its VGGs are A, B, D, E, and this is A-LRN"),
        ("timm", {"architecture": "C"}, "and this is C"),
        ("torchvision", {"architecture": "B-5x5"}, "and this is B-5x5"),
        ("keras", {"architecture": "B"}, "its VGGs are D, E, and this is B"),
        ("keras", {"batch_norm": True}, "its VGGs have no batch norm"),
        ("torchvision", {"width": 0.5}, "this one 0.5 of it"),
        ("timm", {"crop": 64}, "fc6 is of crop 224, and this one of crop 64"),
        ("torchvision", {"features_only": True}, "convolutions only"),
    ],
)
def test_what_a_program_cannot_hold_is_refused_in_one_line(name, options, says, tmp_path):
    file = tmp_path / f"a{TARGETS[name].suffixes[0]}"
    with pytest.raises(UsageError, match=f"{name} cannot hold this net: .*{says}") as told:
        export(meta_net(**options), TARGETS[name], file)
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", TARGETS)
def test_another_ending_is_wrong_use(name, tmp_path):
    with pytest.raises(UsageError, match="give such a name"):
        export(meta_net(), TARGETS[name], tmp_path / "a.keras")


def test_an_unknown_program_is_wrong_use():
    with pytest.raises(UsageError, match="choose one of torchvision, timm, keras"):
        find_target("caffe")


def test_a_folder_that_is_not_there_leaves_nothing(monkeypatch, tmp_path):
    net = VeryDeep("A", width=0.125, crop=32)
    for target in TARGETS.values():
        with pytest.raises(UserError, match="cannot be written"):
            export(net, narrow(target, monkeypatch), tmp_path / "no" / f"a{target.suffixes[0]}")
    assert not list(tmp_path.iterdir())


def test_the_net_is_made_there_by_the_call_that_is_stated():
    import torchvision

    with torch.device("meta"):
        call = TARGETS["torchvision"].make(meta_net("E", batch_norm=True, num_classes=3))
        made = eval(call, {"torchvision": torchvision})
    assert len(made.state_dict()) == len(to_state_dict(meta_net("E", batch_norm=True, num_classes=3), "torchvision"))
    timm = pytest.importorskip("timm", reason="timm is an extra of the tests")
    with torch.device("meta"):
        assert eval(TARGETS["timm"].make(meta_net("A", num_classes=3)), {"timm": timm}).num_classes == 3
    assert "include_top=False" in TARGETS["keras"].make(meta_net(features_only=True))
