"""Sources of an export: a net, or a classifier of descriptors, with its own scores for comparison.

Paper: section 3.2 and appendix B.
"""

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from jaxtyping import Float, UInt8
from numpy import ndarray

from verydeep.data.image_set import ImageSet
from verydeep.device import fp32_choice
from verydeep.errors import UsageError
from verydeep.export.operations import Program
from verydeep.export.options import ExportOptions
from verydeep.export.program import program_of, transferred_program
from verydeep.images.views import whole
from verydeep.paper.constants import TOTAL_STRIDE
from verydeep.speed.backend import make_test_backend
from verydeep.speed.tiling import pool5_map, score_map
from verydeep.testing.images import class_order
from verydeep.testing.measure import posteriors_of
from verydeep.testing.protocols import check_scales, default_test_scale
from verydeep.testing.transferred import TransferredModel
from verydeep.weights.resolve import is_transfer_folder, load, read_card


class Source(Protocol):
    """A MODEL that can be exported.

    Attributes:
        classes: in the order of the posteriors; None where they have no names, or there are none.
        card: what the model says of itself, JSON.
        facts: of what was exported, for the file's metadata.
        smallest_side: of an image that the file takes, pixels.
        rescales: whether the file rescales images itself.
        has_posteriors: whether it is a classifier.
    """

    classes: tuple[str, ...] | None
    card: str
    facts: dict[str, Any]
    smallest_side: int
    rescales: bool
    has_posteriors: bool

    def program(self, *, narrow: bool) -> Program:
        """The operations of the file."""

    def view(self, pixels: UInt8[ndarray, "h w 3"]) -> UInt8[ndarray, "y x 3"]:
        """A photograph as the net sees it."""

    def outputs(self, images: UInt8[ndarray, "n h w 3"]) -> dict[str, ndarray]:
        """Our own answer to what the net sees, by the names of the file's outputs."""

    def class_order(self, images: ImageSet) -> list[int] | None:
        """The posterior of each class of labelled images; None where they have one order."""


def open_source(model: str | Path, options: ExportOptions) -> Source:
    """Opens a MODEL for export."""
    if is_transfer_folder(model):
        return TransferSource(model, options)
    return NetSource(model, options)


class NetSource:
    """A net: a classifier, a localiser, or convolutions alone."""

    def __init__(self, model: str | Path, options: ExportOptions) -> None:
        self.net, self.options = load(model), options
        card = read_card(model)
        self.has_posteriors = not self.net.features_only and self.net.boxes is None
        if self.has_posteriors:
            self.net.require_classes()
        elif options.score_map:
            raise UsageError(f"--score-map: {model} has no class scores, and its only output is a map already")
        if options.test_scale is None:
            self.test_scale = default_test_scale(self.net)
        else:
            (self.test_scale,) = check_scales(self.net, [options.test_scale])
        self.classes, self.card, self.rescales = self.net.classes, card.model_dump_json(), options.rescale
        geometry = self.net.geometry
        self.smallest_side = TOTAL_STRIDE if self.net.features_only else geometry.smallest_side
        self.facts: dict[str, Any] = {
            "architecture": geometry.title,
            "crop": geometry.crop,
            "test_scale": self.test_scale,
            "mirror": self.net.mirror,
        }

    @cached_property
    def _maps(self) -> Callable[[UInt8[ndarray, "n h w 3"]], Float[ndarray, "n k i j"]]:
        backend = make_test_backend(self.net, fp32_choice("cpu"))
        compute = pool5_map if self.net.features_only else score_map
        return lambda images: compute(backend, images)

    def program(self, *, narrow: bool) -> Program:
        return program_of(
            self.net,
            layout=self.options.layout,
            rescale_to=self.test_scale if self.rescales else None,
            score_map=self.options.score_map,
            narrow=narrow,
        )

    def view(self, pixels: UInt8[ndarray, "h w 3"]) -> UInt8[ndarray, "y x 3"]:
        (view,) = whole(pixels, self.test_scale, self.net.geometry.crop)
        return view

    def outputs(self, images: UInt8[ndarray, "n h w 3"]) -> dict[str, ndarray]:
        maps = self._maps(images)
        if not self.has_posteriors:
            return {"features" if self.net.features_only else "boxes": maps}
        return {"posteriors": posteriors_of(maps), "score_map": maps}

    def class_order(self, images: ImageSet) -> list[int] | None:
        return class_order(self.net, images)


class TransferSource:
    """A classifier of descriptors, which rescales images to its own test scales."""

    rescales = has_posteriors = True

    def __init__(self, model: str | Path, options: ExportOptions) -> None:
        self.model, self.options = TransferredModel(model), options
        if options.score_map:
            raise UsageError(f"--score-map: {model} classifies descriptors and has no score map")
        if options.test_scale is not None:
            raise UsageError(f"--test-scale {options.test_scale}: {model} has its own test scales: leave it out")
        self.classes: tuple[str, ...] | None = self.model.classes
        self.card = self.model.card.model_dump_json()
        self.smallest_side = 1
        self.facts: dict[str, Any] = {
            "architecture": " & ".join(net.geometry.title for net in self.model.nets),
            "test_scales": list(self.model.test_scales),
        }

    def program(self, *, narrow: bool) -> Program:
        return transferred_program(self.model, layout=self.options.layout, narrow=narrow)

    def view(self, pixels: UInt8[ndarray, "h w 3"]) -> UInt8[ndarray, "y x 3"]:
        return pixels

    def outputs(self, images: UInt8[ndarray, "n h w 3"]) -> dict[str, ndarray]:
        return {"posteriors": self.model.predict(list(images))}

    def class_order(self, images: ImageSet) -> list[int] | None:
        self.model.check_images(images)
        return None


def metadata_of(source: Source, program: Program, about: Mapping[str, Any]) -> dict[str, str]:
    """What a file says of itself, by the keys in METADATA."""
    axes = "n,h,w,3" if program.layout == "nhwc" else "n,3,h,w"
    size = "any size" if source.rescales else f"any size, each side at least {source.smallest_side} pixels"
    said = {
        "format_version": 1,
        "input": f"images: {axes}, uint8, RGB in 0..255, upright, {size}; the mean is subtracted inside",
        "outputs": {output.name: output.meaning for output in program.outputs},
        "layout": program.layout,
        "smallest_side": source.smallest_side,
        "softmax_inside": any(operation.kind == "softmax" for operation in program.operations),
        **source.facts,
        **about,
    }
    metadata = {"verydeep": source.card, "verydeep.export": json.dumps(said)}
    if source.has_posteriors and source.classes is not None:
        metadata["classes"] = json.dumps(list(source.classes))
    return metadata
