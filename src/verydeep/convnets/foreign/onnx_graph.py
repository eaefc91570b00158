"""The graph of an .onnx file: its nodes, and its constants in the file or in files beside it.

Why not the onnx package: it copies the file into memory and would be a dependency; the fields that matter are a dozen.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from verydeep.convnets.foreign.wire import Message, WireError, map_file

_DTYPES: Final = {1: "<f4", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8", 16: "<u2"}
"""Of TensorProto's data types, those of weights and shapes; bfloat16 comes as its sixteen bits."""

_BFLOAT16: Final = 16
_TYPED_FIELDS: Final = {1: 4, 11: 10}
_INTEGER_FIELDS: Final = {6: 5, 7: 7}
_EXTERNAL: Final = 1
_DEEPEST: Final = 16

Array = NDArray[np.generic]


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation.

    Attributes:
        type: such as ``Conv``; of another domain than ONNX's own, with the domain before it.
        name: its own, or that of its output.
        inputs: names of values, empty for one left out.
        outputs: names of values.
        attributes: by their names.
    """

    type: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Message] = field(repr=False)

    def integer(self, name: str, default: int) -> int:
        """An attribute that is an integer."""
        return self.attributes[name].integer(3, default) if name in self.attributes else default

    def integers(self, name: str, default: list[int]) -> list[int]:
        """An attribute that is a list of integers."""
        return (self.attributes[name].integers(8) or default) if name in self.attributes else default

    def number(self, name: str, default: float) -> float:
        """An attribute that is a float."""
        return self.attributes[name].number(2, default) if name in self.attributes else default

    def text(self, name: str) -> str:
        """An attribute that is a text, or an empty one."""
        return self.attributes[name].text(4) if name in self.attributes else ""

    def input(self, index: int) -> str:
        """The name of an input, empty where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""


class Graph:
    """The graph of a model.

    Args:
        file: the .onnx file; the files with its external data lie in its folder.

    Attributes:
        nodes: in their order.
        inputs: names and sizes of the graph's inputs that are no constants; -1 for a size that is open.

    Raises:
        WireError: the file is no model, or is damaged.
        OSError: it cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self._folder = file.parent
        self._outside: dict[Path, memoryview] = {}
        graphs = Message(map_file(file)).parts(7)
        if not graphs:
            raise WireError("it has no graph")
        graph = Message(graphs[-1])
        self.nodes = [_read_node(message) for message in graph.messages(1)]
        self._tensors = {tensor.text(8): tensor for tensor in graph.messages(5)}
        self._makers = {output: node for node in self.nodes for output in node.outputs}
        inputs = {message.text(1): _sizes(message) for message in graph.messages(11)}
        self.inputs = {name: sizes for name, sizes in inputs.items() if name not in self._tensors}

    def constant(self, name: str, depth: int = 0) -> Array | None:
        """The value of a constant, also of one that is turned or reshaped first; None for anything else.

        Raises:
            WireError: its data are damaged, too short or outside the folder.
        """
        if depth > _DEEPEST:
            raise WireError(f"constant {name!r} goes through too many nodes")
        if name in self._tensors:
            return self._read(self._tensors[name])
        node = self._makers.get(name)
        if node is None:
            return None
        if node.type == "Constant" and "value" in node.attributes:
            tensors = node.attributes["value"].messages(5)
            return self._read(tensors[-1]) if tensors else None
        change = _CHANGES.get(node.type)
        value = self.constant(node.input(0), depth + 1) if change and node.input(0) else None
        if change is None or value is None:
            return None
        try:
            sizes = self.constant(node.input(1), depth + 1) if node.type == "Reshape" else None
            return change(value, node, sizes)
        except (ValueError, TypeError, IndexError) as error:
            raise WireError(f"node {node.name!r} does not fit its constant: {error}") from error

    def is_constant(self, name: str) -> bool:
        """Whether a value is there before any image is, without reading it."""
        for _ in range(_DEEPEST):
            if name in self._tensors:
                return True
            node = self._makers.get(name)
            if node is None or (node.type != "Constant" and node.type not in _CHANGES):
                return False
            if node.type == "Constant":
                return True
            name = node.input(0)
        return False

    def _read(self, tensor: Message) -> Array:
        sizes, kind = tensor.integers(1), tensor.integer(2, 0)
        name = tensor.text(8)
        if kind not in _DTYPES:
            raise WireError(f"tensor {name!r} is of the data type {kind}; float, double, float16 and bfloat16 are read")
        if tensor.integer(14, 0) == _EXTERNAL:
            numbers = np.frombuffer(self._external(tensor, name), _DTYPES[kind])
        elif 9 in tensor:
            numbers = tensor.floats(9, _DTYPES[kind])
        elif kind in _INTEGER_FIELDS:
            numbers = np.array(tensor.integers(_INTEGER_FIELDS[kind]), np.int64)
        else:
            numbers = tensor.floats(_TYPED_FIELDS.get(kind, 4), _DTYPES[kind])
        if len(sizes) > 8 or min(sizes, default=0) < 0 or math.prod(sizes) != numbers.size:
            raise WireError(f"tensor {name!r} says the shape {tuple(sizes[:8])} and has {numbers.size} numbers")
        if kind == _BFLOAT16:
            numbers = (numbers.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return numbers.reshape(sizes)

    def _external(self, tensor: Message, name: str) -> memoryview:
        """The bytes of a tensor in a file of its own, which has to lie in the folder of the model."""
        entries = {entry.text(1): entry.text(2) for entry in tensor.messages(13)}
        location = entries.get("location", "")
        folder = self._folder.resolve()
        try:
            path = (folder / location).resolve()
            if not location or not path.is_relative_to(folder):
                raise WireError(f"tensor {name!r} lies in {location!r}, outside the folder of the model")
            if not path.is_file():
                raise WireError(f"the file {location!r} with its weights is missing: put it into the same folder")
            if path not in self._outside:
                self._outside[path] = map_file(path)
            data = self._outside[path]
            begin = int(entries.get("offset", 0))
            size = int(entries.get("length", len(data) - begin))
        except (ValueError, RuntimeError) as error:  # no number, a zero byte in a path, a loop of links
            if isinstance(error, WireError):
                raise
            raise WireError(f"tensor {name!r} has external data in no usable place: {error}") from error
        if begin < 0 or size < 0 or begin + size > len(data):
            raise WireError(f"tensor {name!r} goes beyond the end of {location!r}: is that file cut short?")
        if size % np.dtype(_DTYPES[tensor.integer(2, 0)]).itemsize:
            raise WireError(f"tensor {name!r} has {size} bytes, no whole number of numbers")
        return data[begin : begin + size]


def _read_node(message: Message) -> Node:
    outputs = message.texts(2)
    domain = message.text(7)
    kind = message.text(4)
    return Node(
        type=kind if domain in ("", "ai.onnx") else f"{domain}.{kind}",
        name=message.text(3) or (outputs[0] if outputs else ""),
        inputs=message.texts(1),
        outputs=outputs,
        attributes={attribute.text(1): attribute for attribute in message.messages(5)},
    )


def _sizes(value: Message) -> list[int]:
    """The shape of an input: ValueInfoProto, TypeProto, its tensor, TensorShapeProto, and each Dimension."""
    for kind in value.messages(2):
        for tensor in kind.messages(1):
            for shape in tensor.messages(2):
                return [dimension.integer(1, -1) for dimension in shape.messages(1)]
    return []


def _transpose(value: Array, node: Node, _: Array | None) -> Array:
    return value.transpose(node.integers("perm", list(range(value.ndim))[::-1]))


def _reshape(value: Array, node: Node, sizes: Array | None) -> Array:
    if sizes is None or sizes.size > 8:
        raise ValueError("no shape")
    wanted = [value.shape[axis] if size == 0 else int(size) for axis, size in enumerate(sizes.ravel().tolist())]
    return value.reshape(wanted)


def _same(value: Array, node: Node, _: Array | None) -> Array:
    return value


_CHANGES: Final[dict[str, Callable[[Array, Node, Array | None], Array]]] = {
    "Identity": _same,
    "Cast": _same,
    "Reshape": _reshape,
    "Transpose": _transpose,
}
"""Nodes that exporters put between a constant and its use. None makes a value larger than it was."""
