"""Layers by name: as torchvision's extractor gives them, of any size, with gradients, in bf16, traced; wrong names."""

import jaxtyping
import pytest
import torch
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from benchmarks.compare import peer_losses
from small_nets import difference, make_net
from verydeep.errors import UsageError, UserError
from verydeep.nets.activations import nearest_layers, smallest_side

NAMES = ["conv1_1", "relu1_2", "pool2", "conv3_3", "relu3_3", "pool5"]


@pytest.fixture(scope="module")
def net():
    return make_net("D")


def images(*size, count=2, seed=0):
    return 255 * torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def test_as_torchvision_gives_them():
    ours, theirs = peer_losses.shared_net(), peer_losses.torchvision_net()
    nodes = {"features.0": "conv1_1", "features.3": "relu1_2", "features.9": "pool2", "features.14": "conv3_3"}
    nodes |= {"features.15": "relu3_3", "features.30": "pool5"}
    extractor = create_feature_extractor(theirs.eval(), nodes)
    for module in extractor.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # theirs overwrites what the extractor gives of a convolution
    try:
        given = images(48, 80)
        wanted = given.clone().requires_grad_(), given.clone().requires_grad_()
        expected = extractor((wanted[0] - ours.mean[:, None, None]) / ours.divisor[:, None, None])
        found = ours.activations(wanted[1], NAMES)
        for name in NAMES:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
            first, second = (
                torch.autograd.grad(maps[name].square().sum(), image, retain_graph=True)[0]
                for maps, image in ((expected, wanted[0]), (found, wanted[1]))
            )
            assert difference(second, first) < 1e-4
    finally:
        for module in theirs.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = True


def test_images_of_one_pixel_and_of_any_other_size(net):
    assert net.activations(images(1, 1), ["relu1_2"])["relu1_2"].shape == (2, 8, 1, 1)
    assert net.activations(images(2, 3), ["pool1", "conv2_1"])["conv2_1"].shape == (2, 16, 1, 1)
    assert net.activations(images(33, 70), ["pool5"])["pool5"].shape == (2, 64, 1, 2)
    for size, name, side in (
        ((1, 9), "pool1", 2),
        ((7, 50), "relu4_1", 8),
        ((31, 31), "pool5", 32),
        ((64, 20), "fc6", 32),
    ):
        with pytest.raises(UserError, match=rf"images of {size[0]}x{size[1]} pixels: .* {name}, .* at least {side}$"):
            net.activations(images(*size), [name])
        assert smallest_side(net.geometry, name) == side


def test_average_pooling(net):
    found = net.activations(images(8, 9), ["relu1_2", "pool1"], pooling="average")
    torch.testing.assert_close(found["pool1"], nn.functional.avg_pool2d(found["relu1_2"], 2))
    with pytest.raises(UsageError, match="pooling 'mean': choose one of max, average"):
        net.activations(images(8, 9), ["pool1"], pooling="mean")


def test_a_net_without_fully_connected_layers_and_one_in_bf16(net):
    features = make_net("D", features_only=True)
    given = images(40, 40).requires_grad_()
    found = features.activations(given, ["relu1_1", "pool5"])
    (gradient,) = torch.autograd.grad(found["pool5"].sum(), given)
    assert gradient.abs().sum() > 0
    rough = make_net("D", features_only=True).bfloat16().activations(given, ["relu1_1", "pool5"])
    for name, map_ in rough.items():
        assert map_.requires_grad
        assert map_.dtype == torch.bfloat16
        assert difference(map_.detach().float(), found[name].detach()) < 0.05
    with pytest.raises(UsageError, match="no layer 'fc7' in D"):
        features.activations(given, ["fc7"])


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("features.15", ["relu3_3"]),
        ("features.30", ["pool5"]),
        ("classifier.3", ["fc7"]),
        ("block3_conv3", ["relu3_3"]),
        ("block5_pool", ["pool5"]),
        ("fc2", ["relu7"]),
        ("conv3-3", ["conv3_3"]),
        ("Relu3.3", ["relu3_3"]),
        ("relu33", ["relu3_3"]),
        ("pool_4", ["pool4"]),
        ("features.99", []),
        ("", []),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(net, name, near):
    assert nearest_layers(name, [each for each, _ in net.named_children()], net.geometry) == near
    with pytest.raises(UsageError, match=f"did you mean {near[0]}" if near else "it has conv1_1"):
        net.activations(images(32, 32), [name])


def test_one_name_is_no_list_and_no_name_gives_nothing(net):
    with pytest.raises(UsageError, match=r"such as \['relu3_3'\]"):
        net.activations(images(32, 32), "relu3_3")
    assert net.activations(images(32, 32), []) == {}
    assert list(net.activations(images(32, 32), ["pool1", "relu1_1", "pool1"])) == ["pool1", "relu1_1"]


@pytest.fixture
def shapes_unchecked():
    """What checks the shapes in the tests cannot be captured."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    torch.compiler.reset()


@pytest.mark.usefixtures("shapes_unchecked")
def test_compiled_and_exported(net):
    class Extractor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return self.net.activations(images, ["relu3_3", "fc7"])

    module, given = Extractor().eval(), images(32, 64)
    with torch.no_grad():
        expected = module(given)
        compiled = torch.compile(module, fullgraph=True, backend="eager")
        program = torch.export.export(module, (given,)).module()
        for found in (compiled(given), program(given), compiled(given.to(torch.uint8))):
            assert list(found) == ["relu3_3", "fc7"]
        for found in (compiled(given), program(given)):
            for name, map_ in expected.items():
                torch.testing.assert_close(found[name], map_, rtol=1e-4, atol=1e-5)
