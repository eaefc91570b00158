"""The chain: what may follow what, and batch norms of another epsilon."""

import pytest
import torch
import torch.nn.functional as F

from verydeep.errors import UserError
from verydeep.weights.layer_order import LayerOrder, as_convolution


@pytest.fixture
def chain():
    chain = LayerOrder()
    chain.convolution("first", torch.randn(4, 3, 3, 3), None)
    return chain


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5, 1e-7, 0.0])
def test_another_epsilon_gives_the_same_batch_norm(chain, epsilon):
    generator = torch.Generator().manual_seed(0)
    scale, shift, mean = (torch.randn(4, generator=generator) for _ in range(3))
    variance = torch.tensor([0.5, 2.0, 1e-6, 1e-4])
    chain.batch_norm("norm", scale, shift, mean, variance, epsilon)
    x = torch.randn(2, 4, 5, 5, generator=generator).double()
    expected = F.batch_norm(x, *(part.double() for part in (mean, variance, scale, shift)), eps=epsilon)
    ours = [chain.tensors[f"bn1_1.{part}"].double() for part in ("running_mean", "running_var", "weight", "bias")]
    assert ours[1].min() >= 0
    torch.testing.assert_close(F.batch_norm(x, *ours, eps=1e-5), expected, rtol=1e-4, atol=1e-4)


def test_both_orders_of_fc6(chain):
    maps, weight = torch.randn(2, 4, 3, 3), torch.randn(5, 36)
    for _ in range(5):
        chain.relu("relu")
        chain.pooling("pool", kernel=2, stride=2)
        if not chain.in_head:
            chain.convolution("next", torch.randn(4, 4, 3, 3), torch.zeros(4))
    chain.connected("hidden", weight, None, "yxc")
    expected = F.linear(maps.permute(0, 2, 3, 1).flatten(1), weight)
    layer = chain.head[0]
    torch.testing.assert_close(F.conv2d(maps, as_convolution(layer.weight, 4, layer.order)).flatten(1), expected)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda chain: chain.pooling("p", kernel=2, stride=2), "'p' is a pooling after a convolution"),
        (lambda chain: chain.connected("f", torch.zeros(2, 4), None), "'f' is a fully connected layer after"),
        (lambda chain: chain.batch_norm("b", None, None, torch.zeros(3), torch.ones(3), 0), "3 numbers for 4 channels"),
        (lambda chain: chain.add_bias("a", torch.zeros(3)), "adds 3 numbers after a convolution"),
        (lambda chain: chain.finish(), "ends after 1 layers with weights, in block 1"),
    ],
)
def test_refused(chain, step, message):
    with pytest.raises(UserError, match=message):
        step(chain)
