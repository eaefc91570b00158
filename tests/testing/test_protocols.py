"""The rows of the protocols: their test scales, and how often each applies the net."""

import pytest

from verydeep.nets.net import VeryDeep
from verydeep.testing.protocols import PROTOCOLS, default_test_scale, default_test_scales


def net_of(crop, train_scale):
    net = VeryDeep("A", num_classes=2, crop=crop, width=0.125)
    net.train_scale = train_scale
    return net


@pytest.mark.parametrize(
    ("crop", "train_scale", "single", "several"),
    [
        (224, (256, 256), 256, (224, 256, 288)),
        (224, (384, 384), 384, (352, 384, 416)),
        (224, (256, 512), 384, (256, 384, 512)),
        (64, (73, 73), 73, (64, 73, 82)),
        (64, (73, 146), 109, (73, 109, 146)),
        (96, (110, 110), 110, (96, 110, 124)),
        (32, (37, 37), 37, (32, 37, 42)),
        (224, (224, 224), 224, (224, 256)),
    ],
)
def test_test_scales_follow_the_training_scale(crop, train_scale, single, several):
    net = net_of(crop, train_scale)
    assert default_test_scale(net) == single
    assert default_test_scales(net) == several
    assert PROTOCOLS["single"].test_scales(net) == (single,)
    assert PROTOCOLS["multi-crop"].test_scales(net) == several


@pytest.mark.parametrize("crop", range(32, 257, 32))
def test_no_default_scale_is_below_the_crop(crop):
    net = VeryDeep("A", num_classes=2, crop=crop, width=0.125)
    assert len(default_test_scales(net)) == 3
    assert min(default_test_scales(net)) >= crop


@pytest.mark.parametrize(
    ("protocol", "with_mirror", "without"),
    [
        ("centre", 1, 1),
        ("ten-crop", 10, 5),
        ("single", 2, 1),
        ("multi-scale", 6, 3),
        ("multi-crop", 150, 75),
        ("dense+multi-crop", 156, 78),
        ("caffe", 2, 1),
        ("adaptive", 1, 1),
    ],
)
def test_the_passes_are_those_of_the_paper_and_fewer_without_mirror(protocol, with_mirror, without):
    net = net_of(224, (256, 512))
    row = PROTOCOLS[protocol]
    scales = row.test_scales(net)
    assert row.forward_passes(net, scales) == with_mirror
    net.mirror = False
    assert row.forward_passes(net, scales) == without


def test_every_row_is_tried_above():
    assert list(PROTOCOLS) == [
        "centre", "ten-crop", "single", "multi-scale", "multi-crop", "dense+multi-crop", "caffe", "adaptive"
    ]  # fmt: skip
