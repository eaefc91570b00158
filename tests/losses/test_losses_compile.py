"""torch.compile takes a loss as one graph, and torch.export takes it at all."""

import jaxtyping
import pytest
import torch
from torch import nn

from small_nets import assert_gradients_agree, make_net
from verydeep.losses import LPIPS, Content, Style


@pytest.fixture(autouse=True)
def shapes_unchecked():
    """What checks the shapes in the tests cannot be captured."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    torch.compiler.reset()


@pytest.mark.parametrize("make", [Content, Style, lambda net: LPIPS(net, linear=False)])
def test_one_graph(make):
    loss, (x, y) = make(make_net("D")), torch.rand(2, 2, 3, 16, 16).unbind()
    compiled = torch.compile(lambda a, b: loss(a, b, data_range=1), fullgraph=True, backend="aot_eager")
    expected = loss._compared(x, y, 1)
    torch.testing.assert_close(compiled(x, y), expected, rtol=1e-4, atol=1e-6)
    given = x.clone().requires_grad_(), x.clone().requires_grad_()
    compiled(given[0], y).sum().backward()
    loss._compared(given[1], y, 1).sum().backward()
    assert_gradients_agree(given[0].grad, given[1].grad)


def test_exported():
    class Distance(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loss = LPIPS(make_net("D"), linear=False)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.loss(x, y, data_range=1)

    module, (x, y) = Distance(), torch.rand(2, 2, 3, 16, 16).unbind()
    program = torch.export.export(module, (x, y)).module()
    torch.testing.assert_close(program(x, y), module.loss._compared(x, y, 1), rtol=1e-4, atol=1e-6)
