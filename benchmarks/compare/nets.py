"""The net that all contenders compute, and the same one as torchvision builds it."""

import torch
from torch import Tensor, nn

from benchmarks.compare.contender import Options
from verydeep.errors import UsageError
from verydeep.nets.architecture import layers
from verydeep.nets.net import VeryDeep
from verydeep.weights.resolve import load


@torch.inference_mode(False)  # weights made in it could not be converted outside of it, as some contenders do
def make_net(options: Options, *, batch_norm: bool | None = None, crop: int = 224, num_classes: int = 1000) -> VeryDeep:
    """Makes the net of the options: with random weights of seed 0, or a trained one.

    Args:
        options: the net, and the crop where they say one.
        batch_norm: instead of what the options say.
        crop: where the options say none.
        num_classes: of the random net.

    Raises:
        UserError: there is no such model.
        UsageError: a net that torchvision has not.
    """
    if options.model is not None:
        net = load(options.model)
        net.require_scores()
    else:
        net = VeryDeep(
            options.architecture,
            batch_norm=options.batch_norm if batch_norm is None else batch_norm,
            crop=options.crop or crop,
            width=options.width,
            num_classes=num_classes,
            generator=torch.Generator().manual_seed(0),
        )
    kernels = {layer.kernel for layer in layers(net.geometry) if layer.kind == "convolution"}
    if kernels != {3} or net.geometry.architecture.name == "A-LRN":
        raise UsageError(f"--architecture {net.geometry.architecture.name}: torchvision has A, B, D and E only")
    return net.eval()


def as_torchvision_builds_it(net: VeryDeep, *, dropout: float = 0.5) -> nn.Module:
    """Gives a VGG of torchvision's own classes with copies of a net's weights.

    It takes images whose mean has been subtracted (and which have been divided, where the net divides). For other crops
    and widths than the paper's it has the same layers in other sizes.

    Args:
        net: of 3x3 convolutions.
        dropout: on fc6 and fc7, while training.
    """
    from torchvision.models.vgg import VGG, make_layers

    sizes: list[str | int] = []
    for layer in layers(net.geometry):
        if layer.kind == "convolution":
            sizes.append(layer.channels)
        elif layer.kind == "max-pool":
            sizes.append("M")
    side, classes = net.geometry.crop // 32, net.geometry.num_classes
    hidden = net.get_submodule("fc6").get_parameter("weight").shape[0]
    with torch.device("meta"):
        made = make_layers(sizes, batch_norm=net.geometry.batch_norm)
        twin: nn.Module = VGG(made, num_classes=classes, init_weights=False, dropout=dropout)
        if side != 7 or hidden != 4096:
            channels = next(size for size in reversed(sizes) if size != "M")
            assert isinstance(channels, int)
            twin.avgpool = nn.AdaptiveAvgPool2d((side, side))
            twin.classifier = nn.Sequential(
                nn.Linear(channels * side * side, hidden), nn.ReLU(True), nn.Dropout(dropout),
                nn.Linear(hidden, hidden), nn.ReLU(True), nn.Dropout(dropout), nn.Linear(hidden, classes),
            )  # fmt: skip
    twin.to_empty(device="cpu")
    _copy_weights(net, twin)
    return twin.train(net.training)


@torch.no_grad()
def _copy_weights(net: VeryDeep, twin: nn.Module) -> None:
    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    ours = [module for module in net.children() if isinstance(module, kinds)]
    theirs = [module for module in twin.modules() if isinstance(module, kinds)]
    for our, their in zip(ours, theirs, strict=True):
        state = {name: value.reshape(their.state_dict()[name].shape) for name, value in our.state_dict().items()}
        their.load_state_dict(state)


def normalised(net: VeryDeep, images: Tensor) -> Tensor:
    """Images as the peers take them, which get that for nothing: the mean subtracted, contiguous, float32."""
    return ((images.float() - net.mean[:, None, None]) / net.divisor[:, None, None]).contiguous()


def random_images(count: int, side: int) -> Tensor:
    """Noise, channels last in memory as our batches are, uint8."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
