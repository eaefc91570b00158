"""A net with what goes before and after it as a list of operations: what every exported file is written from.

The convolutions have their batch norms folded in, the fully connected layers are convolutions, so that images of any
size have scores, and the names of the layers are those of the values: ``conv1_1``, ``pool5``, ``fc8``.

Paper: section 3.2.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray

from verydeep.errors import UserError
from verydeep.export.operations import IMAGES, Kind, Output, Program
from verydeep.export.options import Layout
from verydeep.nets.described import DescribedNet
from verydeep.nets.graph import graph_of
from verydeep.paper.constants import TOTAL_STRIDE
from verydeep.testing.descriptors import NetSettings
from verydeep.testing.transferred import TransferredModel


@dataclass(frozen=True)
class _Row:
    """An operation of a net, and the layers whose outputs it gives."""

    kind: Kind
    name: str
    layers: tuple[str, ...]
    constants: dict[str, ndarray] = field(default_factory=dict)
    number: int = 0


class _Net:
    """The rows of a net: its graph as operations, from normalised images to its last layer."""

    def __init__(self, net: DescribedNet) -> None:
        graph = graph_of(net)
        self.mean = {"mean": graph.mean.reshape(1, 3, 1, 1)}
        if bool((graph.divisor != 1).any()):
            self.mean["divisor"] = graph.divisor.reshape(1, 3, 1, 1)
        self.rows: list[_Row] = []
        block = 1
        for step in graph.convolutions:
            label = step.name.removeprefix("conv")
            # with batch norm the convolution's own output is never computed
            given = f"bn{label}" if net.geometry.batch_norm else step.name
            constants = {f"{step.name}.weight": step.scaled_weight(), f"{step.name}.bias": step.bias.astype(np.float32)}
            self.rows.append(_Row("convolution", step.name, (given,), constants, step.weight.shape[2] // 2))
            self._add("relu", f"relu{label}")
            if step.normalise:
                self._add("response-norm", "norm1")
            if step.pool:
                self._add("max-pool", f"pool{block}")
                block += 1
        for connected in graph.fully_connected:
            constants = {f"{connected.name}.weight": connected.weight, f"{connected.name}.bias": connected.bias}
            self.rows.append(_Row("convolution", connected.name, (connected.name,), constants))
            if connected.rectify:
                number = connected.name.removeprefix("fc")
                self._add("relu", f"relu{number}", f"drop{number}")

    def _add(self, kind: Kind, *layers: str) -> None:
        self.rows.append(_Row(kind, layers[0], layers))

    def until(self, layer: str | None) -> list[_Row]:
        """The rows up to a layer; all of them without one."""
        if layer is None:
            return self.rows
        for number, row in enumerate(self.rows, start=1):
            if layer in row.layers:
                return self.rows[:number]
        raise UserError(
            f"layer {layer} is folded with the batch norm after it, and no file can hold it: transfer with another, "
            "such as the ReLU after it"
        )


def program_of(
    net: DescribedNet, *, layout: Layout, rescale_to: int | None, score_map: bool, narrow: bool = False
) -> Program:
    """Returns the operations of a net from RGB uint8 to class posteriors.

    Args:
        net: a classifier; a localiser or a net of convolutions alone, whose file gives the map of its last layer.
        layout: of the images.
        rescale_to: test scale Q to which images are rescaled first, pixels; None for images as they come.
        score_map: whether the class score map is an output too.
        narrow: whether the layers compute in the precision of the weights, which is not float32.

    Raises:
        UserError: the net has a single class.
    """
    layers, program = _Net(net), Program(layout=layout)
    value = _pixels(program, rescale_to)
    if net.features_only or net.boxes is not None:
        last = "features" if net.features_only else "boxes"
        value = _add_layers(program, layers, value, output=last, narrow=narrow)
        channels = net.geometry.last_channels if net.features_only else net.geometry.num_classes
        program.outputs.append(Output(value, ("n", channels, "i", "j"), _meaning(net)))
        return program
    net.require_classes()
    count = net.geometry.num_classes
    map_ = _add_layers(program, layers, value, output="score_map", narrow=narrow)
    scores = program.add("mean", map_, name="scores")
    program.add("softmax", scores, name="posteriors")
    program.outputs.append(Output("posteriors", ("n", count), "soft-max of the scores averaged over positions"))
    if score_map:
        program.outputs.append(
            Output(map_, ("n", count, "i", "j"), "class scores before the soft-max, one position for 32 pixels")
        )
    return program


def _meaning(net: DescribedNet) -> str:
    if net.boxes is None:
        return "map after the last pooling, one position for 32 pixels"
    whose = "a box for all classes" if net.boxes.regression == "scr" else "a box for each class in their order"
    return (
        f"{whose} at each position: centre x, centre y, width, height, relative to the window of {net.geometry.crop} "
        "pixels that the position sees, and divided by its side"
    )


def transferred_program(model: TransferredModel, *, layout: Layout, narrow: bool = False) -> Program:
    """Returns the operations of a classifier of descriptors: images are rescaled to each of its test scales.

    Paper: appendix B.
    """
    program = Program(layout=layout)
    options = model.card.descriptors
    planes = _planes(program)
    stacked = []
    for number, (net, settings) in enumerate(zip(model.nets, model.describer.settings, strict=True), start=1):
        prefix = f"net{number}." if len(model.nets) > 1 else ""
        layers, at_scales = _Net(net), []
        for scale in settings.scales:
            named = f"{prefix}at{scale}."
            value = _rescaled(program, planes, scale, named)
            value = _described(program, layers, settings, value, (prefix, named), options.pool == "max", narrow)
            if options.root:
                value = program.add("root", value, name=f"{named}root")
            at_scales.append(_unit(program, value, f"{named}unit", options.normalise))
        value = at_scales[0]
        if len(at_scales) > 1:
            together = program.add(
                "stack" if options.combine == "stack" else "average", *at_scales, name=f"{prefix}scales"
            )
            value = _unit(program, together, f"{prefix}descriptor", options.normalise)
        stacked.append(value)
    value = stacked[0]
    if len(stacked) > 1:
        value = _unit(program, program.add("stack", *stacked, name="nets"), "descriptor", options.normalise)
    weight, bias = (array.astype(np.float32) for array in (model.weight, model.bias))
    scores = program.add(
        "linear", value, name="scores", constants={"classifier.weight": weight, "classifier.bias": bias}
    )
    program.add("sigmoid" if model.card.multi_label else "softmax", scores, name="posteriors")
    how = "sigmoids of the scores: several classes may be shown" if model.card.multi_label else "soft-max of the scores"
    program.outputs.append(Output("posteriors", ("n", len(model.classes)), how))
    return program


def _described(
    program: Program,
    net: _Net,
    settings: NetSettings,
    planes: str,
    prefixes: tuple[str, str],
    maximum: bool,
    narrow: bool,
) -> str:
    """Adds what pools a layer over positions, averaged with that of the mirror image."""
    (weights, named), pooled = prefixes, []
    for side in ("", "mirrored.") if settings.mirror else ("",):
        value = program.add("mirror", planes, name=f"{named}mirror") if side else planes
        map_ = _add_layers(
            program, net, value, until=settings.layer.name, names=f"{named}{side}", weights=weights, narrow=narrow
        )
        pooled.append(program.add("maximum" if maximum else "mean", map_, name=f"{named}{side}pooled"))
    return pooled[0] if len(pooled) == 1 else program.add("average", *pooled, name=f"{named}pooled_both")


def _unit(program: Program, value: str, name: str, normalise: bool) -> str:
    return program.add("unit-length", value, name=name) if normalise else value


def _planes(program: Program) -> str:
    return IMAGES if program.layout == "nchw" else program.add("planes", IMAGES, name="planes")


def _pixels(program: Program, rescale_to: int | None) -> str:
    planes = _planes(program)
    return planes if rescale_to is None else _rescaled(program, planes, rescale_to, "")


def _rescaled(program: Program, planes: str, scale: int, prefix: str) -> str:
    rescaled = program.add("rescale", planes, name=f"{prefix}rescaled", number=scale)
    return program.add("trim", rescaled, name=f"{prefix}trimmed", number=TOTAL_STRIDE)


def _add_layers(
    program: Program,
    net: _Net,
    planes: str,
    *,
    until: str | None = None,
    output: str | None = None,
    names: str = "",
    weights: str = "",
    narrow: bool = False,
) -> str:
    """Adds the layers of a net up to one of them, or to its last; returns the name of its map."""
    mean = {weights + key: array for key, array in net.mean.items()}
    value = program.add("normalise", planes, name=f"{names}normalised", constants=mean)
    if narrow:
        value = program.add("narrow", value, name=f"{names}narrowed")
    rows = net.until(until)
    for row in rows:
        is_last = row is rows[-1] and not narrow
        value = program.add(
            row.kind,
            value,
            name=(output if is_last else None) or names + row.name,
            constants={weights + key: array for key, array in row.constants.items()},
            number=row.number,
        )
    return program.add("widen", value, name=output or f"{names}widened") if narrow else value
