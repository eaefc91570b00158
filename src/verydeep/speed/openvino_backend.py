"""A net computed by OpenVINO, in bfloat16 or, quantised by NNCF, in int8."""

import io
import logging
import math
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from verydeep.device import num_threads
from verydeep.errors import UserError
from verydeep.machine import Turn
from verydeep.nets.described import DescribedNet
from verydeep.nets.graph import ConvolutionStep, FullyConnectedStep, graph_of, over_positions, windows_by_parts
from verydeep.paper import constants
from verydeep.speed.memory import Pixels

INSTALL = 'pip install "verydeep[openvino]"'
"""What gets the libraries."""


def openvino_version() -> str | None:
    """The version of OpenVINO, such as 2026.4.1; None where it is not installed."""
    return installed_version("openvino")


def nncf_version() -> str | None:
    """The version of NNCF, which quantises; None where it is not installed."""
    return installed_version("nncf")


class OpenVinoBackend:
    """A net computed by OpenVINO: graphs of the convolutions, of the fully connected layers, and of both in one.

    Crops take the graph of all layers, images of any size one of the others after the other; each is compiled when it
    is first used. The mean is subtracted before, in float32. Threads take turns.

    Args:
        net: in float32, on the CPU.
        precision: of the products: fp32, bf16 or int8.
        calibrate: for int8, batches of images such as the net will see: what they reach fixes the scales.

    Raises:
        UserError: OpenVINO, or for int8 NNCF, is not installed; or, at a call, the weights were changed since.
    """

    def __init__(self, net: DescribedNet, precision: str, calibrate: Sequence[ndarray] = ()) -> None:
        ov = import_openvino()
        graph = graph_of(net)
        self.crop, self.num_classes = net.geometry.crop, net.geometry.num_classes
        self.layers = ("pool5",) if net.features_only else ("pool5", "fc8")
        self.head_kernel, self._channels = net.geometry.head_kernel, len(graph.convolutions[-1].bias)
        self._joined_side = net.geometry.smallest_side  # of images with one score, which take all layers in one graph
        self._mean, self._divisor = (each[:, None, None] for each in (graph.mean, graph.divisor))
        self._has_divisor = bool((self._divisor != 1).any())
        self._check_unchanged, self._lock = graph.check_unchanged, Turn()
        self._input = np.empty(0, np.float32)
        models = [_convolutions(ov, graph.convolutions)]
        if graph.fully_connected:
            models.append(_products(ov, graph.fully_connected))
        if precision == "int8":
            models = self._quantised(models, calibrate)
        if graph.fully_connected:
            models.append(_joined(ov, models[0], models[1], self._joined_side))
        self._models = {model.get_friendly_name(): model for model in models}
        self._hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": num_threads(),
            "ENABLE_CPU_PINNING": False,  # two processes would be pinned to the same cores
        }
        self._requests: dict[str, Any] = {}

    def maps(self, images: Pixels, layer: str = "fc8") -> Float32[ndarray, "n k i j"]:
        """Computes the maps of a layer, one position for 32 pixels."""
        assert layer in self.layers
        with self._lock:
            self._check_unchanged()
            n, height, width, _ = images.shape
            if layer == "fc8" and n and height == width == self._joined_side:
                scores = self._run("all-layers", self._normalised(images))
                return scores.copy()[..., None, None]  # the next call overwrites what it gives
            if n:
                map_ = self._run("convolutions", self._normalised(images))
            else:
                stride = constants.TOTAL_STRIDE
                map_ = np.empty((0, self._channels, height // stride, width // stride), np.float32)
            return map_.copy() if layer == "pool5" else self._scores(map_)

    def head(self, pool5_maps: Float32[ndarray, "n c y x"]) -> Float32[ndarray, "n k i j"]:
        """Computes the class score maps from parts of the maps after pool5."""
        with self._lock:
            self._check_unchanged()
            return self._scores(pool5_maps)

    def _scores(self, map_: Float32[ndarray, "n c y x"]) -> Float32[ndarray, "n k i j"]:
        def scores_of(windows: Float32[ndarray, "n i j c s s"]) -> Float32[ndarray, "r k"]:
            return self._run("fully-connected", _rows(windows))

        return over_positions(map_, self.head_kernel, self.num_classes, scores_of)

    def _run(self, name: str, values: Float32[ndarray, "..."]) -> Float32[ndarray, "..."]:
        if name not in self._requests:
            compiled = _core().compile_model(self._models[name], "CPU", self._hints)
            self._requests[name] = compiled.create_infer_request()
        # by default both would be copied
        given: ndarray = self._requests[name].infer([values], share_inputs=True, share_outputs=True)[0]
        return given

    def _normalised(self, images: Pixels) -> Float32[ndarray, "n 3 h w"]:
        if images.size > self._input.size:
            self._input = np.empty(images.size, np.float32)
        planes = images.transpose(0, 3, 1, 2)
        to = self._input[: images.size].reshape(planes.shape)
        np.subtract(planes, self._mean, out=to)
        if self._has_divisor:
            np.divide(to, self._divisor, out=to)
        return to

    def _quantised(self, graphs: list[Any], calibrate: Sequence[ndarray]) -> list[Any]:
        """Quantises each graph by what the images give it; the fully connected layers see the maps in float32."""
        import_nncf()
        maps = _core().compile_model(graphs[0], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        seen: list[list[ndarray]] = [[], []]
        for batch in calibrate:
            for image in batch:
                normalised = self._normalised(image[None]).copy()
                seen[0].append(normalised)
                if len(graphs) > 1:
                    map_ = maps(normalised)[0]
                    seen[1] += [_rows(part).copy() for part in windows_by_parts(map_, self.head_kernel)]
        return [quantised(graph, items) for graph, items in zip(graphs, seen, strict=False)]


def _rows(windows: Float32[ndarray, "n i j c s s"]) -> Float32[ndarray, "r l"]:
    return np.ascontiguousarray(windows).reshape(math.prod(windows.shape[:3]), -1)


def _convolutions(ov: Any, steps: Sequence[ConvolutionStep]) -> Any:  # noqa: ANN401
    """Builds the graph of the convolutions, from normalised images to the map after the last pooling."""
    op = ov.opset13
    given = value = op.parameter([-1, 3, -1, -1], ov.Type.f32, name="images")
    for step in steps:
        weight, bias = step.scaled_weight(), step.bias.astype(np.float32)
        value = op.relu(convolution_node(op, value, weight, bias, step.weight.shape[2] // 2, step.name))
        if step.normalise:
            value = response_norm_node(op, value)
        if step.pool:
            value = max_pool_output(op, value)
    return ov.Model([value], [given], "convolutions")


def convolution_node(
    op: Any,  # noqa: ANN401
    value: Any,  # noqa: ANN401
    weight: Float32[ndarray, "k c s s"],
    bias: Float32[ndarray, "k"],
    padding: int,
    name: str,
) -> Any:  # noqa: ANN401
    """Makes the node of a convolution of stride 1, whose weights are shared."""
    shared = op.constant(weight, shared_memory=True)
    sides = [padding, padding]
    return op.add(
        op.convolution(value, shared, [1, 1], sides, sides, [1, 1], name=name), op.constant(bias.reshape(1, -1, 1, 1))
    )


def response_norm_node(op: Any, value: Any) -> Any:  # noqa: ANN401
    """Makes the node of A-LRN's normalisation."""
    alpha = constants.LRN_ALPHA * constants.LRN_SIZE  # it divides by the size, as PyTorch does
    return op.lrn(value, op.constant(np.array([1])), alpha, constants.LRN_BETA, constants.LRN_K, constants.LRN_SIZE)


def max_pool_output(op: Any, value: Any) -> Any:  # noqa: ANN401
    """Makes the output of a 2x2 max-pooling that rounds sides down."""
    return op.max_pool(value, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2], "floor").output(0)


def _products(ov: Any, steps: Sequence[FullyConnectedStep]) -> Any:  # noqa: ANN401
    """Builds the graph of the fully connected layers, from the windows of fc6 as rows to rows of scores."""
    op = ov.opset13
    given = value = op.parameter([-1, steps[0].rows().shape[1]], ov.Type.f32, name="windows")
    for step in steps:
        value = op.matmul(value, op.constant(step.rows(), shared_memory=True), False, True, name=step.name)
        value = op.add(value, op.constant(step.bias.reshape(1, -1)))
        value = op.relu(value) if step.rectify else value
    return ov.Model([value], [given], "fully-connected")


def _joined(ov: Any, convolutions: Any, products: Any, crop: int) -> Any:  # noqa: ANN401
    """Joins the graphs, for images of the crop's size; they stay as they are."""
    op = ov.opset13
    first, last = convolutions.clone(), products.clone()
    first.reshape([-1, 3, crop, crop])
    map_ = first.outputs[0].get_node().input_value(0)
    rows = op.reshape(map_, op.constant(np.array([0, -1])), special_zero=True)  # 0: as many as there are images
    for target in last.inputs[0].get_target_inputs():
        target.replace_source_output(rows.output(0))
    return ov.Model([last.outputs[0].get_node().input_value(0)], first.get_parameters(), "all-layers")


@cache
def _core() -> Any:  # noqa: ANN401
    return import_openvino().Core()


def import_openvino() -> Any:  # noqa: ANN401
    """Imports OpenVINO, which then tells nobody that it is used.

    Raises:
        UserError: it is not installed.
    """
    if openvino_version() is None:
        raise UserError(f"OpenVINO is not installed: {INSTALL}")
    with _no_telemetry():
        import openvino
    return openvino


def import_nncf() -> Any:  # noqa: ANN401
    """Imports NNCF, which then tells nobody that it is used.

    Raises:
        UserError: it or OpenVINO is not installed.
    """
    if nncf_version() is None:
        raise UserError(f"int8 needs OpenVINO and NNCF, which are not both installed: {INSTALL}")
    with _no_telemetry():
        import nncf
    nncf.set_log_level(logging.ERROR)
    return nncf


def quantised(model: Any, items: Sequence[ndarray]) -> Any:  # noqa: ANN401
    """Quantises a model of one input by what the items give it."""
    nncf = import_nncf()
    with redirect_stdout(io.StringIO()):  # its progress bars would stand before a JSON answer
        return nncf.quantize(
            model, nncf.Dataset(list(items)), subset_size=len(items), advanced_parameters=_whole_range()
        )


def _whole_range() -> Any:  # noqa: ANN401
    """Scales that reach to the largest activation seen, and biases left alone.

    By default NNCF cuts the range to the mean of the images' and shifts the biases for it. On 341 photographs of
    clothing (D with batch norm, crop 64) that gave 98.0% of fp32's top-1 classes and an error of 8% of the scores;
    this gives 99.4% and 1.6%.
    """
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    return AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX, disable_bias_correction=True
    )


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """Imports without the package that tells the makers of both libraries, over the network, that they are used.

    It does so unless the user has forbidden it, and nobody has asked this one. Without it they use a stub.
    """
    name = "openvino_telemetry"
    if name in sys.modules:  # imported by somebody else, who has decided
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def installed_version(name: str) -> str | None:
    """The version of a package, without what says how it was built; None where it is not installed."""
    with suppress(PackageNotFoundError):
        return re.split("[-+]", version(name))[0] if find_spec(name) else None
    return None
