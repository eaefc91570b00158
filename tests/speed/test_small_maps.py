"""Small convolutions as products against float64 autograd."""

import pytest
import torch
import torch.nn.functional as F

from verydeep.speed.small_maps import convolve_small, is_small, max_positions


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(
    ("n", "c", "k", "y", "x"), [(2, 8, 16, 2, 2), (1, 3, 5, 4, 4), (3, 16, 8, 1, 7), (2, 4, 4, 1, 1)]
)
@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_value_and_gradients(kernel, n, c, k, y, x, precision, tolerance):
    generator = torch.Generator().manual_seed(0)
    leaves = [
        torch.randn(*shape, generator=generator).requires_grad_()
        for shape in ((n, c, y, x), (k, c, kernel, kernel), (k,))
    ]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    upstream = torch.randn(n, k, y, x, generator=generator)
    ours = convolve_small(*leaves, precision)
    theirs = F.conv2d(*exact, padding=kernel // 2)
    ours.backward(upstream.to(precision))
    theirs.backward(upstream.double())
    assert ours.dtype == precision
    pairs = [(ours.detach(), theirs.detach()), *((a.grad, b.grad) for a, b in zip(leaves, exact, strict=True))]
    for mine, true in pairs:
        assert (mine.double() - true).norm() <= tolerance * true.norm()


def test_no_gradient_for_an_image_that_needs_none():
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    convolve_small(torch.randn(1, 3, 2, 2), weight, torch.zeros(4), torch.float32).sum().backward()
    assert weight.grad is not None


def test_only_small_maps_on_the_processor():
    assert is_small(torch.zeros(1, 1, 2, 2), torch.bfloat16)
    assert not is_small(torch.zeros(1, 1, 4, 4), torch.float32)
    assert not is_small(torch.zeros(1, 1, 14, 14), torch.bfloat16)
    assert not is_small(torch.zeros(1, 1, 1, 1), torch.float64)
    assert not is_small(torch.zeros(1, 1, 1, 1, device="meta"), torch.float32)


@pytest.mark.parametrize(("amx", "places"), [(True, 16), (False, 4), (None, 4)])
def test_larger_maps_are_products_where_a_processor_multiplies_matrices(monkeypatch, amx, places):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {} if amx is None else {"amx_bf16": amx})
    max_positions.cache_clear()
    assert max_positions(torch.bfloat16) == places
    assert max_positions(torch.float32) == 4
    max_positions.cache_clear()


def test_weights_made_in_inference_mode():
    with torch.inference_mode():
        map_, weight, bias = torch.randn(1, 3, 2, 2), torch.randn(4, 3, 3, 3), torch.randn(4)
    with torch.no_grad():
        made = convolve_small(map_, weight, bias, torch.float32)
        assert torch.allclose(made, F.conv2d(map_, weight, bias, padding=1), atol=1e-5)
