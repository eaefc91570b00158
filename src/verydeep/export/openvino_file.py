"""A program as OpenVINO's IR: an .xml with the weights in a .bin beside it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy import ndarray

from verydeep.export.operations import IMAGES, METADATA, Operation, Program
from verydeep.speed.openvino_backend import (
    convolution_node,
    import_openvino,
    max_pool_output,
    quantised,
    response_norm_node,
)

KERNEL: Final = "Interpolate 11, bilinear_pillow"

_ROOM: Final = "verydeep"  # of our entries among the model's


def openvino_model(program: Program, metadata: dict[str, str]) -> Any:  # noqa: ANN401
    """Makes the model of a program; weights are shared with it."""
    ov = import_openvino()
    op = ov.opset13
    shape = [-1, -1, -1, 3] if program.layout == "nhwc" else [-1, 3, -1, -1]
    parameter = op.parameter(shape, ov.Type.u8, name=IMAGES)
    parameter.output(0).set_names({IMAGES})
    values: dict[str, Any] = {IMAGES: parameter}
    for operation in program.operations:
        given = [values[name] for name in operation.inputs]
        arrays = [program.constants[name] for name in operation.constants]
        values[operation.output] = _node(op, operation, given, arrays)
    results = []
    for output in program.outputs:
        result = op.result(values[output.name], name=f"{output.name}/result")
        result.output(0).set_names({output.name})
        results.append(result)
    model = ov.Model(results, [parameter], "verydeep")
    add_metadata(model, metadata)
    return model


def add_metadata(model: Any, metadata: dict[str, str]) -> None:  # noqa: ANN401
    for key, text in metadata.items():
        model.set_rt_info(text, [_ROOM, key])


def _node(op: Any, operation: Operation, given: list[Any], arrays: list[ndarray]) -> Any:  # noqa: ANN401
    x, name = given[0], operation.output
    match operation.kind:
        case "planes":
            return op.transpose(x, _whole(op, 0, 3, 1, 2), name=name)
        case "rescale":
            sides = _rescaled_sides(op, x, operation.number)
            none = [0, 0, 0, 0]
            axes = _whole(op, 2, 3)
            return op.interpolate(x, sides, "bilinear_pillow", "sizes", none, none, axes=axes, name=name)
        case "trim":
            sides, multiple = _sides(op, x), _whole(op, operation.number)
            over = _remainder(op, sides, multiple)
            first = op.divide(over, _whole(op, 2))
            last = op.add(first, op.subtract(sides, over))
            return op.slice(x, first, last, _whole(op, 1, 1), _whole(op, 2, 3), name=name)
        case "mirror":
            return op.slice(x, *(_whole(op, number) for number in (-1, -(2**31), -1, 3)), name=name)
        case "normalise":
            less = op.subtract(op.convert(x, "f32"), op.constant(arrays[0]))
            return op.divide(less, op.constant(arrays[1])) if len(arrays) > 1 else less
        case "convolution":
            return convolution_node(op, x, arrays[0], arrays[1], operation.number, name)
        case "relu":
            return op.relu(x, name=name)
        case "response-norm":
            return response_norm_node(op, x)
        case "max-pool":
            return max_pool_output(op, x)
        case "mean":
            return op.reduce_mean(x, _whole(op, 2, 3), name=name)
        case "maximum":
            return op.reduce_max(x, _whole(op, 2, 3), name=name)
        case "root":
            return op.multiply(op.sign(x), op.sqrt(op.abs(x)), name=name)
        case "unit-length":
            length = op.reduce_l2(x, _whole(op, 1), keep_dims=True)
            return op.divide(x, op.maximum(length, op.constant(np.finfo(np.float32).tiny)), name=name)
        case "average":
            total = given[0]
            for other in given[1:]:
                total = op.add(total, other)
            return op.divide(total, op.constant(np.float32(len(given))), name=name)
        case "stack":
            return op.concat(given, 1, name=name)
        case "linear":
            scores = op.matmul(x, op.constant(arrays[0]), False, True)
            return op.add(scores, op.constant(arrays[1].reshape(1, -1)), name=name)
        case "softmax":
            return op.softmax(x, 1, name=name)
        case "sigmoid":
            return op.sigmoid(x, name=name)
    raise AssertionError(operation.kind)


def _whole(op: Any, *numbers: int) -> Any:  # noqa: ANN401
    return op.constant(np.array(numbers, np.int64))


def _sides(op: Any, x: Any) -> Any:  # noqa: ANN401
    """Height and width of planes."""
    return op.gather(op.shape_of(x, "i64"), _whole(op, 2, 3), op.constant(np.int64(0)))


def _remainder(op: Any, above: Any, below: Any) -> Any:  # noqa: ANN401
    return op.subtract(above, op.multiply(op.divide(above, below), below))


def _rescaled_sides(op: Any, x: Any, scale: int) -> Any:  # noqa: ANN401
    """Height and width after isotropic rescaling, halves rounded to the even number, as ``rescaled_size`` does."""
    sides, one, two = _sides(op, x), _whole(op, 1), _whole(op, 2)
    shorter = op.reduce_min(sides, _whole(op, 0), keep_dims=True)
    below = op.multiply(shorter, two)
    above = op.add(op.multiply(sides, _whole(op, 2 * scale)), shorter)
    up = op.divide(above, below)
    is_half = op.subtract(one, op.minimum(_remainder(op, above, below), one))
    return op.subtract(up, op.multiply(_remainder(op, up, two), is_half))


def write_openvino(program: Program, metadata: dict[str, str], precision: str, file: Path, smallest_side: int) -> None:
    """Writes a program."""
    save_openvino(openvino_model(program, metadata), file, precision)


def save_openvino(model: Any, file: Path, precision: str) -> None:  # noqa: ANN401
    """Writes a model; OpenVINO itself rounds weights to fp16."""
    import_openvino().save_model(model, str(file), compress_to_fp16=precision == "fp16")


def open_openvino(file: Path) -> tuple[Callable[[ndarray], dict[str, ndarray]], dict[str, str]]:
    """Compiles a file for the CPU in float32; returns what computes its outputs, and its metadata."""
    core = import_openvino().Core()
    model = core.read_model(str(file))
    names = [output.get_any_name() for output in model.outputs]
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: ndarray) -> dict[str, ndarray]:
        results = compiled(np.ascontiguousarray(images))
        return {name: np.array(results[number]) for number, name in enumerate(names)}

    known = [key for key in METADATA if model.has_rt_info([_ROOM, key])]
    return run, {key: str(model.get_rt_info([_ROOM, key]).astype(str)) for key in known}


def quantise_openvino(program: Program, metadata: dict[str, str], images: Sequence[ndarray], file: Path) -> None:
    """Writes a program in int8, its scales found by NNCF on images, each a batch of one."""
    model = quantised(openvino_model(program, metadata), images)
    add_metadata(model, metadata)
    save_openvino(model, file, "int8")
