"""The layers as modules against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from verydeep.nets.architecture import Layer
from verydeep.nets.layers import FullyConnected


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("kernel", "side"), [(1, 1), (2, 2), (3, 3), (2, 5), (3, 7)])
def test_fully_connected_is_the_convolution(kernel, side, last):
    layer = Layer(
        name="fc6", kind="fully-connected", kernel=kernel, in_channels=8, channels=16,
        side=1, parameters=0, macs=0, receptive_field=1,
    )  # fmt: skip
    fc = FullyConnected(layer)
    nn.init.normal_(fc.weight)
    assert fc.bias is not None
    nn.init.normal_(fc.bias)
    if last:
        fc = fc.to(memory_format=torch.channels_last)
    x = torch.randn(3, 8, side, side + 1)
    assert torch.allclose(fc(x), F.conv2d(x, fc.weight, fc.bias), atol=1e-5)
