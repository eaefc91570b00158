"""Names of torchvision, timm and the seed class: each net gives its own scores in ours."""

import pytest
import torch

from conftest import scene
from peer_nets import SeedNet, as_pixels, crops, timm_net, torchvision_net, torchvision_scores
from verydeep.errors import UserError
from verydeep.nets.architecture import Geometry, find_architecture
from verydeep.weights.imported import assemble
from verydeep.weights.layer_order import names_in_order
from verydeep.weights.readers.torch import from_state_dict, layer_names
from verydeep.weights.verify import largest_difference

PICTURES = [scene(seed, 224, 224) for seed in range(2)]


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("architecture", ["A", "B", "D", "E"])
def test_scores_are_those_of_torchvision(architecture, batch_norm):
    theirs = torchvision_net(architecture, batch_norm=batch_norm)
    foreign = from_state_dict(theirs.state_dict())
    assert (foreign.kind, foreign.features_only) == ("torchvision", False)
    ours = assemble(foreign)
    assert (ours.geometry.architecture.name, ours.geometry.batch_norm) == (architecture, batch_norm)
    assert (ours.geometry.width, ours.geometry.crop, ours.geometry.num_classes) == (0.125, 224, 5)
    with torch.inference_mode():
        scores = ours(as_pixels(PICTURES))
    assert largest_difference(scores, torchvision_scores(theirs, PICTURES)) < 1e-5


@pytest.mark.parametrize("batch_norm", [False, True])
def test_scores_are_those_of_timm(batch_norm):
    timm = pytest.importorskip("timm", reason="timm is an extra of the tests")
    theirs = timm_net(batch_norm=batch_norm)
    foreign = from_state_dict(theirs.state_dict())
    assert foreign.kind == "timm"
    ours = assemble(foreign)
    with torch.inference_mode():
        assert largest_difference(ours(as_pixels(PICTURES)), timm_scores(timm, theirs, PICTURES)) < 1e-5


def timm_scores(timm, net, pictures):
    """Scores after timm's own preprocessing."""
    settings = timm.data.resolve_data_config({"input_size": (3, 224, 224), "crop_pct": 1.0})
    transform = timm.data.create_transform(**settings)
    with torch.inference_mode():
        return net(torch.stack([transform(picture) for picture in pictures]))


def test_scores_of_photographs_are_those_of_torchvision(shared_photos):
    theirs, photographs = torchvision_net("D", batch_norm=True), crops(shared_photos, 224)
    with torch.inference_mode():
        scores = assemble(from_state_dict(theirs.state_dict()))(as_pixels(photographs))
    assert largest_difference(scores, torchvision_scores(theirs, photographs)) < 1e-5


def test_scores_of_photographs_are_those_of_timm(shared_photos):
    timm = pytest.importorskip("timm", reason="timm is an extra of the tests")
    theirs, photographs = timm_net(batch_norm=False), crops(shared_photos, 224)
    with torch.inference_mode():
        scores = assemble(from_state_dict(theirs.state_dict()))(as_pixels(photographs))
    assert largest_difference(scores, timm_scores(timm, theirs, photographs)) < 1e-5


@pytest.mark.parametrize("crop", [32, 64, 160, 224, 256])
def test_scores_of_the_seed_class_at_the_crop_it_was_trained_on(crop):
    theirs = SeedNet(torchvision_net("E", batch_norm=True))
    foreign = from_state_dict(theirs.state_dict())
    assert foreign.kind == "seed class"
    ours = assemble(foreign, crop=crop)
    assert ours.geometry.head_kernel == crop // 32
    pictures = [scene(seed, crop, crop) for seed in range(2)]
    with torch.inference_mode():
        scores = ours(as_pixels(pictures))
    assert largest_difference(scores, torchvision_scores(theirs, pictures)) < 1e-5


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module.backbone."])
def test_prefixes_of_training_programs_are_taken_off(prefix):
    state = torchvision_net("A").state_dict()
    foreign = from_state_dict({prefix + name: tensor for name, tensor in state.items()})
    assert foreign.tensors.keys() == from_state_dict(state).tensors.keys()


def test_convolutions_alone():
    theirs = torchvision_net("D")
    foreign = from_state_dict({name: tensor for name, tensor in theirs.state_dict().items() if "features" in name})
    ours = assemble(foreign)
    assert foreign.features_only
    assert ours.features_only
    with torch.inference_mode():
        expected = torchvision_scores(theirs.features, PICTURES)
        assert largest_difference(ours.features(as_pixels(PICTURES)), expected) < 1e-5


def test_a_head_of_nan_is_no_head_and_has_the_mean_that_torchvision_gives_with_it():
    from torchvision.models import VGG16_Weights

    state = torchvision_net("D").state_dict()
    state |= {name: torch.full_like(tensor, torch.nan) for name, tensor in state.items() if "classifier" in name}
    foreign = from_state_dict(state)
    assert foreign.features_only
    preset = VGG16_Weights.IMAGENET1K_FEATURES.transforms()
    assert [number / 255 for number in foreign.mean] == pytest.approx(preset.mean)
    assert [number / 255 for number in foreign.divisor] == pytest.approx(preset.std)


def test_the_usual_mean_is_that_of_torchvision_and_timm():
    from torchvision.models import VGG16_Weights

    foreign = from_state_dict(torchvision_net("A").state_dict())
    preset = VGG16_Weights.IMAGENET1K_V1.transforms()
    assert [number / 255 for number in foreign.mean] == pytest.approx(preset.mean)
    assert [number / 255 for number in foreign.divisor] == pytest.approx(preset.std)


def test_names_of_no_vgg_are_told_with_their_shapes():
    with pytest.raises(
        UserError, match=r"layer4\.bias, of shape \(3,\); layer4\.weight, of shape \(3, 4\): no name is"
    ):
        from_state_dict({"layer4.weight": torch.zeros(3, 4), "layer4.bias": torch.zeros(3)})


def test_one_layer_under_two_names_is_told():
    state = torchvision_net("A").state_dict()
    with pytest.raises(UserError, match=r"net\.0\.bias is there twice"):
        from_state_dict(state | {"net.0.bias": torch.zeros(8)})


def test_a_gap_that_is_no_pooling_is_told():
    state = {name.replace("features.3.", "features.4."): t for name, t in torchvision_net("A").state_dict().items()}
    with pytest.raises(UserError, match=r"features\.4 is not where a VGG has a convolution"):
        from_state_dict(state)


@pytest.mark.parametrize("style", ["torchvision", "timm"])
@pytest.mark.parametrize("name", ["A", "vgg13_bn", "D", "vgg19_bn"])
def test_names_there_are_those_of_the_program(style, name):
    row, batch_norm = find_architecture(name)
    geometry = Geometry(architecture=row, batch_norm=batch_norm, num_classes=5)
    call = f"vgg{row.weight_layers}" + ("_bn" if batch_norm else "")
    with torch.device("meta"):
        if style == "torchvision":
            import torchvision

            theirs = getattr(torchvision.models, call)(num_classes=5, init_weights=False)
        else:
            theirs = pytest.importorskip("timm", reason="timm is an extra of the tests").create_model(call)
    expected = {name.rpartition(".")[0] for name in theirs.state_dict()}
    assert set(layer_names(geometry, style).values()) == expected


def test_convolutions_in_order_name_their_column():
    assert names_in_order([3] * 8)[-1] == "conv5_2"
    assert names_in_order([3] * 16)[4:8] == ["conv3_1", "conv3_2", "conv3_3", "conv3_4"]
    assert names_in_order([3] * 6 + [1, 3, 3, 1, 3, 3, 1])[6] == "conv3_3"
    with pytest.raises(UserError, match="9 convolutions"):
        names_in_order([3] * 9)
