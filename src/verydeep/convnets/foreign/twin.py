"""A net of ours as a VGG of torchvision: its names, its input, our weights."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from verydeep.convnets.foreign.names import TORCHVISION_MEAN, TORCHVISION_STD
from verydeep.convnets.foreign.targets import TARGETS, has_torchvision_input, to_state_dict
from verydeep.errors import UserError
from verydeep.nets.net import VeryDeep


class AdaptedConvolution(nn.Conv2d):
    """A first convolution that turns torchvision's input into what its weights were trained on.

    Per channel that is a factor and a shift. The factor could be folded into the weights; the shift could not, because
    the padding is zero after it and would be another grey before it. So both stand here, before the padding.

    Args:
        like: the convolution.
        scale: factor for each channel.
        shift: added afterwards.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, like: nn.Conv2d, scale: Float[Tensor, "3"], shift: Float[Tensor, "3"]) -> None:
        super().__init__(3, like.out_channels, 3, padding=1, device=like.weight.device)
        # not in the state dict, which is torchvision's to the name
        self.register_buffer("scale", scale[:, None, None], persistent=False)
        self.register_buffer("shift", shift[:, None, None], persistent=False)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        """Convolves images that torchvision normalised."""
        adapted = images * self.scale + self.shift
        return super().forward(adapted.to(self.weight.dtype))


def to_torchvision(net: VeryDeep) -> nn.Module:
    """Gives a VGG of torchvision with the weights of a net; they are shared, and no copies.

    Its input is RGB in 0..1 less (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225), whatever the net subtracts.
    Where that is the same, the twin is torchvision's own class and nothing else; elsewhere its first convolution turns
    the one convention into the other. Like every VGG of torchvision it pools the last map of larger images to 7x7, so
    it is not dense.

    Args:
        net: of A, B, D or E with the paper's width and crop 224.

    Raises:
        UserError: torchvision is not installed.
        UsageError: torchvision has no such VGG.
    """
    try:
        from torchvision.models.vgg import VGG, cfgs, make_layers
    except ImportError as error:
        raise UserError(
            "torchvision, whose class this is, is not installed: pip install 'verydeep[torchvision]'"
        ) from error
    TARGETS["torchvision"].check(net)
    geometry = net.geometry
    with torch.device("meta"):
        features = make_layers(cfgs[geometry.architecture.name], batch_norm=geometry.batch_norm)
        twin: nn.Module = VGG(features, num_classes=geometry.num_classes, init_weights=False)
    state = to_state_dict(net, "torchvision")
    twin.load_state_dict(state, strict=True, assign=True)
    if not has_torchvision_input(net):
        features[0] = _adapted(net, features[0])
    return twin.train(net.training)


def _adapted(net: VeryDeep, first: nn.Conv2d) -> AdaptedConvolution:
    mean, std = (torch.tensor(numbers, dtype=torch.float64) for numbers in (TORCHVISION_MEAN, TORCHVISION_STD))
    ours, divisor = net.mean.double().cpu(), net.divisor.double().cpu()
    with torch.device("meta"):
        adapted = AdaptedConvolution(first, torch.empty(3), torch.empty(3))
    adapted.scale = (255 * std / divisor).float()[:, None, None].to(first.weight.device)
    adapted.shift = ((255 * mean - ours) / divisor).float()[:, None, None].to(first.weight.device)
    adapted.weight, adapted.bias = first.weight, first.bias
    return adapted
