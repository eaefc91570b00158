"""Reads the .onnx files that exporters make of VGG nets, following the graph from the image to the scores."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from torch import Tensor

from verydeep.errors import UserError
from verydeep.paper import constants
from verydeep.weights.heads import with_head
from verydeep.weights.imported import ImportedWeights, whole_crop
from verydeep.weights.layer_order import LayerOrder, Order, as_tensor
from verydeep.weights.readers.onnx_graph import Graph, Node
from verydeep.weights.readers.onnx_input import ImageInput
from verydeep.weights.readers.protobuf import MOST_LAYERS, WireError, fields, map_file

_REMEDY: Final = "give an .onnx file, whole, of a VGG net, with the files of its weights beside it"
_MODEL_FIELDS: Final = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}


@dataclass(frozen=True, kw_only=True)
class GraphInput:
    """What a graph wants to be fed with, and what comes out."""

    axes: str  # nchw or nhwc
    batch: int  # number of images, -1 where any number goes
    side: int  # of an image, -1 where any goes
    first_kernel: Tensor  # over the channels as the graph has them
    largest: float | None  # of a pixel: 255, or 1, for a graph that normalises by itself; None for one that does not
    is_normalised: bool  # by torchvision's mean and deviation, as our twins of its class take images
    ending: str  # scores, or their softmax or log-softmax
    last_map: str  # the value that is the last map of the convolutions, n,c,y,x


def is_onnx(file: Path) -> bool:
    """Whether a file begins as a ModelProto of ONNX does: with the version of its format, then its graph."""
    seen: set[int] = set()
    try:
        for number, value in islice(fields(map_file(file)), MOST_LAYERS):  # the head has a few
            if number not in _MODEL_FIELDS or (number == 1) != (isinstance(value, int) and number != 5):
                return False
            if number == 1 and value not in range(1, 100):
                return False
            seen.add(number)
    except WireError:
        return {1, 2} <= seen  # cut short after its head: read says so
    except OSError:
        return False
    return {1, 7} <= seen


def read_onnx(file: Path) -> ImportedWeights:
    """Reads the weights of a VGG net from its graph, in the order in which an image goes through it."""
    walk = _walked(file)
    mean, divisor, convention = walk.image.convention()
    tensors = walk.order.tensors
    if walk.image.bgr:
        tensors["conv1_1.weight"] = tensors["conv1_1.weight"].flip(1)
    if not any(name.startswith("bn") for name in tensors):
        convention += "; no batch norm: if the net had it, its exporter folded it into the convolutions"
    convolutions = ImportedWeights(
        kind="ONNX",
        tensors=tensors,
        mean=mean,
        divisor=divisor,
        convention=convention,
        is_guessed=walk.image.is_bare,
        was_bgr=walk.image.bgr,
        crop=whole_crop(walk.image.side),
    )
    found, head, side = with_head(convolutions, walk.order.head), walk.order.head, walk.image.side
    if found.reason and head[0].kind == "another layer" and side not in (-1, constants.CROP):
        hint = f"exported at {side}, a VGG of torchvision pools its last map first: export it at {constants.CROP}"
        return replace(found, reason=f"{found.reason}; {hint}")
    return found


def find_input(file: Path) -> GraphInput:
    """Finds what the graph of a file that ``read_onnx`` takes wants to be fed with."""
    walk = _walked(file)
    image = walk.image
    return GraphInput(
        axes=image.axes,
        batch=image.batch,
        side=image.side,
        first_kernel=walk.order.tensors["conv1_1.weight"],
        largest=None if image.is_bare else image.largest,
        is_normalised=image.is_normalised,
        ending=walk.ending,
        last_map=walk.last_map,
    )


def _walked(file: Path) -> "_Walk":
    try:
        walk = _Walk(Graph(file))
        walk.go()
        walk.order.finish()
    except UserError:
        raise
    except Exception as error:  # whatever a made-up file sets off in onnx and protobuf
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{file} is no net of ONNX, or is damaged ({reason}): {_REMEDY}") from error
    return walk


def _does_nothing(pooling: Node) -> bool:
    return (pooling.equal("kernel_shape", 0), pooling.equal("strides", 1), pooling.equal("pads", 0)) == (1, 1, 0)


class _Walk:
    """Follows the one path from the image to the scores; its map's ``axes`` are nchw or nhwc, then flat."""

    def __init__(self, graph: Graph) -> None:
        self.order = LayerOrder()
        self._graph = graph
        if len(graph.inputs) != 1:
            names = ", ".join(repr(name[:40]) for name in list(graph.inputs)[:4]) or "none"
            raise UserError(f"a net has one input, the image, and this graph has {names}")
        self._value, sizes = next(iter(graph.inputs.items()))
        self.image = ImageInput(sizes=sizes)
        self.axes = self.image.axes
        self.ending = "scores"
        self.last_map = ""
        self._flattened: Order = "cyx"

    def go(self) -> None:
        """Takes node after node until the graph ends."""
        users: dict[str, list[Node]] = {}
        for node in self._graph.nodes:
            for name in {name for name in node.inputs if name}:
                users.setdefault(name, []).append(node)
        for _ in range(len(self._graph.nodes)):
            # Shape only computes an argument of a later Reshape
            following = [node for node in users.get(self._value, []) if node.type != "Shape"]
            if not following:
                return
            try:
                if len(following) > 1:
                    raise self._error(following[1], "makes the graph branch")
                self._take(following[0])
            except UserError as error:
                for node in self._nodes_after(self._value):
                    self.order.another(node.name, error)
                return
            self._value = following[0].outputs[0] if following[0].outputs else ""
            if self.axes == "nchw" and not self.order.head:
                self.last_map = self._value

    def _nodes_after(self, value: str) -> Iterator[Node]:
        """The nodes that a value goes through, which ONNX has in the order of computation."""
        reached = {value}
        for node in self._graph.nodes:
            if reached.intersection(node.inputs):
                reached.update(node.outputs)
                yield node

    def _take(self, node: Node) -> None:
        match node.type:
            case "Conv":
                self._take_convolution(node)
            case "Gemm" | "MatMul":
                self._take_matrix(node)
            case "BatchNormalization":
                self._need_map(node)
                scale, shift, mean, variance = (self._constant(node, index) for index in range(1, 5))
                self.order.batch_norm(node.name, scale, shift, mean, variance, node.get("epsilon", 1e-5))
            case "Relu":
                self.order.relu(node.name)
            case "MaxPool":
                self._need_map(node)
                self._take_pooling(node)
            case "Add" | "Sub" | "Mul" | "Div":
                self._take_arithmetic(node)
            case "Transpose":
                self._transpose(node)
            case "Flatten" | "Reshape":
                self._flatten(node)
            case "Identity" | "Cast" | "Dropout":
                pass
            case "AveragePool" if _does_nothing(node):
                pass  # torchvision's pooling to 7x7 on a map of 7x7
            case "Softmax" | "LogSoftmax" if self.order.in_head:
                self.ending = "softmax" if node.type == "Softmax" else "log-softmax"
                self.order.add_head(node.name, "soft-max")
            case "ReduceMean" | "GlobalAveragePool" if self.order.in_head:
                self._take_mean(node)
            case "Squeeze" if self.order.in_head:
                self.axes = "flat"
            case _:
                raise self._error(node, "stands where no VGG net has such a thing")

    def _take_convolution(self, node: Node) -> None:
        self._need_map(node)
        if not self.order.tensors:
            self.image.first_names = node.name, node.input(1)
        weight = self._constant(node, 1)
        bias = self._constant(node, 2) if node.input(2) else None
        if node.get("group", 1) != 1:
            raise self._error(node, "has groups")
        same = node.get("auto_pad", b"") in (b"SAME_UPPER", b"SAME_LOWER")
        self.order.convolution(
            node.name,
            weight,
            bias,
            padding=int(weight.shape[-1]) // 2 if same else node.equal("pads", 0),
            stride=node.equal("strides", 1),
            dilation=node.equal("dilations", 1),
        )

    def _take_matrix(self, node: Node) -> None:
        if node.input(0) != self._value:
            raise self._error(node, "multiplies from the other side")
        weight = self._constant(node, 1)
        bias = self._constant(node, 2) if node.type == "Gemm" and node.input(2) else None
        if weight.ndim != 2:
            raise self._error(node, "has no matrix")
        if node.type == "MatMul" or not node.get("transB", 0):
            weight = weight.T
        if node.get("transA", 0) or node.get("alpha", 1.0) != 1 or node.get("beta", 1.0) != 1:
            raise self._error(node, "has factors or a turned input")
        self.order.connected(node.name, weight, bias, self._flattened)
        self.axes = "flat"

    def _take_pooling(self, node: Node) -> None:
        if node.equal("dilations", 1) != 1:
            raise self._error(node, f"has dilations {node.get('dilations', [1])[:4]}, and a VGG net has 1")
        sides = self.image.sides
        even = len(sides) == 2 and all(side > 0 and side % constants.TOTAL_STRIDE == 0 for side in sides)
        rounds_up = node.get("ceil_mode", 0) != 0 or node.get("auto_pad", b"").startswith(b"SAME")
        if rounds_up and not even:  # even sides are halved without a rest, and nothing is rounded
            raise self._error(
                node,
                "rounds sides up (ceil_mode or auto_pad), and a VGG net down: that is the same only where the graph "
                f"takes images of a side that is a multiple of {constants.TOTAL_STRIDE}",
            )
        self.order.pooling(
            node.name,
            kernel=node.equal("kernel_shape", -1),
            stride=node.equal("strides", 1),
            padding=node.equal("pads", 0),
        )

    def _take_mean(self, node: Node) -> None:
        """Takes the mean over all positions."""
        places = {self.axes.find("h"), self.axes.find("w")}
        if node.type == "ReduceMean":
            given = self._graph.constant(node.input(1)) if node.input(1) else np.array(node.get("axes", [0]))
            if given is None or {int(axis) % len(self.axes) for axis in given.flat} != places:
                raise self._error(node, "takes the mean over other axes than those of positions")
            if not node.get("keepdims", 1):
                self.axes = "flat"
        self.order.add_head(node.name, "average pooling")

    def _take_arithmetic(self, node: Node) -> None:
        """Takes a bias by itself, or what is done to the pixels."""
        swapped = node.input(1) == self._value
        if swapped and node.type in ("Sub", "Div"):
            raise self._error(node, "subtracts or divides the other way round")
        numbers = self._constant(node, 0 if swapped else 1).double().reshape(-1)
        if self.order.tensors:
            if node.type != "Add":
                raise self._error(node, "stands where no VGG net has such a thing")
            self.order.add_bias(node.name, numbers)
            return
        if numbers.numel() not in (1, 3):
            raise self._error(node, f"has {numbers.numel()} numbers for three channels")
        self.image.change(node.type, np.broadcast_to(numbers.numpy(), 3), node.input(0 if swapped else 1))

    def _transpose(self, node: Node) -> None:
        perm = node.get("perm", [0])
        if self.axes != "flat" and sorted(perm) != [0, 1, 2, 3]:
            raise self._error(node, "turns axes that an image does not have")
        if self.axes != "flat":
            self.axes = "".join(self.axes[axis] for axis in perm)

    def _flatten(self, node: Node) -> None:
        if self.axes == "flat":
            return
        if self.axes not in ("nchw", "nhwc") or node.get("axis", 1) != 1:
            raise self._error(node, "flattens axes in an order that is not known")
        self._flattened = "cyx" if self.axes == "nchw" else "yxc"
        self.axes = "flat"

    def _need_map(self, node: Node) -> None:
        if self.axes != "nchw":
            raise self._error(node, f"needs a map in the order nchw, and has {self.axes}")

    def _constant(self, node: Node, index: int) -> Tensor:
        value = self._graph.constant(node.input(index))
        if value is None or value.dtype.kind != "f":
            raise self._error(node, f"has as its input {index} no numbers that are in the file")
        return as_tensor(value)

    def _error(self, node: Node, what: str) -> UserError:
        return UserError(f"node {node.name[:80]!r} of type {node.type[:40]!r} {what}")
