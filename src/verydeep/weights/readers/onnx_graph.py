"""The graph of an .onnx file, read by the onnx package: its nodes, and its constants in the file or beside it.

Sizes and the paths of external data are checked first: onnx itself takes what a file claims.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

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
_T = TypeVar("_T", int, float, bytes, list[int])


class Node:
    """One operation: its type, with a domain before it that is not ONNX's own, and its name or that of its output."""

    def __init__(self, proto: "onnx.NodeProto") -> None:
        self.inputs, self.outputs = list(proto.input), list(proto.output)
        self.type = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
        self.name = proto.name or (self.outputs[0] if self.outputs else "")
        self.attributes = {attribute.name: attribute for attribute in proto.attribute}

    def get(self, name: str, default: _T) -> _T:
        """An attribute of the type of its default."""
        from onnx import helper

        value = helper.get_attribute_value(self.attributes[name]) if name in self.attributes else default
        if type(value) is not type(default):
            raise WireError(f"node {self.name[:80]!r} has a {type(value).__name__} as its {name}")
        return value

    def equal(self, name: str, default: int) -> int:
        """An attribute whose integers are all the same; -1 where they differ."""
        values = set(self.get(name, [default]) or [default])
        return values.pop() if len(values) == 1 else -1

    def input(self, index: int) -> str:
        """The name of an input, empty where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""


class Graph:
    """The graph of a model; the files with its external data lie in its folder."""

    def __init__(self, file: Path) -> None:
        graph = _load(file)
        self._folder = file.parent.resolve()
        self.nodes = [Node(proto) for proto in graph.node]
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {output: node for node in self.nodes for output in node.outputs}
        # those that are no constants, with their sizes; -1 for a size that is open
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
        # what exporters put between a constant and its use; none of it makes a value larger than it was
        if node.type not in ("Identity", "Cast", "Transpose", "Reshape") or not node.input(0):
            return None
        value = self.constant(node.input(0), depth + 1)
        sizes = self.constant(node.input(1), depth + 1) if node.type == "Reshape" else None
        try:
            if value is not None and node.type == "Transpose":
                return value.transpose(node.get("perm", list(range(value.ndim))[::-1]))
            return value if value is None or node.type != "Reshape" else _reshape(value, sizes)
        except (ValueError, TypeError, IndexError) as error:
            raise WireError(f"node {node.name!r} does not fit its constant: {error}") from error

    def _read(self, tensor: "onnx.TensorProto") -> Array:
        from onnx import numpy_helper

        kind, name, shape = tensor.data_type, tensor.name, list(tensor.dims)
        if kind not in _DTYPES:
            raise WireError(f"tensor {name!r} is of the data type {kind}; float, double, float16 and bfloat16 are read")
        if len(shape) > 8 or min(shape, default=0) < 0:
            raise WireError(f"tensor {name!r} says the shape {tuple(shape[:8])}")
        if tensor.data_location == tensor.EXTERNAL or tensor.HasField("raw_data"):
            data = self._external(tensor) if tensor.data_location == tensor.EXTERNAL else tensor.raw_data
            if math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize != len(data):
                raise WireError(f"tensor {name!r} says the shape {tuple(shape)} and has {len(data)} bytes")
            numbers: Array = np.frombuffer(data, _DTYPES[kind])
            if kind == _BFLOAT16:
                numbers = (numbers.astype(np.uint32) << np.uint32(16)).view(np.float32)
            return numbers.reshape(shape)
        stored = (tensor.float_data, tensor.double_data, tensor.int32_data, tensor.int64_data)
        if math.prod(shape) not in map(len, stored):
            raise WireError(f"tensor {name!r} says the shape {tuple(shape)} and has other numbers")
        numbers = numpy_helper.to_array(tensor)
        return numbers.astype(np.float32) if kind == _BFLOAT16 else numbers

    def _external(self, tensor: "onnx.TensorProto") -> memoryview:
        """The bytes of a tensor in a file of its own, which has to lie in the folder of the model."""
        name, entries = tensor.name, {entry.key: entry.value for entry in tensor.external_data}
        location, folder = entries.get("location", ""), self._folder
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


def _reshape(value: Array, sizes: Array | None) -> Array:
    if sizes is None or sizes.size > 8:
        raise ValueError("no shape")
    return value.reshape([value.shape[axis] if size == 0 else int(size) for axis, size in enumerate(sizes.flat)])
