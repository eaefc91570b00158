"""Forward passes and multiplications, against the paper's numbers and hooks that count what is computed."""

import pytest
from torch import nn

from conftest import scene
from verydeep.data.open import open_data
from verydeep.device import Compute
from verydeep.evaluation import measure
from verydeep.evaluation.cost import macs_of_part, plan_cost, shown_macs
from verydeep.evaluation.protocols import PROTOCOLS
from verydeep.nets.architecture import feature_macs, head_macs, layers, score_positions
from verydeep.nets.net import VeryDeep

CHOICE = Compute(device="cpu", precision="fp32", channels_last=True, threads=1)


@pytest.fixture
def photos(tmp_path):
    for label, name in enumerate("ab"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(6):
            scene(10 * label + index, 90 + 7 * index, 70).save(tmp_path / "photos" / name / f"{index}.png")
    return open_data(tmp_path / "photos").train


def count_macs(net, run):
    """What hooks on the layers count."""
    counted = 0

    def hook(module, inputs, output):
        nonlocal counted
        counted += output.numel() * module.in_channels * module.kernel_size[0] ** 2

    handles = [module.register_forward_hook(hook) for module in net.modules() if isinstance(module, nn.Conv2d)]
    result = run()
    for handle in handles:
        handle.remove()
    return result, counted


@pytest.mark.parametrize("name", ["A", "D", "E", "B-5x5"])
def test_a_crop_costs_what_the_table_of_layers_says(name):
    geometry = VeryDeep(name, initialisation=None).geometry
    total = sum(layer.macs for layer in layers(geometry))
    assert feature_macs(geometry, 224, 224) + head_macs(geometry) == total
    assert score_positions(geometry, 384, 512) == (6, 10)
    assert score_positions(geometry, 384, 500, ceil=True) == (6, 10)
    assert score_positions(geometry, 384, 500) == (6, 9)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_macs_are_those_that_are_computed(protocol, photos):
    net = VeryDeep("A", num_classes=2, crop=32, width=0.125).eval()
    row = PROTOCOLS[protocol]
    scales = (64, 45) if row.several_scales else (64,)
    plan = plan_cost(net, photos, row, scales)
    measured, counted = count_macs(net, lambda: measure.measure_posteriors(net, photos, row, scales, CHOICE))
    assert measured.cost.macs == counted // len(photos) == plan.cost.macs
    assert measured.cost.forward_passes == plan.cost.forward_passes == row.forward_passes(net, scales)
    assert measured.cost.seconds_per_image == pytest.approx(measured.seconds / len(photos))


def test_150_crops_cost_five_times_three_scale_dense():
    net = VeryDeep("D", initialisation=None)
    dense, crops = PROTOCOLS["multi-scale"].methods[0], PROTOCOLS["multi-crop"].methods[0]
    of_dense = sum(2 * macs_of_part(net, dense, side, side * 4 // 3 // 32 * 32) for side in (256, 384, 512))
    of_crops = 150 * macs_of_part(net, crops, 224, 224)
    assert of_crops == 150 * 15_470_264_320
    assert of_crops / of_dense == pytest.approx(5.27, abs=0.15)


def test_what_is_said_before_and_after_the_first_batch(photos):
    net = VeryDeep("A", num_classes=2, crop=32, width=0.125).eval()
    told = []
    measure.measure_posteriors(net, photos, PROTOCOLS["multi-scale"], (64, 96), CHOICE, note=told.append)
    assert len(told) == 2
    assert told[0].startswith("multi-scale at Q = 64,96: 4 forward passes and ")
    assert told[1].startswith("about ")
    assert told[1].endswith(f"for {len(photos)} images, by the first batch")
    net.mirror = False
    measure.measure_posteriors(net, photos, PROTOCOLS["single"], (32,), CHOICE, note=told.append)
    assert "1 forward pass and" in told[2]
    assert "single place" in told[3]


def test_numbers_are_shown_in_round_units():
    assert shown_macs(15_470_264_320) == "15.47 x 10^9 MACs"
    assert shown_macs(2_320_539_648_000) == "2.32 x 10^12 MACs"
    assert shown_macs(1_500_000) == "1.50 x 10^6 MACs"


def test_times_are_shown_in_round_units():
    assert [measure.format_duration(seconds) for seconds in (0.5, 30, 300, 7200)] == [
        "0.5 seconds", "30 seconds", "5 minutes", "2.0 hours"
    ]  # fmt: skip


def test_large_images_count_what_tiles_compute_twice():
    net = VeryDeep("A", num_classes=2, crop=32, width=0.125)
    dense = PROTOCOLS["single"].methods[0]
    once = feature_macs(net.geometry, 4000, 4000) + head_macs(net.geometry) * 125**2
    assert once < macs_of_part(net, dense, 4000, 4000) < 1.4 * once
