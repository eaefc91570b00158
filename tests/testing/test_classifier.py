"""One image: whatever it is given as, its classes in their order, and its score map."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import picture, pillow_rescale
from verydeep.device import fp32_choice
from verydeep.errors import UsageError, UserError
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.speed.torch_backend import TorchBackend
from verydeep.testing.classifier import Classifier, posterior, score_map_at
from verydeep.testing.protocols import PROTOCOLS


@pytest.fixture
def net():
    net = VeryDeep("A", num_classes=7, crop=32, width=0.125, batch_norm=True).eval()
    net.classes, net.train_scale = tuple("abcdefg"), (64, 72)
    for name in ("fc6", "fc7", "fc8"):
        net.get_submodule(name).weight.data *= 6
    return net


@pytest.fixture
def image():
    return picture(1, 90, 70)


def test_whatever_an_image_is_given_as(net, image, tmp_path):
    file = tmp_path / "one.png"
    image.save(file)
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    classifier = Classifier(net)
    expected = classifier.predict(image).classes
    for given in (file, str(file), file.read_bytes(), array, tensor, tensor.float()):
        assert classifier.predict(given).classes == expected, type(given)
    assert classifier.predict(str(file)).file == str(file)
    grey = image.convert("L")
    assert classifier.predict(np.asarray(grey)).classes == classifier.predict(grey).classes
    several = classifier.predict([file, array, image])
    assert [one.classes for one in several] == [expected] * 3
    assert [one.classes for one in classifier.predict(tensor[None])] == [expected]
    generator = classifier.predict(one for one in (file, array))
    assert not isinstance(generator, list)
    assert [one.classes for one in generator] == [expected] * 2
    for given in (
        (file, array, tensor, image, file.read_bytes()),
        {0: file}.values(),
        np.array([str(file)] * 2),
        np.array([file, image], dtype=object),
        np.stack([array, array]),
        torch.stack([tensor, tensor]),
        torch.stack([tensor, tensor]).float(),
    ):
        assert [one.classes for one in classifier.predict(given)] == [expected] * len(given), type(given)
    assert classifier.predict([]) == []


def test_a_generator_is_read_as_its_predictions_are(net, image):
    read = []

    def images():
        for number in range(1000):
            read.append(number)
            yield image

    predictions = Classifier(net).predict(images())
    assert read == []
    next(predictions)
    assert read == [0]


def test_an_exif_rotation_is_heeded(net, image, tmp_path):
    file = tmp_path / "turned.jpg"
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(file, exif=exif, quality=100)
    turned = Image.fromarray(np.rot90(np.asarray(Image.open(file)), -1))
    expected = Classifier(net).predict(turned).classes
    assert Classifier(net).predict(file).classes == expected
    assert Classifier(net).predict(Image.open(file)).classes == expected


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (np.zeros((4, 4, 3)), "of float64: give a file"),
        (np.zeros((4, 4, 2), np.uint8), r"array \(4, 4, 2\)"),
        (torch.rand(3, 40, 40), "look like 0..1"),
        (torch.zeros(40, 40), "give n,3,h,w"),
        (b"no image", "cannot identify its format"),
        ("https://example.org/cat.jpg", "https://example.org/cat.jpg is an address: download it"),
        (b"https://example.org/cat.jpg", "https://example.org/ is an address"),
        (Path("s3://bucket/cat.jpg"), "is an address"),
        ("data:image/png;base64,xyz", "is an address"),
        (np.zeros((2, 40, 50), np.uint8), r"array \(2, 40, 50\) of uint8: give a file"),
        (7, "int is not an image: give a file"),
        (None, "NoneType is not an image"),
        ({"photo": "cat.jpg"}, "dict is not an image"),
        (io.BytesIO(b"abc"), "BytesIO is not an image: give a file, bytes"),
        (["no-such.jpg"], "no such file: no-such.jpg"),
        ([[np.zeros((40, 40, 3), np.uint8)]], "list is not an image"),
        ([3.5], "float is not an image"),
    ],
)
def test_what_is_no_image(net, given, complaint):
    with pytest.raises(UserError, match=complaint) as raised:
        Classifier(net).predict(given)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_ranking_is_that_of_the_posteriors(net, image, protocol, tmp_path):
    file = tmp_path / "net.safetensors"
    save(net, file)
    found = Classifier(file, protocol=protocol).predict(image, top=7)
    expected = posterior(net, image, protocol=protocol)
    assert [one.index for one in found.classes] == np.argsort(-expected, kind="stable").tolist()
    assert [one.posterior for one in found.classes] == pytest.approx(np.sort(expected)[::-1], abs=1e-5)
    assert [one.name for one in found.classes] == ["abcdefg"[one.index] for one in found.classes]
    assert len(Classifier(net).predict(image, top=2).classes) == 2


def test_the_score_map_is_that_of_the_trimmed_image(net):
    image = picture(2, 200, 320)
    made = score_map_at(TorchBackend(net, fp32_choice("cpu")), np.asarray(image), 200)
    with torch.inference_mode():
        pixels = torch.from_numpy(np.asarray(image).copy())[:, 4:196].permute(2, 0, 1)[None]
        np.testing.assert_allclose(made.scores, net.score_map(pixels)[0], atol=1e-4, rtol=1e-4)
    assert (made.first, made.size, made.test_scale) == ((20, 16), (200, 320), 200)


def test_the_score_map_of_a_prediction_is_its_largest_dense_one(net, image):
    found = Classifier(net, protocol="dense+multi-crop").predict(image).score_map
    with torch.inference_mode():
        pixels = np.asarray(pillow_rescale(image, 72))
        top, left = (side % 32 // 2 for side in pixels.shape[:2])
        seen = torch.from_numpy(pixels[top : top + 64, left : left + 64].copy()).permute(2, 0, 1)[None]
        np.testing.assert_allclose(found.scores, net.score_map(seen)[0], atol=1e-4)
    assert found.test_scale == 72
    assert Classifier(net, protocol="multi-crop").predict(image).score_map is None


def test_wrong_use(net, image):
    with pytest.raises(UsageError, match="unknown protocol"):
        Classifier(net, protocol="double")
    with pytest.raises(UsageError, match="choose one of fp32"):
        Classifier(net, precision="fp64")
    with pytest.raises(UsageError, match="unknown device"):
        Classifier(net, device="abacus")
    with pytest.raises(UsageError, match="at least one class"):
        Classifier(net).predict(image, top=0)
