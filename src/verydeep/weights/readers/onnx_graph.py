"""The graph of an .onnx file, read by the onnx package: its nodes, and its constants in the file or beside it.

Sizes and the paths of external data are checked first: onnx itself takes what a file claims.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from verydeep.errors import UserError
from verydeep.weights.readers.protobuf import Message, WireError, map_file

if TYPE_CHECKING:
    import onnx

_LARGEST_FILE: Final = 2**31 - 1  # protobuf's own limit; larger models have their weights in other files
_DTYPES: Final = {1: "<f4", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8", 16: "<u2"}
"""Of TensorProto's data types, those of weights and shapes; bfloat16 as its sixteen bits."""

_BFLOAT16: Final = 16
_DEEPEST: Final = 16

Array = NDArray[np.generic]


class Node:
    """One operation: its type, with a domain before it that is not ONNX's own, and its name or that of its output."""

    def __init__(self, proto: "onnx.NodeProto") -> None:
        self.inputs, self.outputs = list(proto.input), list(proto.output)
        self.type = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
        self.name = proto.name or (self.outputs[0] if self.outputs else "")
        self.attributes = {attribute.name: attribute for attribute in proto.attribute}

    def integer(self, name: str, default: int) -> int:
        """An attribute that is an integer."""
        return int(self.attributes[name].i) if name in self.attributes else default

    def integers(self, name: str, default: list[int]) -> list[int]:
        """An attribute that is a list of integers."""
        return (list(self.attributes[name].ints) or default) if name in self.attributes else default

    def equal(self, name: str, default: int) -> int:
        """An attribute whose integers are all the same; -1 where they differ."""
        values = set(self.integers(name, [default]))
        return values.pop() if len(values) == 1 else -1

    def number(self, name: str, default: float) -> float:
        """An attribute that is a float."""
        return float(self.attributes[name].f) if name in self.attributes else default

    def text(self, name: str) -> str:
        """An attribute that is a text, or an empty one."""
        return self.attributes[name].s.decode(errors="replace") if name in self.attributes else ""

    def input(self, index: int) -> str:
        """The name of an input, empty where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""


class Graph:
    """The graph of a model; the files with its external data lie in its folder.

    Attributes:
        nodes: in their order.
        inputs: names and sizes of the graph's inputs that are no constants; -1 for a size that is open.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._folder = file, file.parent
        graph = _load(file)
        self.nodes = [Node(proto) for proto in graph.node]
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {output: node for node in self.nodes for output in node.outputs}
        self.inputs = {
            value.name: [
                size.dim_value if size.HasField("dim_value") else -1 for size in value.type.tensor_type.shape.dim
            ]
            for value in graph.input
            if value.name not in self._tensors
        }

    def constant(self, name: str, depth: int = 0) -> Array | None:
        """The value of a constant, also of one that is turned or reshaped first; None for anything else."""
        if depth > _DEEPEST:
            raise WireError(f"constant {name!r} goes through too many nodes")
        if name in self._tensors:
            return self._read(self._tensors[name])
        node = self._makers.get(name)
        if node is None:
            return None
        if node.type == "Constant" and "value" in node.attributes:
            return self._read(node.attributes["value"].t)
        change = _CHANGES.get(node.type)
        value = self.constant(node.input(0), depth + 1) if change and node.input(0) else None
        if change is None or value is None:
            return None
        try:
            sizes = self.constant(node.input(1), depth + 1) if node.type == "Reshape" else None
            return change(value, node, sizes)
        except (ValueError, TypeError, IndexError) as error:
            raise WireError(f"node {node.name!r} does not fit its constant: {error}") from error

    def _read(self, tensor: "onnx.TensorProto") -> Array:
        from onnx import numpy_helper

        kind, name, shape = tensor.data_type, tensor.name, list(tensor.dims)
        if kind not in _DTYPES:
            raise WireError(f"tensor {name!r} is of the data type {kind}; float, double, float16 and bfloat16 are read")
        if len(shape) > 8 or min(shape, default=0) < 0:
            raise WireError(f"tensor {name!r} says the shape {tuple(shape[:8])}")
        external = tensor.data_location == tensor.EXTERNAL
        data = self._external(tensor) if external else tensor.raw_data
        if len(data) % np.dtype(_DTYPES[kind]).itemsize:
            raise WireError(f"tensor {name!r} has {len(data)} bytes, no whole number of numbers")
        if external or tensor.HasField("raw_data"):
            numbers: Array = np.frombuffer(data, _DTYPES[kind])
            if kind == _BFLOAT16:
                numbers = (numbers.astype(np.uint32) << np.uint32(16)).view(np.float32)
        else:
            stored = (tensor.float_data, tensor.double_data, tensor.int32_data, tensor.int64_data)
            if math.prod(shape) not in map(len, stored):
                raise WireError(f"tensor {name!r} says the shape {tuple(shape)} and has other numbers")
            numbers = numpy_helper.to_array(tensor)
            numbers = numbers.astype(np.float32) if kind == _BFLOAT16 else numbers
        if math.prod(shape) != numbers.size:
            raise WireError(f"tensor {name!r} says the shape {tuple(shape)} and has {numbers.size} numbers")
        return numbers.reshape(shape)

    def _external(self, tensor: "onnx.TensorProto") -> memoryview:
        """The bytes of a tensor in a file of its own, which has to lie in the folder of the model."""
        name, entries = tensor.name, {entry.key: entry.value for entry in tensor.external_data}
        location, folder = entries.get("location", ""), self._folder.resolve()
        try:
            path = (folder / location).resolve()
            if not location or not path.is_relative_to(folder):
                raise WireError(f"tensor {name!r} lies in {location!r}, outside the folder of the model")
            if not path.is_file():
                raise WireError(f"the file {location!r} with its weights is missing: put it into the same folder")
            data = map_file(path)
            begin = int(entries.get("offset", 0))
            size = int(entries.get("length", len(data) - begin))
        except WireError:
            raise
        except (ValueError, RuntimeError) as error:  # no number, a zero byte in a path, a loop of links
            raise WireError(f"tensor {name!r} has external data in no usable place: {error}") from error
        if begin < 0 or size < 0 or begin + size > len(data):
            raise WireError(f"tensor {name!r} goes beyond the end of {location!r}: is that file cut short?")
        return data[begin : begin + size]


def _load(file: Path) -> "onnx.GraphProto":
    if file.stat().st_size > _LARGEST_FILE:
        raise WireError("it is larger than 2 GiB, and a model of that size has its weights in other files")
    for part in Message(map_file(file)).parts(7):  # a file of empty messages would fill the memory many times over
        graph = Message(part)
        graph.messages(1)
        graph.messages(5)
    try:
        import onnx
    except ImportError as error:
        raise UserError(
            f"{file} is an ONNX file, and onnx, which reads it, is not installed: pip install 'verydeep[onnx]'"
        ) from error
    model = onnx.load_model(str(file), format="protobuf", load_external_data=False)
    if not model.HasField("graph"):
        raise WireError("it has no graph")
    return model.graph


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
