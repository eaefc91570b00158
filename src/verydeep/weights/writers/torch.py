"""Writes weights for torchvision and timm, and makes a VGG of torchvision that shares a net's weights."""

from collections import OrderedDict
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from verydeep.errors import UserError
from verydeep.files import atomic_write
from verydeep.nets.net import VeryDeep
from verydeep.nets.reuse import TORCHVISION_MEAN, TORCHVISION_STD
from verydeep.weights.preprocessing import KEY, record_of
from verydeep.weights.readers.torch import Style, layer_names, pixels
from verydeep.weights.writers.target import Preprocessing, Target, subtracts


def to_state_dict(net: VeryDeep, style: Style) -> dict[str, Tensor]:
    """The weights under the names of torchvision or timm; views of ours, and no copies."""
    theirs = layer_names(net.geometry, style)
    state: dict[str, Tensor] = {}
    for name, tensor in net.state_dict().items():
        layer, _, part = name.rpartition(".")
        if layer in theirs:
            is_matrix = part == "weight" and (layer == "fc8" or (style == "torchvision" and layer.startswith("fc")))
            state[f"{theirs[layer]}.{part}"] = tensor.flatten(1) if is_matrix else tensor
    return state


def has_torchvision_input(net: VeryDeep) -> bool:
    """Whether a net subtracts and divides by exactly what torchvision does."""
    return subtracts(net, pixels(TORCHVISION_MEAN), pixels(TORCHVISION_STD))


def _write_torchvision(net: VeryDeep, file: Path) -> None:
    with atomic_write(file) as temporary:
        state = OrderedDict(to_state_dict(net, "torchvision"))
        # where torch keeps the versions of modules, by their names: what it does not know it passes over
        state._metadata = OrderedDict({"": {"version": 1}, KEY: record_of(net)})  # type: ignore[attr-defined]
        torch.save(state, temporary)


def _write_timm(net: VeryDeep, file: Path) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in to_state_dict(net, "timm").items()}
    with atomic_write(file) as temporary:
        save_file(tensors, temporary, {"format": "pt", KEY: record_of(net)})


def _preprocessing(net: VeryDeep, call: str) -> Preprocessing:
    default = has_torchvision_input(net)
    mean = TORCHVISION_MEAN if default else tuple(number / 255 for number in net.mean.tolist())
    std = TORCHVISION_STD if default else tuple(number / 255 for number in net.divisor.tolist())
    return Preprocessing(channels="RGB", largest=1, mean=mean, std=std, call=call, is_default=default)


def _vgg(net: VeryDeep) -> str:
    return f"vgg{net.geometry.architecture.weight_layers}{'_bn' if net.geometry.batch_norm else ''}"


TORCHVISION: Final = Target(
    name="torchvision",
    suffixes=(".pth", ".pt"),
    architectures=("A", "B", "D", "E"),
    batch_norm=True,
    features_only=False,
    write=_write_torchvision,
    expects=lambda net: _preprocessing(net, "transforms.v2.Normalize(mean, std) after division by 255"),
    make=lambda net: f"torchvision.models.{_vgg(net)}(num_classes={net.geometry.num_classes})",
    load="model.load_state_dict(torch.load({file!r}, weights_only=True), strict=True)",
)

TIMM: Final = Target(
    name="timm",
    suffixes=(".safetensors",),
    architectures=("A", "B", "D", "E"),
    batch_norm=True,
    features_only=False,
    write=_write_timm,
    expects=lambda net: _preprocessing(net, "timm.data.create_transform(mean=mean, std=std)"),
    make=lambda net: f"timm.create_model({_vgg(net)!r}, num_classes={net.geometry.num_classes})",
    load="model.load_state_dict(safetensors.torch.load_file({file!r}), strict=True)",
)


class AdaptedConvolution(nn.Conv2d):
    """A first convolution, with shared weights, that turns torchvision's input into what they were trained on.

    Per channel that is a factor and a shift. The factor could be folded into the weights; the shift could not, because
    the padding is zero after it and would be another grey before it. So both stand here, before the padding.
    """

    torchvision_scale: Tensor
    torchvision_shift: Tensor

    def __init__(self, like: nn.Conv2d, scale: Float[Tensor, "3"], shift: Float[Tensor, "3"]) -> None:
        super().__init__(3, like.out_channels, 3, padding=1, device="meta")
        self.weight, self.bias = like.weight, like.bias
        # in the state dict too: without them its weights would give other scores, in silence
        for name, numbers in (("torchvision_scale", scale), ("torchvision_shift", shift)):
            self.register_buffer(name, numbers.float()[:, None, None].to(like.weight.device))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        """Convolves images that torchvision normalised."""
        adapted = images * self.torchvision_scale + self.torchvision_shift
        return super().forward(adapted.to(self.weight.dtype))


def to_torchvision(net: VeryDeep) -> nn.Module:
    """Gives a VGG of torchvision with the weights of a net; they are shared, and no copies.

    Its input is RGB in 0..1 less (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225), whatever the net subtracts.
    Where that is the same, the twin is torchvision's own class and nothing else; elsewhere its first convolution turns
    the one convention into the other, by two buffers: a state dict of it is refused by torchvision's plain class, which
    would give other scores, and ``weights import`` reads it. Like every VGG of torchvision it pools the last map of
    larger images to 7x7, so it is not dense.

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
    TORCHVISION.check(net)
    geometry = net.geometry
    with torch.device("meta"):
        features = make_layers(cfgs[geometry.architecture.name], batch_norm=geometry.batch_norm)
        twin: nn.Module = VGG(features, num_classes=geometry.num_classes, init_weights=False)
    twin.load_state_dict(to_state_dict(net, "torchvision"), strict=True, assign=True)
    if not has_torchvision_input(net):
        features[0] = _adapted(net, features[0])
    return twin.train(net.training)


def _adapted(net: VeryDeep, first: nn.Conv2d) -> AdaptedConvolution:
    mean, std = (torch.tensor(numbers, dtype=torch.float64) for numbers in (TORCHVISION_MEAN, TORCHVISION_STD))
    ours, divisor = net.mean.double().cpu(), net.divisor.double().cpu()
    return AdaptedConvolution(first, scale=255 * std / divisor, shift=(255 * mean - ours) / divisor)
