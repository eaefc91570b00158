"""The rows of Table 1 against the paper's own numbers and an independent count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verydeep.errors import UsageError
from verydeep.nets.architecture import (
    ARCHITECTURES,
    Geometry,
    find_architecture,
    layers,
    scaled_channels,
    scaled_length,
)
from verydeep.nets.net import VeryDeep
from verydeep.paper.constants import PARAMETERS_IN_MILLIONS

# weight layers, parameters, MACs at 224, receptive fields at pool5 and fc6
EXACT = {
    "A": (11, 132_863_336, 7_609_090_048, 150, 342),
    "A-LRN": (11, 132_863_336, 7_609_090_048, 150, 342),
    "B": (13, 133_047_848, 11_308_466_176, 156, 348),
    "C": (16, 133_638_952, 11_770_888_192, 156, 348),
    "D": (16, 138_357_544, 15_470_264_320, 212, 404),
    "E": (19, 143_667_240, 19_632_062_464, 268, 460),
    "B-5x5": (8, 134_503_528, 9_356_017_664, 156, 348),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_exact_counts(name):
    depth, parameters, macs, at_pool5, at_fc6 = EXACT[name]
    row = ARCHITECTURES[name]
    rows = {layer.name: layer for layer in layers(Geometry(architecture=row))}
    assert row.weight_layers == depth
    assert sum(layer.parameters for layer in rows.values()) == parameters
    assert sum(layer.macs for layer in rows.values()) == macs
    assert (rows["pool5"].receptive_field, rows["fc6"].receptive_field) == (at_pool5, at_fc6)
    if name in PARAMETERS_IN_MILLIONS:
        assert round(parameters / 1e6) == PARAMETERS_IN_MILLIONS[name]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_table_agrees_with_the_net(name, batch_norm):
    net = VeryDeep(name, num_classes=7, batch_norm=batch_norm, crop=64, width=0.25)
    rows = layers(net.geometry)
    assert [layer.name for layer in rows] == [child for child, _ in net.named_children()]
    for layer in rows:
        count = sum(parameter.numel() for parameter in net.get_submodule(layer.name).parameters())
        assert count == layer.parameters, layer.name


@pytest.mark.parametrize(
    ("name", "found", "batch_norm"),
    [
        ("D", "D", False),
        ("d", "D", False),
        ("vgg16", "D", False),
        ("VGG-16", "D", False),
        ("vgg_16_bn", "D", True),
        ("vgg19_bn", "E", True),
        ("a-lrn", "A-LRN", False),
        ("b-bn", "B", True),
        ("B-5x5", "B-5x5", False),
    ],
)
def test_aliases(name, found, batch_norm):
    assert find_architecture(name) == (ARCHITECTURES[found], batch_norm)


@pytest.mark.parametrize("name", ["F", "resnet50", "", "bn"])
def test_unknown_architecture_names_the_known(name):
    with pytest.raises(UsageError, match=r"A-LRN .*E \(VGG-19\)"):
        find_architecture(name)


@pytest.mark.parametrize(("crop", "advice"), [(33, "32 or 64"), (0, "try 32"), (-32, "try 32"), (100, "96 or 128")])
def test_crop_must_be_a_multiple_of_the_stride(crop, advice):
    with pytest.raises(UsageError, match=advice):
        Geometry(architecture=ARCHITECTURES["A"], crop=crop)


@pytest.mark.parametrize("wrong", [{"width": 0.0}, {"width": float("nan")}, {"num_classes": 0}])
def test_other_numbers_out_of_range(wrong):
    with pytest.raises(UsageError):
        Geometry(architecture=ARCHITECTURES["A"], **wrong)


@given(st.sampled_from([64, 128, 256, 512, 4096]), st.floats(0.01, 16), st.sampled_from([8, 32]))
def test_scaled_channels_are_multiples_and_never_zero(channels, width, multiple):
    scaled = scaled_channels(channels, width, multiple)
    assert scaled >= multiple
    assert scaled % multiple == 0
    assert abs(scaled - max(multiple, channels * width)) <= multiple / 2
    assert scaled_channels(channels, 1.0, multiple) == channels


def test_scaled_lengths_are_the_papers():
    assert [scaled_length(256, crop) for crop in (32, 64, 96, 224)] == [37, 73, 110, 256]
    assert scaled_length(512, 64) == 146
