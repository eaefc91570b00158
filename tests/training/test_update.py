"""An update: the same whatever the parts it is computed in; its loss; its checkpointing."""

import copy

import pytest
import torch
import torch.nn.functional as F

from verydeep.device import Compute
from verydeep.nets.net import VeryDeep
from verydeep.training.loop import make_optimiser
from verydeep.training.objective import Classification
from verydeep.training.recipe import find_recipe
from verydeep.training.update import NotFiniteError, update

RECIPE = find_recipe("paper", learning_rate=0.01)
IMAGES = torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 2])


def make_net(**options):
    generator = torch.Generator().manual_seed(0)
    return VeryDeep(
        "A", num_classes=3, crop=32, width=0.125, initialisation="glorot", generator=generator, **options
    ).train()


def updated(net, updates=3, objective=None, **choice):
    net = copy.deepcopy(net)
    fixed = Compute(device="cpu", precision="fp32", channels_last=False, threads=1, **choice)
    net.place(fixed)
    optimiser = make_optimiser(net, RECIPE)
    for number in range(updates):
        loss, wrong = update(net, optimiser, IMAGES, LABELS, fixed, objective, seed=(0, 0, number))
    return net.state_dict(), loss.item(), wrong.item()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 9])
def test_a_plain_net_learns_the_same_in_parts(size):
    whole, loss, wrong = updated(make_net())
    parts, again, same = updated(make_net(), micro_batch=size)
    assert max((whole[name] - parts[name]).abs().max() for name in whole) < 1e-6
    assert loss == pytest.approx(again, rel=1e-5)
    assert wrong == same


def test_parts_have_batch_norm_statistics_of_their_own():
    whole, _, _ = updated(make_net(batch_norm=True), updates=1)
    parts, _, _ = updated(make_net(batch_norm=True), updates=1, micro_batch=3)
    assert (whole["bn1_1.running_mean"] - parts["bn1_1.running_mean"]).abs().max() > 1e-6


@pytest.mark.parametrize("batch_norm", [False, True])
def test_gradient_checkpointing_changes_nothing(batch_norm):
    net = make_net(batch_norm=batch_norm)
    kept, loss, wrong = updated(net)
    computed, again, same = updated(net, gradient_checkpointing=True)
    for name, tensor in kept.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, computed[name]), name
    assert (loss, wrong) == (again, same)


def test_gradient_checkpointing_keeps_less():
    def kept(net, **options):
        sizes = []
        net.place(Compute(device="cpu", precision="fp32", channels_last=False, threads=1, **options))
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            net(IMAGES)
        return sum(sizes)

    assert kept(make_net(), gradient_checkpointing=True) < 0.7 * kept(make_net())


def test_the_weight_of_a_class_is_on_its_loss():
    scores = torch.randn(7, 3)
    weights = torch.tensor([0.5, 1.0, 2.0])
    expected = F.cross_entropy(scores, LABELS, reduction="none") * weights[LABELS]
    assert torch.allclose(Classification(class_weights=weights).loss(scores, LABELS), expected)
    plain, _, _ = updated(make_net())
    weighted, _, _ = updated(make_net(), objective=Classification(class_weights=weights))
    assert not torch.equal(plain["fc8.bias"], weighted["fc8.bias"])


def test_a_loss_that_is_not_finite_leaves_the_weights_as_they_are():
    net = make_net()
    with torch.no_grad():
        net.get_submodule("conv4_2").weight.fill_(1e38)
    choice = Compute(device="cpu", precision="fp32", channels_last=False, threads=1)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(NotFiniteError):
        update(net, make_optimiser(net, RECIPE), IMAGES, LABELS, choice)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_long_gradient_is_shortened_but_for_that_of_the_last_layer():
    fixed = Compute(device="cpu", precision="fp32", channels_last=False, threads=1)

    def gradients(most):
        net = make_net()
        net.set_dropout(0)
        optimiser = make_optimiser(net, RECIPE)
        update(net, optimiser, IMAGES, LABELS, fixed, most_gradient=most)
        return {name: parameter.grad for name, parameter in net.named_parameters()}

    whole, short = gradients(0), gradients(1e-3)
    lower = [name for name in whole if not name.startswith("fc8")]
    assert torch.stack([whole[name].norm() for name in lower]).norm() > 2e-3
    assert torch.stack([short[name].norm() for name in lower]).norm() == pytest.approx(1e-3, rel=1e-3)
    assert torch.equal(whole["fc8.weight"], short["fc8.weight"])
    loose = gradients(1e6)
    assert all(torch.equal(whole[name], loose[name]) for name in whole)


def test_the_last_layer_has_a_rate_of_its_own_and_blocks_below_stay():
    recipe = find_recipe("quick", trainable="conv5", head_rate=0.1)
    net = make_net(head="linear")
    optimiser = make_optimiser(net, recipe)
    assert sorted(group["factor"] for group in optimiser.param_groups) == [0.1, 1]
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    learning = {names[id(parameter)] for group in optimiser.param_groups for parameter in group["params"]}
    assert {name.partition(".")[0] for name in learning} == {"conv5_1", "conv5_2", "fc8"}
