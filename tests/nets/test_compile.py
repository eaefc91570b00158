"""torch.compile takes a net as one graph: a break would cost the fusions that make it worth while on a GPU.

The graph is captured and then run as it is; tests/gpu compiles it.
"""

import jaxtyping
import pytest
import torch

from verydeep.nets.net import VeryDeep


@pytest.fixture(autouse=True)
def shapes_unchecked():
    """What checks the shapes in the tests cannot be captured."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("name", "bf16"),
    [
        ("A-LRN", False),
        ("D-bn", True),
        pytest.param("A-LRN", True, marks=pytest.mark.slow),
        pytest.param("D-bn", False, marks=pytest.mark.slow),
    ],
)
def test_one_graph_gives_the_same_scores(name, bf16):
    net = VeryDeep(name, num_classes=5, crop=64, width=0.125, generator=torch.Generator().manual_seed(0)).eval()
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        scores, whole = compiled(images), net(images)
        assert torch.allclose(scores.float(), whole.float(), rtol=0.05 if bf16 else 1e-4, atol=0.05 if bf16 else 1e-4)
        assert torch.allclose(compiled(images.float()).float(), scores.float())
