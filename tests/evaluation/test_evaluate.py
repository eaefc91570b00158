"""A net, images and a protocol: against a slow loop, and the order of things."""

from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import picture
from verydeep.convnets.model_file import make_card, save
from verydeep.convnets.net import VeryDeep
from verydeep.data.datasets import open_data
from verydeep.data.images import centre_crop, rescale
from verydeep.evaluation.evaluate import evaluate, posterior
from verydeep.evaluation.protocols import PROTOCOLS, default_test_scale
from verydeep.mistakes import MistakeError, WrongUseError


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


def slowly(net, image, protocol, scale):
    whole = rescale(image, scale)
    if protocol == "centre":
        images = [as_tensor(centre_crop(whole, 32, 32))]
    elif protocol == "single":
        trimmed = as_tensor(centre_crop(whole, whole.width // 32 * 32, whole.height // 32 * 32))
        images = [trimmed, trimmed.flip(3)]
    else:
        pooled = torch.nn.functional.adaptive_avg_pool2d(net.features(as_tensor(whole)), (1, 1))
        return net.head(pooled).flatten().softmax(0)
    return torch.stack([net.score_map(image).mean((2, 3))[0].softmax(0) for image in images]).mean(0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("scale", [None, 100])
def test_protocols_against_a_slow_loop(protocol, scale, net, data):
    images = data.split("test")
    result = evaluate(net, images, protocol=protocol, test_scales=None if scale is None else [scale])
    used = scale or 68
    assert result.test_scales == (used,)
    with torch.inference_mode():
        for index in range(len(images)):
            expected = slowly(net, images.read(index), protocol, used).numpy()
            assert np.allclose(result.posteriors[index], expected, atol=1e-5), images.names[index]
    assert result.top1_error == pytest.approx(np.mean(result.posteriors.argmax(1) != images.labels))
    assert result.top5_error is None


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


def test_an_image_too_long_to_take_whole_is_refused(net):
    with pytest.raises(MistakeError, match="--protocol centre"):
        posterior(net, picture(0, 1, 20_000), test_scales=[64])


def test_results_from_a_model_file_say_their_split_and_selection(net, data, tmp_path):
    file = tmp_path / "net.safetensors"
    root = str(data.train.store.root)
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
    with pytest.raises(MistakeError, match=bad.name):
        evaluate(net, str(data.train.store.root))
    result = evaluate(net, str(data.train.store.root), skip_damaged=True)
    assert len(result.labels) == len(result.posteriors) == 7
    assert result.as_record()["skipped"] == [bad.relative_to(data.train.store.root).as_posix()]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"protocol": "double"}, "centre, single, adaptive"),
        ({"test_scales": [31]}, "below the net's crop of 32"),
        ({"test_scales": [64, 96]}, "takes one"),
    ],
)
def test_wrong_use(options, complaint, net, data):
    with pytest.raises(WrongUseError, match=complaint):
        evaluate(net, data.val, **options)


def test_other_classes_are_refused_by_name(net, data):
    net.classes = ("a", "c")
    with pytest.raises(MistakeError, match="'c' where the data have 'b'"):
        evaluate(net, data.val)
    three = VeryDeep("A", num_classes=3, crop=32, width=0.125)
    with pytest.raises(MistakeError, match="3 classes and the data 2"):
        evaluate(three, data.val)


def test_default_test_scale_is_the_middle_of_the_training_scales(net):
    assert default_test_scale(net) == 68
    net.train_scale = (37, 37)
    assert default_test_scale(net) == 37
