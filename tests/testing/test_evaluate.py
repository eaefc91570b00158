"""A net, images and a protocol: against a slow loop, and the order of things."""

from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import centre_crop, picture, pillow_rescale
from verydeep.data.open import open_data
from verydeep.device import fp32_choice
from verydeep.errors import UsageError, UserError
from verydeep.images.resample import find_library
from verydeep.nets.model_card import make_card
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.speed.accelerate import accelerate
from verydeep.speed.backend import make_backend
from verydeep.speed.kernel_backend import KernelBackend
from verydeep.speed.library import NoKernelError, find_kernel
from verydeep.speed.torch_backend import TorchBackend
from verydeep.testing import evaluate as evaluate_module
from verydeep.testing.classifier import Classifier, posterior
from verydeep.testing.evaluate import evaluate, evaluate_each
from verydeep.testing.protocols import PROTOCOLS


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = VeryDeep("A", num_classes=2, crop=32, width=0.125, batch_norm=True).eval()
    net.classes, net.train_scale = ("a", "b"), (64, 72)
    for name in ("fc6", "fc7", "fc8"):
        net.get_submodule(name).weight.data *= 6
    return net


@pytest.fixture
def data(make_folder):
    return open_data(make_folder("photos", {"a": 20, "b": 20}, side=50))


def as_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]


def windows(whole, tops, lefts, side=32):
    return [as_tensor(whole.crop((left, top, left + side, top + side))) for top in tops for left in lefts]


def spaced(length, side=32):
    return [round((length - side) * index / 4 + 1e-9) for index in range(5)]


def slow_parts(image, protocol, scale):
    """What the net sees at one scale, by method."""
    whole = pillow_rescale(image, scale)
    right, bottom = whole.width - 32, whole.height - 32
    trimmed = as_tensor(centre_crop(whole, whole.width // 32 * 32, whole.height // 32 * 32))
    grid = windows(whole, spaced(whole.height), spaced(whole.width))
    match protocol:
        case "centre":
            return [[as_tensor(centre_crop(whole, 32, 32))]]
        case "ten-crop":
            return [[*windows(whole, (0, bottom), (0, right)), *windows(whole, [bottom // 2], [right // 2])]]
        case "multi-crop":
            return [grid]
        case "dense+multi-crop":
            return [[trimmed], grid]
        case "adaptive" | "caffe":
            return [[as_tensor(whole)]]
    return [[trimmed]]


def slow_posterior(net, images, protocol):
    if protocol == "adaptive":
        pooled = torch.nn.functional.adaptive_avg_pool2d(net.features(images), (1, 1))
        return net.head(pooled).flatten().softmax(0)
    if protocol == "caffe":
        for pool in range(1, 6):
            net.get_submodule(f"pool{pool}").ceil_mode = True
    scores = net.score_map(images).mean((2, 3))[0].softmax(0)
    for pool in range(1, 6):
        net.get_submodule(f"pool{pool}").ceil_mode = False
    return scores


def slowly(net, image, protocol, scales):
    mirrored = protocol not in ("centre", "adaptive")
    by_scale = []
    for scale in scales:
        by_method = []
        for parts in slow_parts(image, protocol, scale):
            seen = [*parts, *(part.flip(3) for part in parts if mirrored)]
            by_method.append(torch.stack([slow_posterior(net, part, protocol) for part in seen]).mean(0))
        by_scale.append(torch.stack(by_method).mean(0))
    return torch.stack(by_scale).mean(0).numpy()


SEVERAL = ("multi-scale", "multi-crop", "dense+multi-crop")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("scales", [None, [100], [45, 32, 77]])
def test_protocols_against_a_slow_loop(protocol, scales, net, data):
    images = data.split("test").subset([0, 2, 4, 7])
    result = evaluate(net, images, protocol=protocol, test_scales=scales)
    used = tuple(scales or ((64, 68, 72) if protocol in SEVERAL else (68,)))
    # Pillow, where there was no compiler, rounds a window differently: by one grey level
    tolerance = 1e-5 if find_library() else 1e-2
    assert result.test_scales == used
    with torch.inference_mode():
        for index in range(len(images)):
            expected = slowly(net, images.read(index), protocol, used)
            assert np.allclose(result.posteriors[index], expected, atol=tolerance), images.names[index]
    assert result.top1_error == pytest.approx(np.mean(result.posteriors.argmax(1) != images.labels))
    assert result.top5_error is None


@pytest.mark.parametrize("protocol", ["single", "multi-crop", "ten-crop"])
def test_at_the_crop_of_a_square_image_every_protocol_is_the_crop(protocol, net):
    net.mirror = False
    for side in (32, 50):
        square = picture(1, side, side)
        with torch.inference_mode():
            expected = net(as_tensor(pillow_rescale(square, 32)))[0].softmax(0).numpy()
        assert np.allclose(posterior(net, square, protocol=protocol, test_scales=[32]), expected, atol=1e-6)


def test_the_mirror_is_left_out_where_the_data_forbid_it(net, data):
    with_mirror = evaluate(net, data.split("test")).posteriors
    net.mirror = False
    assert not np.allclose(evaluate(net, data.split("test")).posteriors, with_mirror, atol=1e-6)


def test_one_image_is_tested_like_many(net, data):
    images = data.split("test")
    many = evaluate(net, images).posteriors
    for index in range(3):
        assert np.allclose(posterior(net, images.read(index)), many[index], atol=1e-6)
        assert np.allclose(posterior(net, images.where(index)), many[index], atol=1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("size", [(3, 2), (1, 40), (500, 33)])
def test_any_size_of_image(protocol, size, net):
    assert posterior(net, picture(0, *size), protocol=protocol).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_image_too_long_to_hold_is_refused_or_its_centre_is_tested(protocol, net, monkeypatch):
    long = picture(0, 10_000, 1)
    if protocol == "centre":
        assert posterior(net, long, protocol=protocol, test_scales=[100]).sum() == pytest.approx(1, abs=1e-5)
    else:
        with pytest.raises(UserError, match="--protocol centre"):
            posterior(net, long, protocol=protocol, test_scales=[100])


def test_a_strip_is_named_and_may_be_left_out(net, data):
    strip = Path(data.split("test").where(2))
    picture(0, 1, 2000).save(strip)
    with pytest.raises(UserError, match=rf"{strip.name}: an image of 1x2000 pixels is a strip.*--damaged skip"):
        evaluate(net, data)
    result = evaluate(net, data, skip_damaged=True)
    assert (len(result.labels), [Path(name).name for name in result.skipped]) == (7, [strip.name])
    assert len(evaluate(net, data, protocol="centre", skip_damaged=True).labels) == 8


def test_the_centre_of_a_long_image_is_that_of_its_whole(net, monkeypatch):
    for size in ((3000, 8), (3001, 7), (9, 2001)):
        long = picture(5, *size)
        with monkeypatch.context() as patch:
            patch.setattr("verydeep.images.geometry.LONGEST", 10_000)
            expected = posterior(net, long, protocol="centre", test_scales=[64])
        with monkeypatch.context() as patch:
            patch.setattr("verydeep.images.geometry.MOST_PIXELS", 100_000)
            found = posterior(net, long, protocol="centre", test_scales=[64])
        assert np.allclose(found, expected, atol=0.02)


def test_results_from_a_model_file_say_their_split_and_selection(net, data, tmp_path):
    file = tmp_path / "net.safetensors"
    root = str(data.train.source.root)
    save(net, file, card=make_card(net, recipe={"schedule": "plateau", "keep": "last"}))
    record = evaluate(file, root).as_record()
    assert (record["split"], record["selected_on"], record["num_images"]) == ("test", "val", 8)
    assert record["architecture"] == "A"
    save(net, file, card=make_card(net, recipe={"schedule": "cosine", "keep": "last"}))
    record = evaluate(file, root, split="val").as_record()
    assert (record["split"], record["selected_on"]) == ("val", None)


def test_training_mode_is_given_back(net, data):
    net.train()
    evaluate(net, data.val)
    assert net.training


def test_a_damaged_image_is_fatal_or_left_out(net, data):
    bad = Path(data.split("test").where(2))
    bad.write_bytes(b"")
    with pytest.raises(UserError, match=rf"{bad.name} cannot be read.* --damaged skip"):
        evaluate(net, str(data.train.source.root))
    result = evaluate(net, str(data.train.source.root), skip_damaged=True)
    assert len(result.labels) == len(result.posteriors) == 7
    assert result.as_record()["skipped"] == [bad.relative_to(data.train.source.root).as_posix()]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"protocol": "double"}, "centre, ten-crop, single, multi-scale"),
        ({"test_scales": [31]}, "below the net's crop of 32"),
        ({"test_scales": [64, 20]}, "scale 20 is below the net's crop of 32"),
        ({"test_scales": [64, 96, 64]}, "64 is given twice"),
        ({"test_scales": []}, "no test scales"),
    ],
)
def test_wrong_use(options, complaint, net, data):
    with pytest.raises(UsageError, match=complaint):
        evaluate(net, data.val, **options)


def test_other_classes_are_refused_by_name(net, data):
    net.classes = ("a", "c")
    with pytest.raises(UserError, match="'c' where the data have 'b'"):
        evaluate(net, data.val)
    three = VeryDeep("A", num_classes=3, crop=32, width=0.125)
    with pytest.raises(UserError, match="3 classes and the data 2"):
        evaluate(three, data.val)


def has_kernel():
    try:
        return bool(find_kernel())
    except NoKernelError:
        return False


needs_kernel = pytest.mark.skipif(not has_kernel(), reason="the kernel was not built")


@needs_kernel
@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_the_kernel_gives_the_posteriors_of_the_net(monkeypatch, net, data, protocol):
    backends, real = [], evaluate_module.measure

    def measure(backend, *others, **options):
        backends.append(backend)
        return real(backend, *others, **options)

    monkeypatch.setattr(evaluate_module, "measure", measure)
    fast = evaluate(net, data, protocol=protocol).posteriors
    monkeypatch.setenv("VERYDEEP_KERNEL", "none")
    plain = evaluate(net.train(), data, protocol=protocol).posteriors
    assert net.training
    assert isinstance(backends[0], KernelBackend) == (protocol != "caffe")
    assert isinstance(backends[1], TorchBackend)
    np.testing.assert_allclose(fast, plain, atol=1e-6)


@needs_kernel
def test_an_accelerated_net_tests_one_image(net):
    image, fast = picture(3, 90, 70), accelerate(net)
    posteriors = posterior(fast, image, protocol="multi-scale", test_scales=(40, 64))
    expected = posterior(net, image, protocol="multi-scale", test_scales=(40, 64))
    np.testing.assert_allclose(posteriors, expected, atol=1e-6)
    with pytest.raises(UsageError, match="test scale 20 is below"):
        posterior(fast, image, test_scales=(20,))


def test_a_net_that_the_kernel_cannot_take_is_tested_all_the_same(net):
    assert isinstance(make_backend(net.bfloat16(), fp32_choice("cpu")), TorchBackend)


def test_mirror_images_share_a_batch_only_where_there_is_room(monkeypatch, net, data):
    together = evaluate(net, data, protocol="single").posteriors
    monkeypatch.setattr("verydeep.testing.measure.BATCH_PIXELS", 64 * 64)
    np.testing.assert_allclose(evaluate(net, data, protocol="single").posteriors, together, atol=1e-6)


def test_several_protocols_in_one_pass_are_each_alone_and_compute_each_map_once(monkeypatch, net, data):
    images, decoded, computed = data.split("test"), [], []
    real_pixels, real_score_map = type(images).pixels, VeryDeep.score_map

    def pixels(self, index):
        decoded.append(self.names[index])
        return real_pixels(self, index)

    def score_map(self, images):
        computed.extend([tuple(images.shape[2:])] * len(images))
        return real_score_map(self, images)

    alone = [evaluate(net, images, protocol=name).posteriors for name in PROTOCOLS]
    monkeypatch.setenv("VERYDEEP_KERNEL", "none")
    monkeypatch.setattr(type(images), "pixels", pixels)
    (together,) = evaluate_each([net], images, list(PROTOCOLS))
    assert [result.protocol for result in together] == list(PROTOCOLS)
    for one, result in zip(alone, together, strict=True):
        np.testing.assert_allclose(result.posteriors, one, atol=1e-6)
    assert sorted(decoded) == sorted([*images.names] * 2)  # once for all, and once for caffe, whose net is another
    monkeypatch.setattr(VeryDeep, "score_map", score_map)
    dense = ["single", "multi-scale", "multi-crop", "dense+multi-crop"]
    net.train_scale = (64, 64)  # the scale of single is one of those of multi-scale
    evaluate_each([net], images, dense)
    assert len(computed) == 2 * len(images) * 3 * (1 + 25)


def test_seconds_are_those_of_the_protocol_alone(net, data):
    ((centre, crops),) = evaluate_each([net], data.split("test"), ["centre", "multi-crop"])
    assert 0 < centre.seconds < crops.seconds


def test_a_net_with_one_answer_is_remarked_on(net, data):
    told = []
    net.fc8.bias.data[1] = 1e4
    evaluate(net, data.split("train"), protocol="centre", note=told.append)
    assert len(told) == 1
    assert f"the net answers {data.classes[1]!r} for every one of the" in told[0]


def test_a_single_position_is_remarked_on(net, data):
    told = []
    evaluate(net, data.val, test_scales=[32], note=told.append)
    (remark,) = told
    assert "single position" in remark
    assert "--test-scales of 64 or more" in remark
    for protocol, scales in (("single", [64]), ("centre", [32])):
        evaluate(net, data.val, protocol=protocol, test_scales=scales, note=told.append)
    assert told == [remark]


def test_classes_in_another_order_are_matched_by_name(net, data):
    notes = []
    expected = evaluate(net, data)
    net.classes = ("b", "a")
    for part in (net.fc8.weight, net.fc8.bias):
        part.data = part.data.flip(0)
    found = evaluate(net, data, note=notes.append)
    assert np.array_equal(found.posteriors, expected.posteriors)
    assert any("another order: they are matched by name" in line for line in notes)


def test_a_net_without_names_says_which_order_it_takes(net, data):
    notes = []
    evaluate(net, data, note=notes.append)
    assert not any("names of classes" in line for line in notes)
    net.classes = None
    evaluate(net, data, note=notes.append)
    assert any("taken in the order of the data's, a, b;" in line for line in notes)


def test_one_score_is_no_posterior(data):
    net = VeryDeep("A", num_classes=1, crop=32, width=0.125)
    image = picture(0, 40, 40)
    for test in (lambda: posterior(net, image), lambda: Classifier(net), lambda: evaluate(net, data)):
        with pytest.raises(UserError, match=r"has one score, .* torch\.sigmoid"):
            test()
    with pytest.raises(UserError, match=r"has one score"):
        posterior(accelerate(net), image)
