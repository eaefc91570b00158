"""An accelerated net gives what the net gives."""

import gc
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import verydeep
from small_nets import difference, in_threads, make_net, photos
from verydeep import ARCHITECTURES, accelerate
from verydeep.errors import UsageError, UserError
from verydeep.nets import checks
from verydeep.speed import backend, tiling
from verydeep.speed.library import KERNELS, NoKernelError, find_kernel


def kernels() -> list[str]:
    return [name for name, needs in KERNELS.items() if all(map(torch.cpu.get_capabilities().get, needs))]


@pytest.fixture(autouse=True)
def kernel_is_there(request: pytest.FixtureRequest) -> None:
    if "without_kernel" not in request.fixturenames:
        try:
            find_kernel()
        except NoKernelError as error:
            pytest.skip(str(error))


@pytest.fixture
def without_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise NoKernelError("the kernel plain was not built: install a C++ compiler, then verydeep again")

    monkeypatch.setattr(backend, "find_kernel", missing)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("height", "width"), [(65, 97), (131, 79)])
def test_every_architecture_gives_the_same_scores(name, batch_norm, height, width):
    net, images = make_net(name, batch_norm=batch_norm, crop=64), photos(height, width)
    fast = accelerate(net)
    with torch.inference_mode():
        assert difference(fast.score_map(images), net.score_map(images)) < 1e-5
        assert difference(fast.features(images), net.features(images)) < 1e-5
        exact = net.double()(images)
    net.float()
    assert difference(fast(images), exact) < 5e-6


@pytest.mark.parametrize("name", kernels())
def test_every_kernel_gives_the_same_scores(monkeypatch, name):
    monkeypatch.setenv("VERYDEEP_KERNEL", name)
    net, images = make_net("D", batch_norm=True, width=0.25), photos(67, 45, 5)
    fast = accelerate(net)
    assert name in fast.engine
    with torch.inference_mode():
        assert difference(fast(images), net(images)) < 1e-5


def test_photographs_at_full_width(shared_photos):
    net = make_net("D", crop=224, width=1, num_classes=1000)
    images = torch.stack([_centre(file) for file in shared_photos[:1]])
    fast = accelerate(net)(images)
    with torch.inference_mode():
        exact = net.double()(images)
    assert difference(fast, exact) < 5e-6


def _centre(file: Path) -> Tensor:
    with Image.open(file) as image:
        return torch.from_numpy(np.array(image.convert("RGB").resize((224, 224)))).permute(2, 0, 1)


def test_the_net_s_own_facts_are_there():
    net = make_net("vgg16_bn")
    net.classes, net.mirror, net.train_scale = ("a", "b", "c", "d", "e", "f", "g"), False, (37, 73)
    fast = accelerate(net)
    assert (fast.geometry, fast.classes, fast.mirror, fast.train_scale) == (net.geometry, net.classes, False, (37, 73))
    assert repr(fast).startswith("Accelerated(D (VGG-16) with batch norm, crop 32, width 0.125, verydeep's kernel (")
    assert repr(fast).endswith("), fp32)")


def test_pixels_of_every_kind_give_the_same_bits():
    fast, images = accelerate(make_net()), photos(45, 33)
    scores = fast(images)
    for same in (images.contiguous(), images.float(), images.double(), images.to(torch.int64)):
        assert torch.equal(fast(same), scores)
    assert torch.equal(fast(images.flip(3).flip(3)), scores)
    assert torch.equal(fast(torch.nn.functional.pad(images, (1, 2, 3, 4))[:, :, 3:-4, 1:-2]), scores)


def test_images_of_other_sizes_between_change_nothing():
    fast = accelerate(make_net())
    small, large = photos(33, 40), photos(90, 120, 3)
    before, features = fast(small), fast.features(small)
    fast(large)
    assert torch.equal(fast(small), before)
    assert torch.equal(fast.features(small), features)  # a tensor of its own, not the buffer


def test_the_head_takes_parts_of_maps(monkeypatch):
    net, images = make_net(crop=64, width=0.3), photos(160, 130, 3)
    fast = accelerate(net)
    with torch.inference_mode():
        map_ = net.features(images)[:, :, 1:, :3]
        assert difference(fast.head(map_), net.head(map_)) < 1e-5
        whole = fast.score_map(images)
        monkeypatch.setattr("verydeep.nets.graph._WINDOW_FLOATS", 1)
        assert difference(fast.score_map(images), whole) < 1e-6


def test_a_net_of_convolutions_alone_gives_features_and_no_scores():
    net, images = make_net("D", batch_norm=True, features_only=True), photos(70, 45)
    fast = accelerate(net)
    with torch.inference_mode():
        assert difference(fast.features(images), net.features(images)) < 1e-5
    for call in (lambda: fast(images), lambda: fast.head(fast.features(images))):
        with pytest.raises(UserError, match="convolutions"):
            call()


def test_it_is_a_snapshot_of_the_net():
    net, images = make_net(seed=0), photos(33, 40)
    fast = accelerate(net)
    before = fast(images)
    for change in (
        lambda: net.set_input((1, 2, 3), (50, 60, 70)),
        lambda: setattr(net, "conv1_1", make_net(seed=1).conv1_1),
        lambda: net.bfloat16().float(),
    ):
        change()
        assert torch.equal(fast(images), before)
        with torch.inference_mode():
            assert difference(accelerate(net)(images), net(images)) < 1e-5


@pytest.mark.parametrize("how", ["loaded", "trained", "drawn anew"])
def test_weights_that_were_changed_are_refused(how):
    net, images = make_net(seed=0), photos(33, 40)
    fast = accelerate(net)
    match how:
        case "loaded":
            net.load_state_dict(make_net(seed=1).state_dict())
        case "trained":
            net(images).sum().backward()
            torch.optim.SGD(net.parameters(), lr=0.1).step()
        case _:
            net.initialise("glorot", torch.Generator().manual_seed(3))
    for call in (fast, fast.score_map, fast.features):
        with pytest.raises(UserError, match="were changed after it was accelerated: accelerate it again"):
            call(images)


def test_weights_converted_in_inference_mode_count_no_changes_and_are_taken():
    net, images = make_net(), photos(33, 40)
    with torch.inference_mode():
        net.double().float()
        expected = net(images)
    assert difference(accelerate(net)(images), expected) < 1e-5


def test_a_net_in_training_is_computed_as_in_evaluation_and_goes_on_training():
    net, images = make_net(batch_norm=True), photos(33, 40)
    with torch.inference_mode():
        expected = net(images)
    net.train()
    scores = accelerate(net)(images)
    assert net.training
    assert difference(scores, expected) < 1e-5
    assert not scores.requires_grad


def test_inference_mode_may_come_and_go():
    fast, images = accelerate(make_net()), photos(33, 40)
    with torch.inference_mode():
        inside = fast(images.clone())
    outside = fast(images)
    assert torch.equal(inside, outside)
    outside += 1


def test_no_images_give_no_scores():
    assert accelerate(make_net())(torch.zeros(0, 3, 40, 33)).shape == (0, 7)


def test_threads_take_turns_and_nets_do_not_disturb_each_other():
    fasts = [accelerate(make_net(seed=seed, width=0.25)) for seed in (0, 1)]
    images = photos(70, 50, 3)
    expected = [fast(images) for fast in fasts]
    wrong = []

    def compute(number: int) -> None:
        wrong.extend(number for _ in range(10) if not torch.equal(fasts[number](images), expected[number]))

    in_threads(compute)
    assert not wrong


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_memory_goes_with_the_net():
    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    net = make_net("D", width=0.5)
    packed = 4 * 4 * sum(p.numel() for name, p in net.named_parameters() if p.ndim == 4 and name.startswith("conv"))
    before = resident()
    fast = accelerate(net)
    fast(photos(64, 64))
    assert resident() - before > 0.9 * packed
    del fast
    assert resident() - before < 0.3 * packed


def test_images_that_cannot_be_are_refused_or_warned_of(monkeypatch):
    fast = accelerate(make_net(crop=64))
    with pytest.raises(
        UserError, match="images of 40x70 pixels are too small for this net: rescale their shorter side to at least 64"
    ):
        fast(torch.zeros(1, 3, 40, 70))
    monkeypatch.setattr(checks, "_warned", set())
    with pytest.warns(UserWarning, match=r"look like 0\.\.1"):
        fast(torch.rand(1, 3, 64, 64))
    with pytest.raises(UserError, match="too small for this net: rescale their shorter side to at least 32"):
        fast.features(torch.zeros(1, 3, 31, 70))
    with pytest.raises(UserError, match="these images are on meta"):
        fast(torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device="meta"))


WRONG_TYPES = """
from pathlib import Path
import numpy as np
import verydeep
net = verydeep.VeryDeep("A", num_classes=5, crop=32, width=0.125).eval()
fast, pixels = verydeep.accelerate(net), np.zeros((1, 3, 32, 32), np.uint8)
for call in (
    lambda: fast(pixels), lambda: fast([pixels]), lambda: fast.features(pixels), lambda: net(pixels),
    lambda: verydeep.accelerate(net, calibrate=pixels), lambda: verydeep.accelerate(net, calibrate="photos/"),
    lambda: verydeep.accelerate(net, calibrate=Path("photos")), lambda: fast.head(pixels),
):
    try:
        call()
    except verydeep.errors.UsageError as error:
        print(error)
"""


def test_what_is_no_tensor_is_refused():
    # in a process of its own, where no signature is checked
    answer = subprocess.run([sys.executable, "-c", WRONG_TYPES], capture_output=True, text=True, check=True)
    array, path = "images of type ndarray: give a tensor n,3,h,w", type(Path()).__name__
    expected = [
        array,
        "images of type list",
        array,
        array,
        array,
        "calibrate='photos/': give images",
        f"calibrate={path}",
    ]
    for line, start in zip(
        answer.stdout.splitlines(), [*expected, "a map of type ndarray: give a tensor"], strict=True
    ):
        assert line.startswith(start)


def test_maps_that_cannot_be_are_refused():
    net = make_net(crop=64)
    channels = net.get_submodule("fc6").in_channels
    fast = accelerate(net)
    for head in (fast.head, net.head):
        for shape in ((1, channels, 1, 2), (1, channels - 1, 2, 2), (1, 10 * channels, 3, 3)):
            with pytest.raises(UserError) as refused:
                head(torch.zeros(shape))
            assert f"a map of shape {shape}: the head of this net takes n,{channels},y,x, each side at least 2" in str(
                refused.value
            )
    with pytest.raises(UserError, match="this map is on meta: this net computes on the processor"):
        fast.head(torch.zeros(1, channels, 2, 2, device="meta"))
    double = torch.rand(1, channels, 2, 2, dtype=torch.float64, requires_grad=True)
    assert difference(fast.head(double), net.head(double.float()).detach()) < 1e-5


def test_nets_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="Linear is no net of this package"):
        accelerate(nn.Linear(2, 2))
    with pytest.raises(UsageError, match="unknown precision 'int4': choose one of fp32, bf16, int8, auto"):
        accelerate(make_net(), precision="int4")
    with pytest.raises(UserError, match=r"this net is in bfloat16: make it net\.float\(\) first"):
        accelerate(make_net().bfloat16())
    with pytest.raises(UserError, match=r"this net is on meta: move it with net\.cpu\(\) first"):
        accelerate(make_net().to("meta"))


def test_without_a_kernel_the_net_itself_computes_and_says_so(without_kernel):
    net, images = make_net(batch_norm=True).train(), photos(45, 33)
    with pytest.warns(UserWarning, match="computing with torch instead of verydeep's kernel: the kernel plain was not"):
        fast = accelerate(net)
    assert fast.engine.startswith("torch, channels last, fp32: the kernel plain was not built")
    scores = fast(images)
    assert net.training
    with torch.inference_mode():
        assert torch.equal(scores, net.eval()(images))
    assert not scores.requires_grad


def test_a_kernel_that_nobody_wants_is_no_warning(monkeypatch):
    monkeypatch.setenv("VERYDEEP_KERNEL", "none")
    assert "VERYDEEP_KERNEL=none asks for it" in verydeep.accelerate(make_net()).engine


def test_large_images_are_computed_in_parts_to_the_same_scores(monkeypatch):
    """As predict does: 48 megapixels at once would take 8 GB."""
    images = photos(320, 420, 1)
    fast, areas = accelerate(make_net("A", crop=64)), []
    whole, features = fast.score_map(images), fast.features(images)

    def noting(given, layer="fc8", *, maps=fast.backend.maps):
        areas.append(given.shape[1] * given.shape[2])
        return maps(given, layer)

    monkeypatch.setattr(fast.backend, "maps", noting)
    for function in ("score_map", "pool5_map"):
        smaller = partial(getattr(tiling, function), most=160**2)
        monkeypatch.setattr(f"verydeep.speed.accelerate.{function}", smaller)
    assert torch.allclose(fast.score_map(images), whole, rtol=1e-4, atol=1e-4)
    assert torch.allclose(fast.features(images), features, rtol=1e-4, atol=1e-4)
    assert len(areas) > 4
    assert max(areas) <= 288**2
