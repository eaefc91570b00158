"""Maps stored for training: those of the net, by views that can be drawn again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from verydeep.data.open import open_data
from verydeep.device import fp32_choice
from verydeep.images.views import whole
from verydeep.nets.net import VeryDeep
from verydeep.progress import ignore_progress
from verydeep.training.recipe import find_recipe
from verydeep.training.stored_maps import store_maps


@pytest.fixture
def images(make_folder):
    return open_data(make_folder("photos", {"dark": 12, "bright": 12}, side=80)).train


@pytest.fixture
def photos_of_many_shapes(tmp_path):
    random = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / name).mkdir()
        for number, (width, height) in enumerate([(64, 64), (96, 64), (192, 64), (64, 128), (80, 80), (96, 64)]):
            pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return open_data(tmp_path).train


@pytest.fixture
def net():
    generator = torch.Generator().manual_seed(0)
    return VeryDeep("A", num_classes=1, width=0.125, crop=64, features_only=True, generator=generator).eval()


def stored(net, images, views=range(3), first_block=5, seed=0, mirror=True, side=64):
    return store_maps(
        net, images, fp32_choice("cpu"), side=side, views=views, first_block=first_block, seed=seed, mirror=mirror,
        progress=ignore_progress,
    )  # fmt: skip


def test_the_first_view_is_the_whole_image_with_its_central_square_as_the_map(net, photos_of_many_shapes, monkeypatch):
    monkeypatch.setattr("verydeep.training.stored_maps._BATCH_PIXELS", 3 * 64 * 96)
    images = photos_of_many_shapes
    found = stored(net, images)
    across = set()
    for number in range(len(images)):
        view = torch.from_numpy(np.array(whole(images.pixels(number), 64, 64)[0])).permute(2, 0, 1)[None]
        expected = net.activations(view, ["pool4", "pool5"])
        pool4, pool5 = expected["pool4"].detach(), expected["pool5"].detach()
        down, right = ((side - 4) // 2 for side in pool4.shape[2:])
        across.add((down, right))
        square = pool4[0, :, down : down + 4, right : right + 4]
        torch.testing.assert_close(found.maps[0][number].float(), square, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(found.descriptors[number], pool5.mean((2, 3))[0], rtol=1e-4, atol=1e-5)
    assert across == {(0, 0), (0, 1), (0, 4), (2, 0)}


def test_views_do_not_depend_on_which_are_asked_for_together(net, images):
    whole = stored(net, images)
    parts = stored(net, images, range(1)).with_more(stored(net, images, range(1, 3)))
    assert len(parts.maps) == 3
    for one, other in zip(whole.maps, parts.maps, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(whole.maps[1], whole.maps[2])
    assert not torch.equal(whole.maps[1], stored(net, images, seed=1).maps[1])


def test_without_a_block_to_train_no_maps_are_kept(net, images):
    found = stored(net, images, first_block=None)
    assert found.maps == []
    assert found.descriptors.shape == (len(images), 64)


RECIPE = find_recipe("auto", batch_size=4, dropout=0)


def test_an_epoch_uses_every_image_once_and_can_be_resumed(net, images):
    batches = stored(net, images).batches(replace(RECIPE, dropout=0.5), seed=7, images=images)
    whole = list(batches(epoch=1, first=0))
    assert sorted(int(sample) for _, _, ids in whole for sample in ids) == list(range(len(images)))
    for _, labels, ids in whole:
        assert torch.equal(labels, torch.from_numpy(images.labels[ids.numpy()]))
    rest = list(batches(epoch=1, first=2))
    assert len(rest) == len(whole) - 2
    assert torch.equal(rest[0][0], whole[2][0])
    assert not torch.equal(next(batches(epoch=2, first=0))[0], whole[0][0])


def test_channels_are_dropped_as_often_as_the_recipe_says_and_the_others_scaled_up(net, images):
    found = stored(net, images, range(1))
    ones = replace(found, maps=[torch.ones_like(found.maps[0])])
    maps = torch.cat(
        [maps for maps, _, _ in ones.batches(replace(RECIPE, dropout=0.4), seed=0, images=images)(epoch=0, first=0)]
    )
    assert maps.flatten(2).std(2).max() == 0  # whole channels
    assert maps.unique().tolist() == [0, pytest.approx(1 / 0.6)]
    assert float((maps == 0).float().mean()) == pytest.approx(0.4, abs=0.05)
    assert len({tuple(row.tolist()) for row in maps[:, :, 0, 0]}) == len(images)
