"""The updates that are compared are the same update."""

import copy

import pytest
import torch

from benchmarks.compare.contender import Options
from benchmarks.compare.nets import as_torchvision_builds_it, make_net, normalised, random_images
from benchmarks.compare.training import Training, our_step, peer_step
from verydeep.device import Compute
from verydeep.errors import UsageError


@pytest.mark.parametrize("batch_norm", [False, True])
def test_both_updates_have_the_same_gradients(batch_norm):
    options = Options(what="training", architecture="A", crop=32, width=0.125, batch_norm=batch_norm)
    net = make_net(options, num_classes=7).train()
    images, labels = random_images(4, 32), torch.arange(4)
    twin = as_torchvision_builds_it(net)
    choice = Compute(device="cpu", precision="fp32", channels_last=True, threads=1)
    ours = our_step(copy.deepcopy(net), images, labels, choice)
    theirs = peer_step(twin, normalised(net, images), labels, bf16=False, channels_last=False)
    before = [parameter.detach().clone() for parameter in ours.net.parameters()]
    for step in (ours, theirs):
        assert step() is step
    for parameter, old in zip(ours.net.parameters(), before, strict=True):
        assert torch.equal(parameter, old)  # the rate is zero
    for mine, other in zip(ours.gradients(4), theirs.gradients(4), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()) + 1e-6)


def test_the_usual_cases():
    names = [case.name for case in Training(Options(what="training", width=0.0625)).cases()]
    assert names == [
        "D (VGG-16), width 0.0625, update of 16",
        "D (VGG-16) with batch norm, crop 32, width 0.0625, update of 128",
    ]


def test_no_training_in_int8():
    with pytest.raises(UsageError, match="fp32 or bf16"):
        Training(Options(what="training", precision="int8"))
