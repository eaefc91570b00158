"""Boxes of whole images: where they come from, against loops over positions, scales and mirror images."""

import numpy as np
import pytest

from boxed_fakes import CLASSES, boxed_images, by_hand, make_classifier, make_localiser, numbers
from verydeep.data.image_set import array_images
from verydeep.device import fp32_choice
from verydeep.errors import UsageError, UserError
from verydeep.images.augment import CropPlace
from verydeep.images.geometry import centred, rescaled_centre, rescaled_size, size_of
from verydeep.localisation import joint
from verydeep.localisation.boxes import clip, decode
from verydeep.localisation.joint import JointBackend, have_same_convolutions
from verydeep.localisation.merging import merge
from verydeep.localisation.protocols import BoxFinder

TARGET = np.array([60.0, 40, 171, 150])


class Surveyor:
    """A backend that sees where it is: red is the column of the original, green its row. It always finds TARGET."""

    crop, head_kernel, layers, num_classes = 64, 2, ("fc8",), 4

    def maps(self, images, layer="fc8"):
        n, height, width, _ = images.shape
        rows, columns = height // 32 - 1, width // 32 - 1
        codes = np.empty((n, 4, rows, columns), np.float32)
        for number, row, column in np.ndindex(n, rows, columns):
            crop = images[number, 32 * row : 32 * row + 64, 32 * column : 32 * column + 64].astype(float).mean
            across, down = crop(0)[:, 0], crop(1)[:, 1]
            (dx, x), (dy, y) = (np.polyfit(np.arange(8, 56) + 0.5, line[8:56] + 0.5, 1) for line in (across, down))
            left, right = sorted((TARGET[0::2] - x) / dx)
            top, bottom = (TARGET[1::2] - y) / dy
            code = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
            codes[number, :, row, column] = np.array(code) / 64
        return codes

    def head(self, pool5_maps):
        raise AssertionError


def test_every_position_of_every_scale_and_mirror_image_sees_where_it_is(monkeypatch):
    monkeypatch.setattr(joint, "make_test_backend", lambda net, compute: Surveyor())
    columns, rows = np.meshgrid(np.arange(250), np.arange(187))
    pixels = np.stack([columns, rows, 0 * rows], 2).astype(np.uint8)
    localiser = make_localiser("scr", classes=("thing",))
    finder = BoxFinder([localiser], test_scales=(90, 140, 187))
    (found,), posteriors, _ = finder.candidates(one_image(pixels), is_labelled=False)
    assert posteriors.tolist() == [[1.0]]
    positions = {}
    for scale in finder.test_scales:
        width, height = (side // 32 - 1 for side in rescaled_size((250, 187), scale))
        positions[scale] = width * height
    assert {scale: int((found.scales == scale).sum()) for scale in positions} == {
        scale: 2 * count for scale, count in positions.items()
    }
    assert np.abs(found.corners - TARGET).max() < 1.5
    (box,), (score,) = found.merged(0.5)
    assert np.abs(box - TARGET).max() < 0.6
    assert score == 2 * sum(positions.values())


def one_image(pixels, classes=("thing",)):
    return array_images("test", classes, np.zeros(1, np.int64), "one", {"one": pixels})


@pytest.mark.parametrize("regression", ["scr", "pcr"])
def test_the_whole_protocol_is_that_of_loops(regression):
    """The classes of the three are in three orders."""
    localiser = make_localiser(regression, classes=CLASSES[::-1])
    classifier = make_classifier(classes=CLASSES[3:] + CLASSES[:3])
    images = boxed_images().images
    finder = BoxFinder([localiser], classifier, test_scales=(96, 110))
    found, posteriors, seconds = finder.candidates(images)
    assert seconds > 0
    for index, one in enumerate(found):
        best, expected = by_hand(localiser, classifier, images.pixels(index), (96, 110))
        np.testing.assert_allclose(posteriors[index], [expected[name] for name in CLASSES], atol=1e-5)
        assert one.size == size_of(images.pixels(index))
        assert one.classes[:5].tolist() == np.argsort(-posteriors[index])[:5].tolist()
        assert images.labels[index] in one.classes
        boxes, _ = one.merged(0.5)
        for number, box in zip(one.classes, boxes, strict=True):
            np.testing.assert_allclose(box, best[CLASSES[number]], atol=0.05)


def test_given_posteriors_choose_the_classes():
    images = boxed_images().images
    finder = BoxFinder([make_localiser()], make_classifier(), test_scales=(64,))
    posteriors = np.eye(6, dtype=np.float32)[[5, 4, 3, 2, 1, 0]]
    found, given, _ = finder.candidates(images, posteriors, top=1)
    assert np.array_equal(given, posteriors)
    assert [one.classes.tolist() for one in found] == [[5, 0], [4, 1], [3, 2], [2, 3], [1, 4], [0, 5]]


def test_the_union_of_localisers_is_merged_together():
    images, classifier = boxed_images().images, make_classifier()
    first, second = (
        make_localiser("scr", seed=1, test_scales=(96,)),
        make_localiser("pcr", seed=2, test_scales=(64, 100)),
    )
    fused, posteriors, _ = BoxFinder([first, second], classifier).candidates(images)
    alone = [BoxFinder([one], classifier).candidates(images, posteriors)[0] for one in (first, second)]
    for both, one, other in zip(fused, *alone, strict=True):
        assert len(both.corners) == len(both.classes)
        assert np.array_equal(both.at([96]).scores, one.scores)
        assert np.array_equal(both.at([64, 100]).corners, other.corners)
        for row in range(len(both.classes)):
            corners = np.concatenate([one.corners[0], other.corners[row]])
            scores = np.concatenate([one.scores[row], other.scores[row]])
            merged = merge(corners, scores[:, None], 0.7)
            best = merged.corners[merged.scores[:, 0].argmax()]
            np.testing.assert_allclose(both.merged(0.7)[0][row], clip(best, both.size))


def test_the_central_crop_gives_one_box():
    localiser, data = make_localiser("pcr", classes=CLASSES[::-1]), boxed_images()
    found, _, _ = BoxFinder([localiser], protocol="centre", test_scales=(80,)).candidates(data.images)
    for index, one in enumerate(found):
        pixels = data.images.pixels(index)
        size = rescaled_size(size_of(pixels), 80)
        left, top, _, _ = centred(size, 64, 64)
        place = CropPlace(size=size, original=size_of(pixels), left=left, top=top, crop=64)
        group = 4 * CLASSES[::-1].index(CLASSES[data.images.labels[index]])
        code = numbers(localiser.net, rescaled_centre(pixels, 80, 64))[group : group + 4, 0, 0]
        assert one.classes.tolist() == [data.images.labels[index]]
        np.testing.assert_allclose(one.merged(0.5)[0][0], clip(decode(code, place), one.size), atol=0.02)


def test_the_central_crop_has_the_training_scale_whatever_was_tuned():
    localiser = make_localiser(test_scales=(64, 96))
    localiser.net.train_scale = (80, 100)
    assert BoxFinder([localiser], protocol="centre").test_scales == (90,)
    assert BoxFinder([localiser], make_classifier()).test_scales == (64, 96)


def test_boxes_are_found_in_one_image():
    pixels = boxed_images().images.pixels(0)
    found = BoxFinder([make_localiser(test_scales=(64, 96))], make_classifier()).find(pixels, top=3)
    assert [one.name for one in found] == [CLASSES[one.index] for one in found]
    posteriors = [one.posterior for one in found]
    assert posteriors == sorted(posteriors, reverse=True)
    assert len(found) == 3
    best, expected = by_hand(make_localiser(), make_classifier(), pixels, (64, 96))
    assert found[0].posterior == pytest.approx(expected[found[0].name], abs=1e-5)
    np.testing.assert_allclose(found[0].corners, best[found[0].name], atol=0.05)


def test_convolutions_of_both_are_computed_once():
    localiser, classifier = make_localiser(), make_classifier()
    assert not have_same_convolutions(localiser.net, classifier)
    pixels = np.stack([boxed_images().images.pixels(2)] * 2)
    apart = JointBackend(localiser.net, classifier, fp32_choice("cpu"))
    assert not apart.is_shared
    for name, layer in classifier.named_children():
        if name.startswith("conv"):
            layer.load_state_dict(dict(localiser.net.named_children())[name].state_dict())
    separate = apart.maps(pixels)[:, 6:]
    shared = JointBackend(localiser.net, classifier, fp32_choice("cpu"))
    assert shared.is_shared
    together = shared.maps(pixels)
    assert (shared.num_scores, shared.num_classes) == (6, 30)
    np.testing.assert_allclose(together[:, 6:], separate, atol=1e-4)
    np.testing.assert_allclose(together[0, :6], numbers(classifier, pixels[0]), atol=1e-4)
    classifier.set_input([0, 0, 0])
    assert not have_same_convolutions(localiser.net, classifier)
    assert not have_same_convolutions(localiser.net, make_classifier(name="B"))
    other = make_classifier(name="A-LRN", seed=3)
    other.load_state_dict({n: t for n, t in localiser.net.state_dict().items() if not n.startswith("fc")}, strict=False)
    assert not have_same_convolutions(localiser.net, other)  # the same weights, and another layer between


@pytest.mark.parametrize("crop", [32, 96])
def test_scores_of_other_crops_are_those_around_the_same_place(crop):
    localiser, classifier = make_localiser(), make_classifier(crop=crop)
    pixels = np.asarray(boxed_images(sizes=((160, 128),)).images.pixels(0))
    maps = JointBackend(localiser.net, classifier, fp32_choice("cpu")).maps(pixels[None])[0, :6]
    scores = numbers(classifier, pixels)
    assert maps.shape[1:] == (3, 4)
    if crop == 32:  # four positions within each crop of 64
        expected = np.stack([[scores[:, i : i + 2, j : j + 2].mean((1, 2)) for j in range(4)] for i in range(3)])
        np.testing.assert_allclose(maps, expected.transpose(2, 0, 1), atol=1e-5)
    else:
        assert scores.shape[1:] == (2, 3)
        expected = scores[:, [0, 0, 1]][:, :, [0, 0, 1, 2]]  # a crop of 96 begins half a step before one of 64
        np.testing.assert_allclose(maps, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: BoxFinder([make_localiser()]), "which classifier.*give --classifier"),
        (lambda: BoxFinder([make_localiser()], protocol="dense"), "choose centre or full"),
        (lambda: BoxFinder([make_localiser()] * 2, protocol="centre"), "centre tests one localiser"),
        (lambda: BoxFinder([make_localiser()], protocol="centre", test_scales=(64, 96)), "has one test scale"),
        (
            lambda: BoxFinder([make_localiser()], make_classifier(), test_scales=(40,)),
            "40 is below the",
        ),
        (
            lambda: BoxFinder([make_localiser()], make_classifier(crop=96), test_scales=(80,)),
            "80 is below the",
        ),
        (
            lambda: BoxFinder([make_localiser(), make_localiser(classes=("x", *CLASSES[1:]))], make_classifier()),
            "different classes",
        ),
    ],
)
def test_what_cannot_be_tested_is_refused_by_one_line(make, says):
    with pytest.raises((UserError, UsageError), match=says):
        make()


def test_other_classes_are_named():
    images = boxed_images(classes=("x", *CLASSES[1:])).images
    with pytest.raises(UserError, match="no class 'ant' in the data: the localiser and the data must"):
        BoxFinder([make_localiser()], protocol="centre").candidates(images)
