"""What counts as the same answer: a file that differs is found out."""

import numpy as np
import pytest

from conftest import scene
from exported_files import write
from small_nets import make_net
from verydeep.export.check import Agreement, compare, measure
from verydeep.export.options import ExportOptions
from verydeep.export.sources import open_source


@pytest.fixture
def source(tmp_path):
    return open_source(write(make_net("A", crop=32), tmp_path, scale=64), ExportOptions())


PHOTOGRAPHS = [np.asarray(scene(seed, 110, 90)) for seed in range(3)]


def agreement(**values):
    found = {"num_images": 9, "max_posterior_difference": 0.0, "top1_agreement": 1.0, "max_map_difference": None}
    return Agreement(**(found | values))


def test_the_net_itself_agrees_in_every_view(source):
    found = compare(source.outputs, source, "nhwc", PHOTOGRAPHS)
    assert (found.max_posterior_difference, found.top1_agreement, found.max_map_difference) == (0, 1, 0)
    assert found.num_images == 2 + 2 + 3  # the first with its mirror image, two more, and a batch of crops


@pytest.mark.parametrize(
    "spoil",
    [
        lambda outputs: {"posteriors": outputs["posteriors"][:, ::-1]},
        lambda outputs: {"posteriors": outputs["posteriors"] * np.float32(np.nan)},
        lambda outputs: {"posteriors": outputs["posteriors"][:, :-1]},
        lambda outputs: {"score_map": outputs["score_map"] + 1},
        lambda outputs: {"posteriors": outputs["posteriors"] + np.float32(3e-4)},
    ],
)
def test_another_answer_is_a_mismatch(source, spoil):
    found = compare(lambda images: spoil(source.outputs(images)), source, "nhwc", PHOTOGRAPHS)
    assert found.mismatch("fp32") is not None


def test_each_precision_has_its_tolerance():
    assert agreement(max_posterior_difference=5e-5).mismatch("fp32") is None
    assert "posteriors differ by up to 0.0002" in agreement(max_posterior_difference=2e-4).mismatch("fp32")
    assert "only 98.0% of the photographs" in agreement(top1_agreement=0.98).mismatch("fp32")
    assert agreement(top1_agreement=0.98, max_posterior_difference=2e-3).mismatch("fp16") is None
    assert agreement(max_posterior_difference=float("nan")).mismatch("int8") is not None


def test_error_rates_of_file_and_net_are_measured_side_by_side(source, make_folder):
    from verydeep.data.open import open_data

    images = open_data(make_folder("photos", dict.fromkeys("abcdefg", 8), side=70)).split()
    found = measure(lambda given: {"posteriors": np.eye(7)[np.zeros(len(given), int)]}, source, "nhwc", images, print)
    assert found.num_images == len(images)
    assert found.top1_error == pytest.approx(1 - np.mean(images.labels == 0))
    ours = np.stack(
        [source.outputs(source.view(images.pixels(index))[None])["posteriors"][0] for index in range(len(images))]
    )
    assert found.net_top1_error == pytest.approx(np.mean(ours.argmax(1) != images.labels))
