"""Lower precisions: what computes them, and how near they come."""

import pytest
import torch

from small_nets import difference, in_threads, make_net, photos
from verydeep import ARCHITECTURES, accelerate
from verydeep.errors import UsageError, UserError
from verydeep.speed import backend
from verydeep.speed.openvino_backend import nncf_version, openvino_version

needs_openvino = pytest.mark.skipif(not openvino_version(), reason="OpenVINO is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:computing with torch instead of verydeep's kernel")  # no compiler
needs_nncf = pytest.mark.skipif(not (openvino_version() and nncf_version()), reason="NNCF is not installed")


@pytest.fixture(params=["PyTorch", pytest.param("OpenVINO", marks=needs_openvino)])
def library(request, monkeypatch) -> str:
    """Leaves one library to compute bf16."""
    every = backend.bf16_kinds
    monkeypatch.setattr(backend, "has_fast_bf16", lambda _: True)
    only = lambda: [one for one in every() if one.name.startswith(request.param)]  # noqa: E731 - short
    monkeypatch.setattr(backend, "bf16_kinds", only)
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
    with pytest.raises(UserError, match="too small for this net: rescale their shorter side to at least 64"):
        fast(torch.zeros(1, 3, 40, 70))


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


def test_bf16_of_weights_that_were_changed_is_refused(library):
    net = make_net(seed=0)
    fast = accelerate(net, precision="bf16")
    net.load_state_dict(make_net(seed=1).state_dict())
    with pytest.raises(UserError, match="accelerate it again"):
        fast(photos(33, 40))


def test_bf16_of_convolutions_alone(library):
    net, images = make_net("D", features_only=True), photos(70, 45)
    fast = accelerate(net, precision="bf16")
    with torch.inference_mode():
        assert difference(fast.features(images), net.features(images)) < 2e-2
    with pytest.raises(UserError, match="convolutions"):
        fast(images)


@needs_nncf
@pytest.mark.parametrize(("name", "batch_norm"), [("A-LRN", False), ("D", True)])
def test_int8_is_calibrated_on_images(name, batch_norm):
    net, images = make_net(name, batch_norm=batch_norm, crop=64, width=0.25), photos(98, 131, 6)
    fast = accelerate(net, precision="int8", calibrate=[images[:4], images[4:].float()])
    assert fast.engine == f"OpenVINO {openvino_version()} int8, quantised by NNCF {nncf_version()}"
    with torch.inference_mode():
        assert 1e-3 < difference(fast(images), net(images)) < 0.1
        assert difference(fast.features(images), net.features(images)) < 0.1
        crops = images[:, :, 10:74, 20:84]
        assert difference(fast.score_map(crops), fast.head(fast.features(crops))) < 2e-2


def test_int8_without_images_or_libraries_is_one_line(monkeypatch):
    net = make_net()
    with pytest.raises(UsageError, match="int8 needs images to find its scales by: give calibrate=images"):
        accelerate(net, precision="int8")
    with pytest.raises(UserError, match="there are no images"):
        accelerate(net, precision="int8", calibrate=[])
    with pytest.raises(UserError, match="too small for this net"):
        accelerate(net, precision="int8", calibrate=torch.zeros(1, 3, 16, 16))
    monkeypatch.setattr(backend, "nncf_version", lambda: None)
    with pytest.raises(UserError, match=r'int8 needs .* not installed: pip install "verydeep\[openvino\]"'):
        accelerate(net, precision="int8", calibrate=photos(32, 32))
