"""The nets that are compared on a GPU: verydeep's, torchvision's and timm's, and how much work they are."""

import importlib

import torch
from torch import Tensor, nn

from verydeep.device import Compute
from verydeep.nets.architecture import Geometry, find_architecture, layers
from verydeep.nets.net import IMAGENET_MEAN, VeryDeep

LIBRARIES = ("verydeep", "torchvision", "timm")
CLASSES = 1000


class Normalised(nn.Module):
    """A peer's net with what verydeep's nets do themselves: uint8 RGB becomes numbers about zero."""

    mean: Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Scores of images n,3,h,w."""
        x = ((images.float() - self.mean) / 58.0).to(next(self.net.parameters()).dtype)
        scores: Tensor = self.net(x)
        return scores


def make_net(library: str, name: str, crop: int, choice: Compute) -> nn.Module:
    """Makes a net of a library on the device, with random weights.

    Raises:
        ImportError: the library is not on this machine.
    """
    row, batch_norm = find_architecture(name)
    peer = row.aliases[0].lower().replace("-", "") + ("_bn" if batch_norm else "")
    with torch.device(choice.device):  # random weights of 550 MB are drawn there in no time
        if library == "verydeep":
            ours = VeryDeep(name, num_classes=CLASSES, crop=crop)
            ours.place(choice)
            return ours
        if library == "torchvision":
            net = importlib.import_module("torchvision.models").get_model(peer, weights=None, num_classes=CLASSES)
        else:
            net = importlib.import_module("timm").create_model(peer, pretrained=False, num_classes=CLASSES)
        layout = torch.channels_last if choice.channels_last else torch.contiguous_format
        return Normalised(net).to(memory_format=layout)


def work(name: str, task: str, crop: int) -> int:
    """Operations for one image: two for each multiplication with an addition."""
    row, batch_norm = find_architecture(name)
    macs = [layer.macs for layer in layers(Geometry(architecture=row, batch_norm=batch_norm, crop=crop))]
    return 2 * (sum(macs) if task == "inference" else 3 * sum(macs) - macs[0])
