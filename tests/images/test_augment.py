"""Training views: their pixels, their randomness and the size of the colour shift."""

import numpy as np
import pytest
import torch

from conftest import picture, pillow_rescale
from verydeep.errors import UserError
from verydeep.images.augment import AreaView, CropPlace, TrainingView, principal_shifts
from verydeep.images.geometry import rescale
from verydeep.images.resample import resample

# covariance of ImageNet's pixels in 0..255, from its eigenvalues and eigenvectors as AlexNet's heirs publish them
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
IMAGENET = EIGENVECTORS @ np.diag(EIGENVALUES) @ EIGENVECTORS.T * 255**2


def generator(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


@pytest.mark.parametrize("size", [(100, 80), (50, 70), (64, 64), (300, 90)])
def test_a_crop_is_a_window_of_the_rescaled_image(size):
    image = np.asarray(picture(0, *size))
    whole = np.asarray(pillow_rescale(picture(0, *size), 73)).astype(int)
    view = TrainingView(crop=64, train_scale=(73, 73), mirror=False)
    for seed in range(5):
        crop = view(image, generator(seed)).astype(int)
        differences = [
            np.abs(whole[top : top + 64, left : left + 64] - crop).mean()
            for top in range(whole.shape[0] - 63)
            for left in range(whole.shape[1] - 63)
        ]
        assert min(differences) < 0.1


def test_no_rescaling_leaves_the_pixels_alone():
    image = np.asarray(picture(0, 32, 40))
    view = TrainingView(crop=32, train_scale=(32, 32), mirror=False)
    crop = view(image, generator())
    assert any(np.array_equal(image[top : top + 32], crop) for top in range(9))


def test_every_place_scale_and_side_comes_up():
    image = np.asarray(picture(1, 40, 40))
    view = TrainingView(crop=32, train_scale=(32, 40), mirror=True)
    seen = {view(image, generator(seed)).tobytes() for seed in range(300)}
    assert len(seen) > 150
    mirrored = TrainingView(crop=32, train_scale=(32, 32), mirror=True)
    square = rescale(image, 32)
    sides = [np.array_equal(mirrored(square, generator(seed)), square) for seed in range(400)]
    assert 150 < sum(sides) < 250


def test_scales_are_uniform_over_the_integers(monkeypatch):
    def recorded(pixels, size, window, **how):
        scales.append(min(size))
        return resample(pixels, size, window, **how)

    scales: list[int] = []
    monkeypatch.setattr("verydeep.images.augment.resample", recorded)
    view, image = TrainingView(crop=32, train_scale=(32, 36), mirror=False), np.asarray(picture(0, 50, 60))
    for seed in range(1000):
        view(image, generator(seed))
    counts = np.bincount(scales, minlength=37)[32:]
    assert len(counts) == 5
    assert counts.min() > 150


def test_same_generator_same_crop():
    view = TrainingView(crop=32, train_scale=(32, 60), mirror=True, colour_shift=principal_shifts(IMAGENET))
    image = np.asarray(picture(2, 90, 70))
    assert np.array_equal(view(image, generator(5)), view(image, generator(5)))
    assert not np.array_equal(view(image, generator(5)), view(image, generator(6)))


def test_colour_shift_is_about_three_grey_levels():
    """The unit trap: on covariances of 0..255 the same formula would shift by some 800 levels."""
    shifts = principal_shifts(IMAGENET) @ generator().standard_normal((3, 20_000))
    assert np.allclose(shifts.std(axis=1), 3.2, atol=0.4)


def test_colour_shift_is_one_for_all_pixels_and_clipped():
    shift = principal_shifts(IMAGENET)
    grey = np.asarray(picture(0, 32, 32)) // 8 + 100
    view = TrainingView(crop=32, train_scale=(32, 32), mirror=False, colour_shift=shift)
    difference = view(grey, generator(3)).astype(int) - grey
    assert (difference == difference[0, 0]).all()
    assert np.abs(difference[0, 0]).max() > 0
    white = np.full((32, 32, 3), 255, dtype=np.uint8)
    assert all(view(white, generator(seed)).min() > 200 for seed in range(50))


@pytest.mark.parametrize(
    ("size", "scale", "why"),
    [
        ((16_000_000, 1), 256, "is a strip: one side is more than 200 times as long"),  # more bytes than 32 bits count
        ((201, 1), 32, "is a strip: one side is more than 200 times as long"),
        ((200, 1), 600, "becomes 120000x600 at scale 600, more than 64,000,000 pixels"),
    ],
)
def test_an_image_too_long_to_rescale_is_refused(size, scale, why):
    """As in testing."""
    view = TrainingView(crop=32, train_scale=(scale, scale), mirror=True)
    with pytest.raises(UserError, match=f"{size[0]}x{size[1]}.* {why}.*: crop it"):
        view(np.zeros((size[1], size[0], 3), dtype=np.uint8), generator())


@pytest.mark.parametrize("size", [(100, 80), (40, 300), (64, 64), (9, 7)])
def test_area_views_show_at_least_their_share_of_the_image(size):
    width, height = size
    columns = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    rows = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    image = np.stack([columns, rows, np.zeros((height, width))], 2).round().astype(np.uint8)
    view = AreaView(side=64, mirror=True, least_area=0.35)
    shares, mirrored = [], 0
    for seed in range(50):
        seen = view(image, generator(seed)).astype(float)
        assert seen.shape == (64, 64, 3)
        across, down = seen[:, -1, 0].mean() - seen[:, 0, 0].mean(), seen[-1, :, 1].mean() - seen[0, :, 1].mean()
        shares.append(abs(across) * down / 255**2)
        mirrored += across < 0
    assert 10 < mirrored < 40
    if min(size) >= 40 and max(size) <= 100:  # of a long image no square part has the share
        assert min(shares) > 0.35 - 0.1
    assert max(shares) <= 1


def test_a_crop_drawn_and_cut_is_the_crop_of_one_call():
    """``draw`` takes the numbers that a call takes: scale, left, top, mirroring, colour shift, in that order."""
    image, shifts = np.asarray(picture(2, 90, 70)), principal_shifts(IMAGENET)
    for train_scale, mirror, colour in [((40, 40), False, None), ((32, 60), True, shifts), ((32, 60), False, shifts)]:
        view = TrainingView(crop=32, train_scale=train_scale, mirror=mirror, colour_shift=colour)
        for seed in range(20):
            place = view.draw(image, generator(seed))
            assert np.array_equal(place.cut(image), view(image, generator(seed)))
            drawn = generator(seed)
            scale = train_scale[0] if train_scale[0] == train_scale[1] else int(drawn.integers(32, 61))
            width, height = place.size
            assert (min(place.size), place.original) == (scale, (90, 70))
            assert (place.left, place.top) == (drawn.integers(width - 31), drawn.integers(height - 31))
            assert place.mirrored == (mirror and drawn.random() < 0.5)
            if colour is not None:
                assert np.array_equal(place.colour_shift, np.rint(colour @ drawn.standard_normal(3)))


def boxes_in(width, height, seed=0, count=50):
    edges = np.sort(np.random.default_rng(seed).random((count, 2, 2)), 1) * (width, height)
    return edges.reshape(count, 4)


def test_boxes_go_to_the_crop_as_torchvision_takes_them():
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    from torchvision.transforms.v2 import functional

    view = TrainingView(crop=64, train_scale=(64, 128), mirror=True)
    for size in [(300, 200), (75, 220), (100, 100), (64, 90)]:
        image = np.zeros((size[1], size[0], 3), np.uint8)
        boxes = boxes_in(*size)
        for seed in range(10):
            place = view.draw(image, generator(seed))
            theirs = tv_tensors.BoundingBoxes(
                torch.from_numpy(boxes), format="XYXY", canvas_size=size[::-1], clamping_mode=None
            )
            theirs = functional.resize(theirs, place.size[::-1])
            theirs = functional.crop(theirs, place.top, place.left, 64, 64)
            theirs = functional.horizontal_flip(theirs) if place.mirrored else theirs
            np.testing.assert_allclose(place.to_crop(boxes), theirs.numpy(), atol=1e-4)


@pytest.mark.parametrize("mirrored", [False, True])
def test_boxes_come_back_from_the_crop(mirrored):
    place = CropPlace(size=(171, 128), original=(500, 375), left=31, top=7, crop=96, mirrored=mirrored)
    boxes = boxes_in(500, 375)
    np.testing.assert_allclose(place.to_image(place.to_crop(boxes)), boxes, atol=1e-9)
    inside = place.to_crop(boxes.reshape(5, 10, 4))
    assert (inside[..., 2] >= inside[..., 0]).all()  # mirrored too, left stays left
    np.testing.assert_allclose(inside, place.to_crop(boxes).reshape(5, 10, 4))


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_box_holds_the_same_pixels_in_the_crop(mirrored):
    """The pixels of a white rectangle lie where ``to_crop`` puts its box."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[24:72, 40:100] = 255
    place = CropPlace(size=(80, 60), original=(160, 120), left=11, top=3, crop=48, mirrored=mirrored)
    crop = place.cut(image)
    rows, columns = (np.flatnonzero((crop[..., 0] > 127).any(axis)) for axis in (1, 0))
    seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(place.to_crop(np.array([[40.0, 24, 100, 72]]))[0], seen)
