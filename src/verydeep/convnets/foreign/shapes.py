"""From the shapes of named tensors to the net of Table 1 that they belong to."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from verydeep.errors import UsageError, UserError
from verydeep.nets.architecture import ARCHITECTURES, Architecture, Geometry, Layer, layers
from verydeep.paper import constants

_CONVOLUTION = re.compile(r"conv([1-9])_([1-9])\.weight")
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
COUNTER = "num_batches_tracked"
"""The tensor of a batch norm that older files lack."""

Shape = tuple[int, ...]


def infer_geometry(tensors: Mapping[str, Tensor], *, features_only: bool) -> Geometry:
    """Finds architecture, batch norm, width, crop and number of classes, and checks every shape against Table 1.

    Args:
        tensors: by our names.
        features_only: whether the fully connected layers are not expected; then the crop is 224.

    Raises:
        UserError: they are no net of Table 1; the message names what does not fit, with its shape.

    Paper: section 2.1, Table 1.
    """
    row = _find_row(tensors)
    batch_norm = any(name.startswith("bn") for name in tensors)
    crop, num_classes = constants.CROP, 1000
    if not features_only:
        crop, num_classes = _square_kernel(tensors) * constants.TOTAL_STRIDE, _shape_of(tensors, "fc8.weight")[0]
    geometries = []
    for width in _possible_widths(tensors, row):
        try:
            geometry = Geometry(
                architecture=row, batch_norm=batch_norm, num_classes=num_classes, crop=crop, width=width
            )
        except UsageError as error:
            raise UserError(f"no net of Table 1: {error}") from error
        geometries.append(geometry)
    misfits = [misfit(tensors, geometry, features_only=features_only) for geometry in geometries]
    for geometry, problem in zip(geometries, misfits, strict=True):
        if problem is None:
            return geometry
    raise UserError(str(misfits[0]))


def misfit(tensors: Mapping[str, Tensor], geometry: Geometry, *, features_only: bool) -> str | None:
    """Says which tensor does not fit a net, with its shape; None where all do."""
    expected = expected_shapes(geometry, features_only=features_only)
    for name, shape in expected.items():
        if name not in tensors:
            if name.endswith(COUNTER):
                continue
            return f"{name} of {geometry.title} is missing"
        if tuple(tensors[name].shape) != shape:
            return f"{name} has the shape {tuple(tensors[name].shape)}, and not {shape} as in {geometry.title}"
    for name, tensor in tensors.items():
        if name not in expected:
            return f"{name}, of shape {tuple(tensor.shape)}, is none of {geometry.title}"
    return None


def expected_shapes(geometry: Geometry, *, features_only: bool = False) -> dict[str, Shape]:
    """Shapes of all tensors of a net, by name and without the mean and the divisor."""
    shapes: dict[str, Shape] = {}
    for layer in layers(geometry):
        if features_only and layer.kind == "fully-connected":
            break
        shapes |= _layer_shapes(layer)
    return shapes


def _layer_shapes(layer: Layer) -> dict[str, Shape]:
    match layer.kind:
        case "convolution" | "fully-connected":
            kernel = (layer.channels, layer.in_channels, layer.kernel, layer.kernel)
            return {f"{layer.name}.weight": kernel, f"{layer.name}.bias": (layer.channels,)}
        case "batch-norm":
            vectors: dict[str, Shape] = {f"{layer.name}.{name}": (layer.channels,) for name in _STATISTICS}
            return vectors | {f"{layer.name}.{COUNTER}": ()}
        case _:
            return {}


def _find_row(tensors: Mapping[str, Tensor]) -> Architecture:
    blocks: dict[int, dict[int, int]] = {}
    for name, tensor in tensors.items():
        if found := _CONVOLUTION.fullmatch(name):
            if tensor.ndim != 4 or tensor.shape[-1] != tensor.shape[-2]:
                raise UserError(f"{name} has the shape {tuple(tensor.shape)}: it is no square convolution")
            blocks.setdefault(int(found[1]), {})[int(found[2])] = tensor.shape[-1]
    if not blocks:
        raise UserError("there is no convolution in it")
    kernels = tuple(tuple(kernel for _, kernel in sorted(block.items())) for _, block in sorted(blocks.items()))
    for row in ARCHITECTURES.values():
        if row.blocks == kernels and not row.local_response_norm:
            return row
    shown = " | ".join(" ".join(f"{kernel}x{kernel}" for kernel in block) for block in kernels)
    known = ", ".join(row.name for row in ARCHITECTURES.values())
    raise UserError(f"its convolutions, block by block {shown}, are no column of Table 1 ({known})")


def _shape_of(tensors: Mapping[str, Tensor], name: str) -> Shape:
    if name not in tensors:
        raise UserError(f"{name} is missing")
    shape = tuple(tensors[name].shape)
    if len(shape) != 4:
        raise UserError(f"{name} has the shape {shape}, and not four dimensions")
    return shape


def _square_kernel(tensors: Mapping[str, Tensor]) -> int:
    *_, height, width = shape = _shape_of(tensors, "fc6.weight")
    if height != width:
        raise UserError(f"fc6.weight has the shape {shape}: nets of square crops have square kernels")
    return height


def _possible_widths(tensors: Mapping[str, Tensor], row: Architecture) -> list[float]:
    """Widths by the layers with most channels first: their rounding says most."""
    hidden = [tensors["fc7.weight"].shape[0] / constants.FC_CHANNELS] if "fc7.weight" in tensors else []
    last = [
        tensors[f"conv{block}_{len(row.blocks[block - 1])}.weight"].shape[0] / constants.BLOCK_CHANNELS[block - 1]
        for block in (5, 4, 3, 2, 1)
    ]
    return list(dict.fromkeys([*last[:1], *hidden, *last[1:]]))


def check_numbers(tensors: Mapping[str, Tensor]) -> None:
    """Refuses weights that are no numbers.

    Raises:
        UserError: one is NaN or infinite, or a variance is negative.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            if name.endswith(COUNTER):
                continue
            raise UserError(f"{name} is of type {tensor.dtype}, and weights are floating point")
        finite = torch.isfinite(tensor.float())  # in float32, which is what becomes of it
        if not finite.all():
            count = int((~finite).sum())
            raise UserError(f"{name} has {count:,} of {tensor.numel():,} weights that are NaN or infinite")
        if name.endswith("running_var") and tensor.min() < 0:
            raise UserError(f"{name} has a variance of {float(tensor.min()):.3g}")
