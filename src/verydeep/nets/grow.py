"""Copies weights from another net: from A into deeper nets, to other classes, to other crops."""

from dataclasses import dataclass

import torch

from verydeep.errors import UserError
from verydeep.nets.net import VeryDeep

GROWN_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")
"""Layers copied from a net of another architecture: A's first four convolutions and the last three layers.

Choice: by block name; by order the shapes do not fit. A batch norm is copied with its convolution.

Paper: section 3.1.
"""


@dataclass(frozen=True)
class Grown:
    """Names of the tensors that were copied, and of those that stayed as they were."""

    copied: tuple[str, ...]
    new: tuple[str, ...]

    def __str__(self) -> str:
        """Such as ``copied conv1_1 ... fc7; new fc8``."""
        layers = [list(dict.fromkeys(map(_layer, names))) for names in (self.copied, self.new)]
        return "; ".join(
            f"{word} {', '.join(names)}" for word, names in zip(("copied", "new"), layers, strict=True) if names
        )


def grow(net: VeryDeep, source: VeryDeep) -> Grown:
    """Copies into a net the weights whose shapes fit from a trained net, and its mean and divisor.

    Between nets of one architecture every layer of the same shape is copied: all but fc8 for other classes, all but fc6
    for another crop. Between architectures only the layers of GROWN_LAYERS are. They keep learning at the full rate.

    Paper: section 3.1.
    """
    alike = net.geometry.architecture == source.geometry.architecture
    same_classes = net.classes is not None and net.classes == source.classes
    available, tensors = source.state_dict(), net.state_dict()
    misfits = {
        _layer(name)
        for name, tensor in tensors.items()
        if name not in available or available[name].shape != tensor.shape
    }
    copied, new = [], []
    with torch.no_grad():
        for name, tensor in tensors.items():
            layer = _layer(name)
            if layer in ("mean", "divisor"):
                continue
            wanted = alike or layer.replace("bn", "conv") in GROWN_LAYERS
            if wanted and layer not in misfits and (layer != "fc8" or same_classes):
                tensor.copy_(available[name])
                copied.append(name)
            else:
                new.append(name)
    if not copied:
        raise UserError(
            f"{net.geometry.title} can take no layer from {source.geometry.title}: give a net of the same width"
        )
    net.set_input(source.mean.tolist(), source.divisor.tolist())
    return Grown(tuple(copied), tuple(new))


def _layer(tensor_name: str) -> str:
    return tensor_name.partition(".")[0]
