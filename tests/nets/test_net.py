"""VeryDeep against torchvision, against nets written out by hand, and against its own promises."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torchvision.transforms.v2.functional import pil_to_tensor

from conftest import centre_crop, pillow_rescale
from verydeep.device import Compute, fp32_choice
from verydeep.errors import UsageError, UserError
from verydeep.images.decode import read_image
from verydeep.nets import checks
from verydeep.nets.initialise import INITIALISATIONS
from verydeep.nets.layers import FullyConnected
from verydeep.nets.net import VeryDeep
from verydeep.speed.tiling import adaptive_score_map
from verydeep.speed.torch_backend import TorchBackend

TORCHVISION = {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"}
MEAN = torch.tensor([0.485, 0.456, 0.406])
DEVIATION = torch.tensor([0.229, 0.224, 0.225])


def copy_weights(source, net):
    """Copies the weights of a sequence of layers into a VeryDeep, in order."""
    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    theirs = [module for module in source.modules() if isinstance(module, kinds)]
    ours = [module for module in net.children() if isinstance(module, kinds)]
    assert len(theirs) == len(ours)
    for their, our in zip(theirs, ours, strict=True):
        shapes = our.state_dict()
        our.load_state_dict({name: tensor.reshape(shapes[name].shape) for name, tensor in their.state_dict().items()})


def randomise_batch_norm(net):
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)


def relative(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


EVERY_NET = [(name, batch_norm) for name in TORCHVISION for batch_norm in (False, True)]


@pytest.mark.parametrize(
    ("name", "batch_norm"),
    [pytest.param(*net, marks=[] if net in {("A", False), ("D", True)} else pytest.mark.slow) for net in EVERY_NET],
)
def test_agrees_with_torchvision(name, batch_norm):
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    check_against_torchvision(name, batch_norm, images)


@pytest.mark.parametrize(("name", "batch_norm"), EVERY_NET)
def test_convolutions_agree_with_torchvisions(name, batch_norm):
    """Most of a whole net is its fully connected layers, which all nets have alike."""
    torch.manual_seed(0)
    theirs = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs[name], batch_norm=batch_norm).eval()
    randomise_batch_norm(theirs)
    ours = VeryDeep(name, features_only=True, batch_norm=batch_norm, initialisation=None).eval()
    copy_weights(theirs, ours)
    ours.set_input((255 * MEAN).tolist(), (255 * DEVIATION).tolist())
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        assert relative(ours.features(images), theirs(normalised(images))) < 5e-6


def test_agrees_with_torchvision_on_photographs(shared_photos):
    torch.manual_seed(0)
    photographs = [centre_crop(pillow_rescale(read_image(file), 256), 224, 224) for file in shared_photos[:2]]
    images = torch.stack([pil_to_tensor(photograph) for photograph in photographs])
    check_against_torchvision("E", True, images)


def normalised(images):
    return (images / 255 - MEAN[:, None, None]) / DEVIATION[:, None, None]


def check_against_torchvision(name, batch_norm, images):
    theirs = getattr(torchvision.models, TORCHVISION[name] + ("_bn" if batch_norm else ""))(num_classes=50)
    randomise_batch_norm(theirs)
    ours = VeryDeep(name, num_classes=50, batch_norm=batch_norm, initialisation=None)
    copy_weights(theirs, ours)
    ours.set_input((255 * MEAN).tolist(), (255 * DEVIATION).tolist())
    with torch.inference_mode():
        expected = theirs.eval()(normalised(images))
        assert relative(ours.eval()(images), expected) < 5e-6
        ours.to(memory_format=torch.channels_last)
        assert relative(ours(images), expected) < 5e-6


@pytest.mark.parametrize("size", [(224, 224), (256, 320), (301, 233)])
def test_adaptive_protocol_is_torchvisions_pooling(size):
    torch.manual_seed(1)
    theirs = torchvision.models.vgg11(num_classes=20).eval()
    ours = VeryDeep("A", num_classes=20, initialisation=None).eval()
    copy_weights(theirs, ours)
    ours.set_input((255 * MEAN).tolist(), (255 * DEVIATION).tolist())
    images = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    with torch.inference_mode():
        expected = theirs(normalised(images)).softmax(1)
    backend = TorchBackend(ours, fp32_choice("cpu"))
    scores = torch.from_numpy(adaptive_score_map(backend, images.permute(0, 2, 3, 1).numpy()))
    assert relative(scores.flatten(1).softmax(1), expected) < 5e-6


class PlainLRN(nn.Module):
    """AlexNet's formula as a loop: alpha on the plain sum of five squares."""

    def forward(self, x):
        channels = x.shape[1]
        sums = [(x[:, max(0, i - 2) : i + 3] ** 2).sum(1) for i in range(channels)]
        return x / (2 + 1e-4 * torch.stack(sums, 1)) ** 0.75


def by_hand(blocks, lrn=False, width=8, classes=5):
    channels, parts = 3, []
    for number, kernels in enumerate(blocks):
        out = width * min(2**number, 8)
        for index, kernel in enumerate(kernels):
            parts += [nn.Conv2d(channels, out, kernel, padding=1 if kernel == 3 else 0), nn.ReLU()]
            channels = out
            if lrn and number == 0 and index == 0:
                parts.append(PlainLRN())
        parts.append(nn.MaxPool2d(2, 2))
    hidden = width * 64
    parts += [nn.Flatten(), nn.Linear(channels * 4, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(hidden, classes)).double()


@pytest.mark.parametrize(
    ("name", "blocks", "lrn"),
    [
        ("A-LRN", [[3], [3], [3, 3], [3, 3], [3, 3]], True),
        ("C", [[3, 3], [3, 3], [3, 3, 1], [3, 3, 1], [3, 3, 1]], False),
    ],
)
def test_a_lrn_and_c_against_nets_written_out(name, blocks, lrn):
    torch.manual_seed(2)
    theirs = by_hand(blocks, lrn)
    ours = VeryDeep(name, num_classes=5, crop=64, width=0.125, initialisation=None).double().eval()
    copy_weights(theirs, ours)
    ours.set_input((0, 0, 0), (1, 1, 1))
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        assert relative(ours(images), theirs(images.double())) < 1e-12


def test_kaiming_is_torchvisions_initialisation():
    ours = VeryDeep("E", batch_norm=True, crop=32, num_classes=10, generator=torch.Generator().manual_seed(0))
    for module in ours.children():
        if isinstance(module, nn.Conv2d):
            wanted = 0.01 if isinstance(module, FullyConnected) else (2 / (module.out_channels * 9)) ** 0.5
            assert module.weight.std().item() == pytest.approx(wanted, rel=0.05)
            assert module.bias is not None
            assert not module.bias.any()


def test_initialisations_differ_as_they_should():
    deviations = {}
    for name in ("gaussian", "gaussian-variance", "glorot", "glorot-uniform"):
        net = VeryDeep("A", crop=32, num_classes=10, initialisation=name, generator=torch.Generator().manual_seed(0))
        conv, fc = net.get_submodule("conv4_2"), net.get_submodule("fc7")
        deviations[name] = tuple(float(next(layer.parameters()).detach().std()) for layer in (conv, fc))
    assert deviations["gaussian"] == pytest.approx((0.01, 0.01), rel=0.02)
    assert deviations["gaussian-variance"] == pytest.approx((0.1, 0.1), rel=0.02)
    assert deviations["glorot"] == pytest.approx(((2 / (2 * 512 * 9)) ** 0.5, (2 / (2 * 4096)) ** 0.5), rel=0.02)
    assert deviations["glorot-uniform"] == pytest.approx(deviations["glorot"], rel=0.02)


def test_glorot_is_uniform_in_its_paper_and_normal_by_its_older_name():
    bound = (6 / (2 * 512 * 9)) ** 0.5
    largest = {}
    for name in ("glorot", "glorot-uniform"):
        net = VeryDeep("A", crop=32, num_classes=10, initialisation=name, generator=torch.Generator().manual_seed(0))
        largest[name] = float(net.get_submodule("conv4_2").weight.detach().abs().max())
    assert bound * 0.99 < largest["glorot-uniform"] <= bound
    assert largest["glorot"] > 2 * bound


@pytest.mark.parametrize("name", INITIALISATIONS)
def test_every_initialisation_leaves_the_biases_zero(name):
    net = VeryDeep("C", crop=32, width=0.125, num_classes=3, batch_norm=True, initialisation=None)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(7)
    net.initialise(name, torch.Generator().manual_seed(0))
    biases = {key: value for key, value in net.named_parameters() if key.endswith(".bias")}
    assert len(biases) == 2 * 13 + 3
    assert not any(bias.any() for bias in biases.values())
    assert all(value.std() > 0 for key, value in net.named_parameters() if key.endswith(".weight") and value.ndim > 1)


def test_same_seed_same_weights():
    nets = [
        VeryDeep("A", crop=32, width=0.125, num_classes=4, generator=torch.Generator().manual_seed(7)) for _ in range(2)
    ]
    for ours, theirs in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.fixture
def small():
    torch.manual_seed(3)
    net = VeryDeep("B", num_classes=6, crop=64, width=0.125, batch_norm=True)
    randomise_batch_norm(net)
    return net.eval()


def images_of(*size, n=2):
    return torch.randint(0, 256, (n, 3, *size), dtype=torch.uint8)


def test_score_map_has_a_place_for_every_32_pixels_and_forward_is_its_mean(small):
    images = images_of(128, 200)
    with torch.inference_mode():
        score_map = small.score_map(images)
        assert score_map.shape == (2, 6, 3, 5)
        assert torch.allclose(small(images), score_map.mean((2, 3)))
        assert small.score_map(images_of(64, 64)).shape == (2, 6, 1, 1)


def test_huge_maps_take_the_convolution(small, monkeypatch):
    images = images_of(128, 160, n=1)
    with torch.inference_mode():
        expected = small(images)
        monkeypatch.setattr("verydeep.nets.layers._WINDOW_FLOATS", 100)
        assert torch.allclose(small(images), expected, atol=1e-5)


def test_activations_are_named_and_not_overwritten(small):
    images = images_of(64, 64)
    with torch.inference_mode():
        tapped = small.activations(images, ["conv1_1", "bn1_1", "relu1_1", "fc7", "relu7", "fc8"])
        assert torch.equal(tapped["relu1_1"], tapped["bn1_1"].relu())
        assert tapped["bn1_1"].min() < 0
        assert tapped["fc7"].min() < 0 <= tapped["relu7"].min()
        assert torch.allclose(tapped["fc8"].mean((2, 3)), small(images))
        assert list(tapped) == ["conv1_1", "bn1_1", "relu1_1", "fc7", "relu7", "fc8"]


def test_activations_stop_at_the_last_layer_asked_for(small, monkeypatch):
    monkeypatch.setattr(small.get_submodule("fc6"), "forward", lambda x: pytest.fail("fc6 was computed"))
    assert small.activations(images_of(32, 32), ["relu3_2"])["relu3_2"].shape == (2, 32, 8, 8)


def test_unknown_activation(small):
    with pytest.raises(UsageError, match=r"relu9_9.*conv1_1"):
        small.activations(images_of(64, 64), ["relu9_9"])


def test_uint8_and_float_images_give_the_same_scores(small):
    images = images_of(64, 64)
    with torch.inference_mode():
        assert torch.equal(small(images), small(images.float()))


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (torch.rand(1, 3, 64, 64), "look like 0..1"),
        (torch.rand(1, 3, 64, 64) * 2 - 1, "look like 0..1"),
        (torch.randn(1, 3, 64, 64), "look normalised already"),
        (255 * torch.rand(1, 3, 64, 64) - 120, "look normalised already"),
    ],
)
def test_float_images_in_another_range_are_warned_of_once(small, images, complaint, monkeypatch):
    monkeypatch.setattr(checks, "_warned", set())
    with torch.inference_mode():
        with pytest.warns(UserWarning, match=rf"{complaint}: give RGB in 0\.\.255.*set_input_range"):
            assert small(images).isfinite().all()
        small(images)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 3, 64, 64),
        torch.eye(64).expand(1, 3, 64, 64),  # a dark photograph has whole numbers
        252 * torch.rand(1, 3, 64, 64) - 4,  # an optimised picture overshoots
        torch.ones(1, 3, 64, 64, dtype=torch.uint8),
    ],
    ids=["black", "dark", "optimised", "uint8"],
)
def test_images_in_range_are_not_warned_of(small, images, monkeypatch):
    monkeypatch.setattr(checks, "_warned", set())
    with torch.inference_mode():
        assert small(images).isfinite().all()


def test_images_below_the_crop_are_refused_with_the_remedy(small):
    with pytest.raises(UserError, match="rescale their shorter side to at least 64"):
        small(images_of(63, 200))


def test_mean_stays_float32_when_the_net_does_not(small):
    images = images_of(64, 64)
    with torch.inference_mode():
        expected = small(images)
        small.bfloat16()
        assert small.mean.dtype == small.divisor.dtype == torch.float32
        assert small.mean.tolist() == pytest.approx([123.68, 116.779, 103.939])
        scores = small(images)
        assert scores.dtype == torch.bfloat16
        assert relative(scores.float(), expected) < 0.05
        small.float()
        assert small.mean.dtype == torch.float32


def test_place_changes_the_layout_of_the_convolutions_alone(small):
    small.place(Compute(device="cpu", precision="fp32", channels_last=True, threads=2))
    assert small.get_submodule("conv2_1").weight.is_contiguous(memory_format=torch.channels_last)
    assert small.get_submodule("fc6").weight.is_contiguous()


def test_gradients_reach_the_image(small):
    images = (255 * torch.rand(1, 3, 64, 64)).requires_grad_()
    small(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_blocks_are_made_once_and_again_where_a_layer_was_replaced(small):
    blocks, names = small.blocks(), list(small.state_dict())
    assert [len(block) for block in blocks] == [7, 7, 7, 7, 7]
    images = images_of(64, 64)
    with torch.inference_mode():
        small(images)
        assert small.blocks() is blocks
        other = copy.deepcopy(small)
        other.conv1_1 = nn.Conv2d(3, 8, 3, padding=1)
        assert other.blocks()[0][0] is other.conv1_1
        assert small.blocks() is blocks
        assert torch.equal(other.features(images), other.activations(images, ["pool5"])["pool5"])
        assert not torch.equal(other.features(images), small.features(images))
    assert list(small.state_dict()) == list(other.state_dict()) == names
