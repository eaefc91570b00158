"""Perceptual losses: ranges, references, gradients where they are delicate, precisions, and what is refused."""

import copy
import pickle
import warnings

import pytest
import torch

import verydeep
from benchmarks.compare import peer_losses
from small_nets import assert_gradients_agree, make_net
from verydeep.errors import UsageError, UserError
from verydeep.losses import DISTS, LPIPS, Content, Style

SMALL = {
    "content": lambda net: Content(net, ["relu2_2", "pool3"]),
    "before a ReLU": lambda net: Content(net, ["conv2_1"], weights=[0.5]),
    "style": lambda net: Style(net, ["relu1_1", "relu2_2"], pooling="average"),
    "lpips": lambda net: LPIPS(net, linear=False),
}


@pytest.fixture(scope="module")
def net():
    return make_net("D")


def pair(seed=0, size=(20, 27), count=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, count, 3, *size, generator=generator).unbind()


@pytest.mark.parametrize("kind", SMALL)
def test_every_way_of_computing_gives_the_same(net, kind, monkeypatch):
    loss, (x, y) = SMALL[kind](net), pair()
    expected = loss._compared(x, y, 1)
    assert expected.shape == (3,)
    wanted = x.clone().requires_grad_(), y.clone().requires_grad_()
    gradients = torch.autograd.grad(loss._compared(*wanted, 1).sum(), wanted)
    monkeypatch.setattr("verydeep.losses.pictures.MOST_PIXELS", 1000)  # one picture at a time
    reference = loss.reference(y, data_range=1)
    one = loss.reference(y[:1], data_range=1)
    for given in (y, reference):
        torch.testing.assert_close(loss(x, given, data_range=1), expected, rtol=1e-4, atol=1e-6)
        moving = x.clone().requires_grad_()
        value = loss(moving, given, data_range=1)
        value.sum().backward()
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
        assert_gradients_agree(moving.grad, gradients[0])
    torch.testing.assert_close(
        loss(x, one, data_range=1), loss(x, y[:1].expand_as(x), data_range=1), rtol=1e-4, atol=1e-6
    )
    moving = x.clone().requires_grad_(), y.clone().requires_grad_()
    found = torch.autograd.grad((loss(*moving, data_range=1) * torch.tensor([1.0, 2.0, 0.0])).sum(), moving)
    for got, full in zip(found, gradients, strict=True):
        for index, factor in enumerate((1, 2)):
            assert_gradients_agree(got[index], factor * full[index])
        assert got[2].count_nonzero() == 0
    moving = y.clone().requires_grad_()
    loss(x, moving, data_range=1).sum().backward()
    assert_gradients_agree(moving.grad, gradients[1])


@pytest.mark.parametrize("kind", SMALL)
def test_bytes_are_in_0_to_255_and_so_may_floats_be(net, kind):
    loss, (x, y) = SMALL[kind](net), [(255 * each).to(torch.uint8) for each in pair()]
    expected = loss(x.float() / 255, y.float() / 255, data_range=1)
    for given in ((x, y), (x.float(), y.float())):
        torch.testing.assert_close(loss(*given, data_range=255), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [*SMALL.values(), DISTS], ids=[*SMALL, "dists"])
@pytest.mark.parametrize("what", ["equal", "black", "black and grey", "both black"])
def test_gradients_are_finite(net, make, what):
    loss = make(net if make is not DISTS else peer_losses.shared_net())
    x, _ = pair(count=1, size=(16, 16))
    black = torch.zeros_like(x)
    first, second = {
        "equal": (x, x),
        "black": (black, x),
        "black and grey": (black, black + 0.5),
        "both black": (black, black),
    }[what]
    for compute in (lambda *given: loss(*given, data_range=1), lambda *given: loss.total(loss._compared(*given, 1))):
        given = first.clone().requires_grad_(), second.clone().requires_grad_()
        with warnings.catch_warnings(), torch.autograd.set_detect_anomaly(True):
            warnings.filterwarnings("error", message=".*nan")
            value = compute(*given)
            value.sum().backward()
        assert all(each.grad.isfinite().all() for each in given)
        assert value.abs().max() < 1e-5 or what not in ("equal", "both black")


def test_gradients_of_gradients(net):
    loss, (x, y) = LPIPS(net, linear=False), pair(count=1)
    given = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(given, y, data_range=1).sum(), given, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), given)
    assert second.isfinite().all()
    assert second.abs().sum() > 0


@pytest.mark.parametrize("kind", SMALL)
def test_bf16_is_near(net, kind):
    x, y = pair()
    exact = SMALL[kind](net)
    rough = copy.deepcopy(exact).bfloat16()
    assert rough(x, y, data_range=1).dtype == torch.float32
    torch.testing.assert_close(rough(x, y, data_range=1), exact(x, y, data_range=1), rtol=0.1, atol=1e-3)
    asked = Content(net, precision="bf16")
    assert "bf16" in asked.description
    moving = x.clone().requires_grad_()
    asked(moving, y, data_range=1).sum().backward()
    assert moving.grad.isfinite().all()


def test_it_has_nothing_that_is_trained_or_stored(net):
    loss = Content(net, ["relu1_2", "relu2_1"])
    assert list(loss.parameters()) == []
    assert loss.state_dict() == {}


def test_a_copy_and_a_pickle_compute_the_same(net):
    loss, (x, y) = Style(net), pair()
    expected = loss(x, y, data_range=1)
    for same in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(same(x, y, data_range=1), expected)


def test_each_says_what_it_is(net, tmp_path):
    file = tmp_path / "small.safetensors"
    verydeep.save(net, file)
    loss = Content(str(file), ["relu3_3", "relu1_1"])
    assert repr(loss).startswith("Content(content (squared difference, mean over positions, sum over channels) on ")
    for part in ("small.safetensors", "D (VGG-16)", "relu1_1, relu3_3", "max-pooling", "fp32", "weights "):
        assert part in loss.description
    other = Content(make_net("D", seed=1), ["relu3_3", "relu1_1"])
    assert loss.description[-8:] != other.description[-8:]
    assert "LPIPS v0.1 on D (VGG-16)" in repr(LPIPS(peer_losses.shared_net()))
    x, y = pair()
    with pytest.raises(UserError, match="reference of another loss"):
        other(x, loss.reference(y, data_range=1), data_range=1)


@pytest.mark.parametrize(
    ("change", "data_range", "message"),
    [
        (lambda x, y: (2 * x - 1, y), 1, r"x from -1 to .* which is not 0\.\.1: \(x \+ 1\) / 2 makes"),
        (lambda x, y: (x, 255 * y), 1, r"y from .* to 255, which is not 0\.\.1: give data_range=255"),
        (lambda x, y: (x, y), 255, r"x from .* which is not 0\.\.255: give data_range=1"),
        (lambda x, y: (3 * (x - 0.5), y), 1, r"not 0\.\.1: say its range"),
        (lambda x, y: (x * float("nan"), y), 1, "x has NaN"),
        (lambda x, y: (x[0], y), 1, r"x of shape \(3, 20, 27\): give n,3,h,w"),
        (lambda x, y: (x[:, :1], y), 1, "give n,3,h,w"),
        (lambda x, y: (x[:0], y[:0]), 1, "give n,3,h,w"),
        (lambda x, y: (x, y[:2]), 1, r"x of shape \(3, 3, 20, 27\) and y of \(2, 3, 20, 27\)"),
        (lambda x, y: (x, y[..., 1:]), 1, "pictures of one size"),
        (lambda x, y: (x, y.double()), 1, r"x in float32 and y in float64: .* y.to\(x.dtype\)"),
        (lambda x, y: (x.to(torch.uint8), y.to(torch.uint8)), 1, "uint8 with data_range=1.* give data_range=255"),
        (lambda x, y: (x.long(), y), 1, "x in int64: give uint8 or floating point"),
        (lambda x, y: (x[..., :3, :3], y[..., :3, :3]), 1, "images of 3x3 pixels: nothing is left of them at relu3_3"),
        (lambda x, y: (x, y), 2, "data_range=2: give 1 for pictures in 0..1 or 255"),
        (lambda x, y: (x, y), True, "data_range=True: give 1"),
    ],
)
def test_what_is_refused(net, change, data_range, message):
    x, y = pair()
    x[0, 0, 0, 0], y[0, 0, 0, 0] = 0, 1
    with pytest.raises(UserError, match=message):
        Content(net)(*change(x, y), data_range=data_range)


def test_what_cannot_be_made(net):
    for make, message in (
        (lambda: Content(net, ["relu3-3"]), "did you mean relu3_3"),
        (lambda: Content(net, "relu3_3"), "give a list of names"),
        (lambda: Content(net, []), "no layers"),
        (lambda: Content(net, ["relu1_1"], weights=[1, 2]), "2 weights for 1 layers"),
        (lambda: Style(net, pooling="mean"), "choose one of max, average"),
        (lambda: Style(net, precision="fp16"), "choose one of fp32, bf16"),
        (lambda: LPIPS(net), "the weights of LPIPS are for D"),
        (lambda: DISTS(net), "the weights of DISTS are for D"),
        (lambda: LPIPS(make_net("A"), linear=False), "no layer 'relu1_2' in A"),
    ):
        with pytest.raises(UsageError, match=message):
            make()
    with pytest.raises(UserError, match=r"none\.safetensors"):
        Content("none.safetensors")


def test_a_picture_of_one_pixel_where_a_layer_takes_it(net):
    x, y = pair(size=(1, 1))
    assert Content(net, ["relu1_2"])(x, y, data_range=1).shape == (3,)
    assert DISTS(peer_losses.shared_net())(x, y, data_range=1).isfinite().all()
