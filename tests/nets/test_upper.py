"""The upper blocks on stored maps give what the whole net gives."""

import pytest
import torch

from verydeep.nets.net import VeryDeep
from verydeep.nets.upper import UpperBlocks


@pytest.mark.parametrize("first_block", [2, 3, 4, 5])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_scores_are_those_of_the_whole_net(first_block, batch_norm):
    net = VeryDeep("D", num_classes=4, width=0.125, crop=64, head="linear", batch_norm=batch_norm).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    name = f"pool{first_block - 1}"
    maps = net.activations(images, [name])[name]
    torch.testing.assert_close(UpperBlocks(net, first_block)(maps), net(images))


def test_only_what_is_above_gets_gradients():
    net = VeryDeep("A", num_classes=4, width=0.125, crop=64, head="linear")
    UpperBlocks(net, 5)(torch.rand(2, 64, 4, 4).half()).sum().backward()
    learnt = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert learnt == {f"{layer}.{part}" for layer in ("conv5_1", "conv5_2", "fc8") for part in ("weight", "bias")}


@pytest.mark.parametrize("again", [False, True])
def test_gradient_checkpointing_changes_no_gradient(again):
    torch.manual_seed(0)
    net = VeryDeep("A", num_classes=4, width=0.125, crop=64, head="linear")
    maps = torch.rand(2, 32, 8, 8)
    UpperBlocks(net, 4)(maps).sum().backward()
    expected = net.conv4_1.weight.grad.clone()
    net.zero_grad()
    net.gradient_checkpointing = again
    UpperBlocks(net, 4)(maps).sum().backward()
    torch.testing.assert_close(net.conv4_1.weight.grad, expected)
