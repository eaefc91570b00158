"""Lower precisions: what computes them, and how near they come."""

import warnings

import pytest
import torch

from small_nets import difference, in_threads, make_net, photos
from verydeep import ARCHITECTURES, accelerate
from verydeep.errors import UsageError, UserError
from verydeep.speed import choosing, engines
from verydeep.speed.choosing import Candidate
from verydeep.speed.openvino_net import OpenVinoNet, nncf_version, openvino_version

needs_openvino = pytest.mark.skipif(not openvino_version(), reason="OpenVINO is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:computing with torch instead of verydeep's kernel")  # no compiler
needs_nncf = pytest.mark.skipif(not (openvino_version() and nncf_version()), reason="NNCF is not installed")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("VERYDEEP_CACHE", str(tmp_path))


@pytest.fixture(params=["PyTorch", pytest.param("OpenVINO", marks=needs_openvino)])
def library(request, monkeypatch) -> str:
    """Leaves one library to compute bf16."""
    every = engines._bf16
    monkeypatch.setattr(engines, "has_fast_bf16", lambda _: True)
    monkeypatch.setattr(engines, "_bf16", lambda: [one for one in every() if one.name.startswith(request.param)])
    return request.param


@pytest.mark.parametrize("name", list(ARCHITECTURES))
@pytest.mark.parametrize("batch_norm", [False, True])
def test_bf16_comes_within_a_hundredth(library, name, batch_norm):
    net, images = make_net(name, batch_norm=batch_norm, crop=64, width=0.25), photos(98, 131)
    fast = accelerate(net, precision="bf16")
    assert fast.engine.startswith(f"{library} ")
    assert "bf16" in fast.engine
    with torch.inference_mode():
        assert difference(fast.score_map(images), net.score_map(images)) < 2e-2  # narrow nets round the more
        assert difference(fast.features(images), net.features(images)) < 2e-2
        assert difference(fast.head(net.features(images)), net.score_map(images)) < 1e-2
        crops = images[:, :, 10:74, 20:84]  # OpenVINO computes them by a graph of all layers
        assert difference(fast.score_map(crops), net.score_map(crops)) < 2e-2
    assert fast(images).dtype == fast.features(images).dtype == torch.float32


def test_bf16_of_a_photograph_at_full_width(library, shared_photos):
    net, images = make_net("D", crop=224, width=1, num_classes=1000), photos(224, 224, 1)
    with torch.inference_mode():
        assert difference(accelerate(net, precision="bf16")(images), net(images)) < 1e-2


def test_bf16_takes_what_fp32_takes(library):
    net, images = make_net(crop=64), photos(66, 97)
    fast = accelerate(net, precision="bf16")
    scores, features = fast(images), fast.features(images)
    for same in (images.contiguous(), images.float(), images.double(), images.to(torch.int64)):
        assert torch.equal(fast(same), scores)
    assert fast(photos(130, 70, 5)).shape == (5, 7)
    assert torch.equal(fast.features(images), features)  # a tensor of its own
    assert fast(torch.zeros(0, 3, 70, 80)).shape == (0, 7)
    assert not fast(images).requires_grad
    with torch.inference_mode():
        inside = fast(images.clone())
    assert torch.equal(fast(images), inside)
    with pytest.raises(UserError, match="smaller than this net's crop of 64"):
        fast(torch.zeros(1, 3, 40, 70))
    with pytest.raises(UserError, match=r"look like 0\.\.1"):
        fast(torch.rand(1, 3, 64, 64))


def test_scores_of_crops_are_a_tensor_of_their_own(library):
    net, images = make_net(crop=64), photos(64, 64, 4)
    fast, map_ = accelerate(net, precision="bf16"), torch.rand(4, 64, 2, 2)
    for call, first, second in ((fast.score_map, images[:2], images[2:]), (fast.head, map_[:2], map_[2:])):
        scores = call(first)
        kept = scores.clone()
        assert not torch.equal(call(second), kept)
        assert torch.equal(scores, kept)


def test_threads_with_crops_of_their_own_get_their_own_scores(library):
    fast, images = accelerate(make_net(), precision="bf16"), photos(32, 32, 16)
    crops = (images[:8], images[8:])
    expected = [fast(each) for each in crops]
    wrong = []

    def compute(number: int) -> None:
        wrong.extend(number for _ in range(50) if not torch.equal(fast(crops[number]), expected[number]))

    in_threads(compute)
    assert not wrong


def test_bf16_follows_the_net(library):
    net, other, images = make_net(seed=0), make_net(seed=1), photos(33, 40)
    fast = accelerate(net, precision="bf16")
    fast(images)
    for change in (
        lambda: net.load_state_dict(other.state_dict()),
        lambda: net.set_input((1, 2, 3), (50, 60, 70)),
        lambda: setattr(net, "conv1_1", make_net(seed=2).conv1_1),
    ):
        change()
        with torch.inference_mode():
            assert difference(fast(images), net(images)) < 2e-2
    net.bfloat16()
    with pytest.raises(UserError, match=r"this net is in bfloat16: make it net\.float\(\) first"):
        fast(images)


def test_bf16_of_convolutions_alone(library):
    net, images = make_net("D", features_only=True), photos(70, 45)
    fast = accelerate(net, precision="bf16")
    with torch.inference_mode():
        assert difference(fast.features(images), net.features(images)) < 2e-2
    with pytest.raises(UserError, match="convolutions"):
        fast(images)


def test_auto_chooses_among_fp32_and_bf16_and_says_what_it_measured(monkeypatch):
    monkeypatch.setattr(engines, "has_fast_bf16", lambda _: True)
    fast = accelerate(make_net(), precision="auto")
    assert fast.engine == min(fast.seconds, key=fast.seconds.__getitem__)
    assert any("bf16" in name for name in fast.seconds)
    assert any("fp32" in name for name in fast.seconds)
    assert not any("int8" in name for name in fast.seconds)


def test_auto_without_bf16_products_is_fp32_unmeasured(monkeypatch):
    monkeypatch.setattr(engines, "has_fast_bf16", lambda _: False)
    fast = accelerate(make_net(), precision="auto")
    assert "fp32" in fast.engine
    assert fast.seconds == {}


def test_bf16_that_is_not_fast_here_says_so(monkeypatch):
    monkeypatch.setattr(engines, "has_fast_bf16", lambda _: False)
    with pytest.warns(UserWarning, match="this processor has no bf16 products: fp32 is faster"):
        engines.candidates("bf16")


@needs_nncf
@pytest.mark.parametrize(("name", "batch_norm"), [("A-LRN", False), ("D", True)])
def test_int8_is_calibrated_on_images_and_follows_the_net(name, batch_norm):
    net, images = make_net(name, batch_norm=batch_norm, crop=64, width=0.25), photos(98, 131, 6)
    fast = accelerate(net, precision="int8", calibrate=[images[:4], images[4:].float()])
    assert fast.engine == f"OpenVINO {openvino_version()} int8, quantised by NNCF {nncf_version()}"
    with torch.inference_mode():
        assert 1e-3 < difference(fast(images), net(images)) < 0.1
        assert difference(fast.features(images), net.features(images)) < 0.1
        crops = images[:, :, 10:74, 20:84]
        assert difference(fast.score_map(crops), fast.head(fast.features(crops))) < 2e-2
    net.load_state_dict(make_net(name, seed=1, batch_norm=batch_norm, crop=64, width=0.25).state_dict())
    with torch.inference_mode():
        assert difference(fast(images), net(images)) < 0.1


@needs_nncf
def test_auto_quantises_once(monkeypatch):
    quantise, calls = OpenVinoNet._quantised, []

    def counted(*arguments):
        calls.append(1)
        return quantise(*arguments)

    monkeypatch.setattr(OpenVinoNet, "_quantised", counted)
    monkeypatch.setattr(engines, "has_fast_bf16", lambda _: False)
    monkeypatch.setattr(choosing, "_time", lambda net, computes, images: float(not isinstance(computes, OpenVinoNet)))
    fast = accelerate(make_net(), precision="auto", calibrate=photos(32, 32))
    assert "int8" in fast.engine
    fast(photos(32, 32))
    assert len(calls) == 1


@needs_nncf
def test_auto_with_images_may_choose_int8(monkeypatch):
    names = [one.name for one in engines.candidates("auto", [photos(64, 64)])]
    assert sum("int8" in name for name in names) == 1


def test_int8_without_images_or_libraries_is_one_line(monkeypatch):
    net = make_net()
    with pytest.raises(UsageError, match="int8 needs images to find its scales by: give calibrate=images"):
        accelerate(net, precision="int8")
    with pytest.raises(UserError, match="there are no images"):
        accelerate(net, precision="int8", calibrate=[])
    with pytest.raises(UserError, match="smaller than this net's crop"):
        accelerate(net, precision="int8", calibrate=torch.zeros(1, 3, 16, 16))
    monkeypatch.setattr(engines, "nncf_version", lambda: None)
    with pytest.raises(UserError, match=r'int8 needs .* not installed: pip install "verydeep\[openvino\]"'):
        accelerate(net, precision="int8", calibrate=photos(32, 32))


def test_without_openvino_pytorch_computes_bf16(monkeypatch):
    monkeypatch.setattr(engines, "openvino_version", lambda: None)
    monkeypatch.setattr(engines, "has_fast_bf16", lambda _: True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (only,) = engines.candidates("bf16")
    assert isinstance(only, Candidate)
    assert only.name == f"PyTorch {torch.__version__.partition('+')[0]} bf16, channels last"
