"""Tensors of a model file under the names of another program, so that both can read one file."""

from collections.abc import Mapping

from torch import Tensor

from verydeep.nets.architecture import Geometry

INPUT_NAMES = ("mean", "divisor")
"""Buffers that no other program has: a file for it keeps them in its card alone."""


def stored_names(geometry: Geometry, ours: Mapping[str, Tensor], names: str) -> dict[str, str]:
    """Gives the name in the file for each of our names; what the file does not hold is left out.

    Args:
        geometry: of the net.
        ours: tensors of the net.
        names: whose names the file has: verydeep or timm.
    """
    if names == "verydeep":
        return {name: name for name in ours}
    from verydeep.convnets.foreign.names import parts

    layers = {part.ours: part.theirs for part in parts(geometry, "timm")}
    split = {name: name.rpartition(".") for name in ours if name not in INPUT_NAMES}
    return {name: f"{layers[layer]}.{kind}" for name, (layer, _, kind) in split.items()}


def stored_shape(name: str, tensor: Tensor, names: str) -> Tensor:
    """Gives a tensor the shape that the other program stores it in: timm has fc8 as a matrix."""
    return tensor.flatten(1) if names == "timm" and name == "fc8.weight" else tensor
