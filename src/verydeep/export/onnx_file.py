"""A program as one ONNX file: opset 18, which ONNX Runtime reads from 1.14, in IR version 8."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy import ndarray
from onnx import TensorProto, helper, numpy_helper

from verydeep.export.operations import IMAGES, Operation, Program
from verydeep.paper import constants

OPSET: Final = 18
"""The first whose Resize has antialiasing."""

IR_VERSION: Final = 8

KERNEL: Final = "Resize, linear with antialias, half_pixel (opset 18)"

MOST_IN_ONE_FILE: Final = 2**31 - 2**24
"""Bytes of weights that stay in the file: protobuf holds 2 GB; more go to a file beside it."""

_TINY: Final = float(np.finfo(np.float32).tiny)


def onnx_model(program: Program, metadata: dict[str, str], precision: str = "fp32") -> onnx.ModelProto:
    """Makes the model of a program; the weights are copied into it."""
    nodes = _Nodes(precision)
    stays = {name for one in program.operations if one.kind in ("normalise", "linear") for name in one.constants}
    for name, array in program.constants.items():
        nodes.constant(name, array if name in stays else array.astype(nodes.weights, copy=False))
    for operation in program.operations:
        nodes.emit(operation)
    axes: list[str | int | None] = ["n", "h", "w", 3] if program.layout == "nhwc" else ["n", 3, "h", "w"]
    graph = helper.make_graph(
        nodes.nodes,
        "verydeep",
        [helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, axes)],
        [helper.make_tensor_value_info(one.name, TensorProto.FLOAT, list(one.axes)) for one in program.outputs],
        initializer=nodes.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="verydeep")
    model.ir_version = IR_VERSION
    add_metadata(model, metadata)
    return model


def add_metadata(model: onnx.ModelProto, metadata: dict[str, str]) -> None:
    del model.metadata_props[:]
    helper.set_model_props(model, metadata)


def save_onnx(model: onnx.ModelProto, file: Path, num_bytes: int) -> None:
    """Writes a model: one file, and another beside it for the weights where they are more than protobuf holds."""
    if num_bytes <= MOST_IN_ONE_FILE:
        onnx.save_model(model, file)
        return
    onnx.save_model(model, file, save_as_external_data=True, location=f"{file.name}.data", size_threshold=1024)


class _Nodes:
    """Nodes and initializers, as operations are emitted."""

    def __init__(self, precision: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.type: int = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.FLOAT
        self.weights: type[np.floating[Any]] = np.float16 if precision == "fp16" else np.float32
        self._known: set[str] = set()

    def constant(self, name: str, array: ndarray) -> str:
        if name not in self._known:
            self._known.add(name)
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def whole(self, *numbers: int) -> str:
        """A constant of int64."""
        return self.constant("whole_" + "_".join(map(str, numbers)), np.array(numbers, np.int64))

    def node(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:  # noqa: ANN401
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], name=output, **attributes))
        return output

    def emit(self, operation: Operation) -> None:
        x, name, given = operation.inputs[0], operation.output, list(operation.inputs)
        match operation.kind:
            case "planes":
                self.node("Transpose", [x], name, perm=[0, 3, 1, 2])
            case "rescale":
                sides = self._rescaled_sides(x, operation.number, name)
                self.node("Resize", [x, "", "", sides], name, mode="linear", antialias=1)
            case "trim":
                self._trim(x, operation.number, name)
            case "mirror":
                bounds = (self.whole(-1), self.whole(-(2**31)), self.whole(3), self.whole(-1))
                self.node("Slice", [x, *bounds], name)
            case "normalise":
                number = self.node("Cast", [x], f"{name}.float", to=TensorProto.FLOAT)
                mean, *divisor = operation.constants
                less = self.node("Sub", [number, mean], f"{name}.less" if divisor else name)
                if divisor:
                    self.node("Div", [less, *divisor], name)
            case "narrow":
                self.node("Cast", [x], name, to=self.type)
            case "widen":
                self.node("Cast", [x], name, to=TensorProto.FLOAT)
            case "convolution":
                self.node("Conv", [x, *operation.constants], name, pads=[operation.number] * 4)
            case "relu":
                self.node("Relu", [x], name)
            case "response-norm":
                alpha = constants.LRN_ALPHA * constants.LRN_SIZE  # it divides by the size
                lrn = {"alpha": alpha, "beta": constants.LRN_BETA, "bias": constants.LRN_K}
                self.node("LRN", [x], name, size=constants.LRN_SIZE, **lrn)
            case "max-pool":
                self.node("MaxPool", [x], name, kernel_shape=[2, 2], strides=[2, 2])
            case "mean" | "maximum":
                pooled = "GlobalAveragePool" if operation.kind == "mean" else "GlobalMaxPool"
                self.node("Flatten", [self.node(pooled, [x], f"{name}.map")], name)
            case "root":
                root = self.node("Sqrt", [self.node("Abs", [x], f"{name}.size")], f"{name}.root")
                self.node("Mul", [self.node("Sign", [x], f"{name}.sign"), root], name)
            case "unit-length":
                length = self.node("ReduceL2", [x, self.whole(1)], f"{name}.length")
                smallest = self.constant("tiny", np.array(_TINY, np.float32))
                self.node("Div", [x, self.node("Max", [length, smallest], f"{name}.divisor")], name)
            case "average":
                self.node("Mean", given, name)
            case "stack":
                self.node("Concat", given, name, axis=1)
            case "linear":
                self.node("Gemm", [x, *operation.constants], name, transB=1)
            case "softmax":
                self.node("Softmax", [x], name, axis=1)
            case "sigmoid":
                self.node("Sigmoid", [x], name)

    def _rescaled_sides(self, x: str, scale: int, name: str) -> str:
        """Shape after isotropic rescaling, halves of a pixel rounded to the even number, as ``rescaled_size`` does."""
        sides = self.node("Shape", [x], f"{name}.sides", start=2, end=4)
        shorter = self.node("ReduceMin", [sides], f"{name}.shorter", keepdims=1)
        below = self.node("Mul", [shorter, self.whole(2)], f"{name}.below")
        scaled = self.node("Mul", [sides, self.whole(2 * scale)], f"{name}.scaled")
        above = self.node("Add", [scaled, shorter], f"{name}.above")
        up = self.node("Div", [above, below], f"{name}.up")
        over = self.node("Mod", [above, below], f"{name}.over")
        is_odd = self.node("Mod", [up, self.whole(2)], f"{name}.is_odd")
        no_half = self.node("Min", [over, self.whole(1)], f"{name}.no_half")
        is_half = self.node("Sub", [self.whole(1), no_half], f"{name}.is_half")
        less = self.node("Mul", [is_odd, is_half], f"{name}.less")
        rounded = self.node("Sub", [up, less], f"{name}.rounded")
        # all four: with the attribute axes ONNX Runtime 1.32 fails to move a Transpose behind the Resize
        others = self.node("Shape", [x], f"{name}.others", start=0, end=2)
        return self.node("Concat", [others, rounded], f"{name}.shape", axis=0)

    def _trim(self, x: str, multiple: int, name: str) -> None:
        sides = self.node("Shape", [x], f"{name}.sides", start=2, end=4)
        over = self.node("Mod", [sides, self.whole(multiple)], f"{name}.over")
        first = self.node("Div", [over, self.whole(2)], f"{name}.first")
        kept = self.node("Sub", [sides, over], f"{name}.kept")
        last = self.node("Add", [first, kept], f"{name}.last")
        self.node("Slice", [x, first, last, self.whole(2, 3)], name)


def write_onnx(program: Program, metadata: dict[str, str], precision: str, file: Path, smallest_side: int) -> None:
    """Writes a program."""
    save_onnx(onnx_model(program, metadata, precision), file, program.num_bytes)


def open_onnx(file: Path) -> tuple[Callable[[ndarray], dict[str, ndarray]], dict[str, str]]:
    """Opens a file by ONNX Runtime on the CPU; returns what computes its outputs, and its metadata."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: ndarray) -> dict[str, ndarray]:
        return dict(zip(names, session.run(names, {IMAGES: images}), strict=True))

    return run, dict(session.get_modelmeta().custom_metadata_map)


def quantise_onnx(program: Program, metadata: dict[str, str], images: Sequence[ndarray], file: Path) -> None:
    """Writes a program in int8, its scales found by ONNX Runtime's static quantiser on images, each a batch of one.

    Weights have 7 bits and a scale for each output channel: with 8 bits CPUs without VNNI saturate.
    """
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> dict[str, ndarray] | None:
            image = next(self._left, None)
            return None if image is None else {IMAGES: image}

    plain = file.with_name(f"fp32-{file.name}")
    write_onnx(program, metadata, "fp32", plain, 0)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends a step for graphs with shapes that are not known
    try:
        quantize_static(
            plain,
            file,
            Images(),
            op_types_to_quantize=["Conv", "Relu", "MaxPool", "Gemm"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            use_external_data_format=program.num_bytes > MOST_IN_ONE_FILE,
        )
    finally:
        root.setLevel(level)
        plain.unlink()
        plain.with_name(f"{plain.name}.data").unlink(missing_ok=True)
    model = onnx.load_model(file, load_external_data=False)
    model.ir_version = IR_VERSION
    add_metadata(model, metadata)
    onnx.save_model(model, file)
