"""A net as operations: every architecture in every runtime gives our own scores."""

import json

import numpy as np
import pytest

from exported_files import make_transferred, opened, photographs, write
from small_nets import make_net
from verydeep.errors import UserError
from verydeep.export.check import compare, compare_rescaled
from verydeep.export.options import ExportOptions
from verydeep.export.sources import TransferSource, open_source
from verydeep.export.targets import TARGETS
from verydeep.nets.boxes_card import BoxesCard

CLOSE = 1e-4
KINDS = [
    ("A", {}),
    ("A-LRN", {"crop": 64}),
    ("B", {"batch_norm": True, "crop": 224}),
    ("C", {"head": "linear", "crop": 64}),
    ("D", {"crop": 224}),
    ("E", {"batch_norm": True, "head": "linear"}),
    ("B-5x5", {"batch_norm": True, "crop": 64}),
]


def largest_difference(model, to, folder, options=ExportOptions()):
    source = open_source(model, options)
    run, _ = opened(source, to, folder, options)
    agreement = compare(run, source, options.layout, photographs(100))
    assert agreement.top1_agreement in (1, None)
    return max(agreement.max_posterior_difference or 0, agreement.max_map_difference or 0)


@pytest.mark.parametrize(("name", "kinds"), KINDS)
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_every_architecture_gives_our_scores(name, kinds, to, tmp_path):
    model = write(make_net(name, **kinds), tmp_path, scale=kinds.get("crop", 32) + 32)
    assert largest_difference(model, to, tmp_path, ExportOptions(score_map=True)) < CLOSE


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_file_rescales_images_as_we_do(to, layout, tmp_path):
    model = write(make_net("A", crop=64), tmp_path, scale=96)
    options = ExportOptions(rescale=True, layout=layout, score_map=True)
    source = open_source(model, options)
    run, _ = opened(source, to, tmp_path, options)
    assert compare(run, source, layout, photographs(150)).mismatch("fp32") is None
    rescaled = compare_rescaled(run, source, layout, [*photographs(150), *photographs(70)])
    assert rescaled.max_posterior_difference < 0.01
    assert rescaled.top1_agreement == 1


@pytest.mark.parametrize("to", TARGETS)
def test_convolutions_alone_give_their_last_map(to, tmp_path):
    model = write(make_net("A", features_only=True), tmp_path, scale=64)
    run, metadata = opened(open_source(model, ExportOptions()), to, tmp_path, ExportOptions())
    outputs = run(np.zeros((1, 64, 96, 3), np.uint8))
    assert {name: value.shape for name, value in outputs.items()} == {"features": (1, 64, 2, 3)}
    assert "classes" not in metadata
    assert largest_difference(model, to, tmp_path) < CLOSE


@pytest.mark.parametrize("to", TARGETS)
def test_a_localiser_gives_its_boxes_at_each_position(to, tmp_path):
    net = make_net("A", num_classes=8)
    net.boxes = BoxesCard(regression="pcr", classes=("cat", "dog"))
    model = write(net, tmp_path, scale=64)
    run, metadata = opened(open_source(model, ExportOptions()), to, tmp_path, ExportOptions())
    outputs = run(np.zeros((1, 64, 96, 3), np.uint8))
    assert {name: value.shape for name, value in outputs.items()} == {"boxes": (1, 8, 2, 3)}
    said = json.loads(metadata["verydeep.export"])["outputs"]["boxes"]
    assert said.startswith("a box for each class in their order at each position: centre x, centre y, width, height")
    assert largest_difference(model, to, tmp_path) < CLOSE


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layer": "relu7", "pool": "max", "combine": "average", "root": True, "names": ("A",)},
        pytest.param(
            {"layer": "relu3_1", "multi_label": True, "mirror": False, "normalise": False}, marks=pytest.mark.slow
        ),
    ],
)
def test_a_classifier_of_descriptors_gives_our_posteriors(to, options, tmp_path):
    folder = make_transferred(tmp_path / "svm", **options)
    source = open_source(folder, ExportOptions())
    assert isinstance(source, TransferSource)
    run, metadata = opened(source, to, tmp_path, ExportOptions())
    # at the size of one scale: the other is rescaled to
    agreement = compare(run, source, "nhwc", [picture[:96, :128] for picture in photographs(140)])
    assert agreement.max_posterior_difference < 0.01
    assert agreement.top1_agreement == 1
    assert json.loads(metadata["classes"]) == ["a", "b", "c"]


def test_what_batch_norm_hides_is_refused(tmp_path):
    folder = make_transferred(tmp_path / "svm", layer="conv3_1")
    source = open_source(folder, ExportOptions())
    with pytest.raises(UserError, match=r"layer conv3_1 is folded with the batch norm after it.*the ReLU after it"):
        source.program(narrow=False)
