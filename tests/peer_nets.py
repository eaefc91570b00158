"""Narrow VGGs of other programs, made by their own modules, and what each does to a picture before its net."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

from verydeep.nets.architecture import ARCHITECTURES

CHANNELS = (8, 16, 32, 64, 64)
HIDDEN = 512
"""The channels of width 0.125."""


KERAS_FORMS = (".keras", ".weights.h5", ".h5", "legacy.h5")


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Gives every bias, factor and statistic a value of its own, so that none can be mixed up unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                fan_in = module.weight[0].numel()
                module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.num_batches_tracked.fill_(7)
    return net.eval()


def configuration(architecture: str) -> list[int | str]:
    """A narrow column of Table 1 as torchvision and timm write it."""
    rows = zip(ARCHITECTURES[architecture].blocks, CHANNELS, strict=True)
    return [part for block, channels in rows for part in (*(channels for _ in block), "M")]


def torchvision_net(architecture: str = "D", *, batch_norm: bool = False, num_classes: int = 5) -> nn.Module:
    """A narrow VGG of torchvision."""
    from torchvision.models.vgg import VGG, make_layers

    with torch.device("meta"):  # its own fully connected layers are large
        net = VGG(make_layers(configuration(architecture), batch_norm), num_classes, init_weights=False)
        widths = {0: (49 * CHANNELS[-1], HIDDEN), 3: (HIDDEN, HIDDEN), 6: (HIDDEN, num_classes)}
        for place, (inputs, outputs) in widths.items():
            net.classifier[place] = nn.Linear(inputs, outputs)
    return randomise(net.to_empty(device="cpu"))


def timm_net(*, batch_norm: bool = False, num_classes: int = 5) -> nn.Module:
    """A narrow D of timm."""
    from timm.layers import ClassifierHead
    from timm.models.vgg import VGG, ConvMlp

    norm = nn.BatchNorm2d if batch_norm else None
    with torch.device("meta"):
        net = VGG(configuration("D"), num_classes=num_classes, norm_layer=norm)
        net.pre_logits, net.head = ConvMlp(CHANNELS[-1], HIDDEN, 7), ClassifierHead(HIDDEN, num_classes)
    return randomise(net.to_empty(device="cpu"))


def torchvision_scores(net: nn.Module, pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Scores after torchvision's own preprocessing, of pictures that need no rescaling."""
    from torchvision.transforms._presets import ImageClassification

    side = pictures[0].width
    preset = ImageClassification(crop_size=side, resize_size=side)
    with torch.inference_mode():
        return net(torch.stack([preset(picture) for picture in pictures]))


class SeedNet(nn.Module):
    """The names of the seed class: ``net.*`` and ``classifier.*``."""

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        self.net, self.avgpool, self.classifier = like.features, like.avgpool, like.classifier

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.net(images)), 1))


def keras_net(architecture: str = "D", *, crop: int = 64, num_classes: int = 5, top: bool = True):
    """A narrow VGG of Keras with keras.applications' names, its biases random too."""
    import keras

    layers = keras.layers
    x = image = layers.Input((crop, crop, 3))
    for block, (kernels, channels) in enumerate(zip(ARCHITECTURES[architecture].blocks, CHANNELS, strict=True), 1):
        for index, kernel in enumerate(kernels, 1):
            options = {"padding": "same", "activation": "relu", "name": f"block{block}_conv{index}"}
            x = layers.Conv2D(channels, kernel, kernel_initializer="he_normal", **options)(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    if top:
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(HIDDEN, activation="relu", name="fc1")(x)
        x = layers.Dense(HIDDEN, activation="relu", name="fc2")(x)
        x = layers.Dense(num_classes, name="predictions")(x)
    net = keras.Model(image, x)
    random = np.random.default_rng(0)
    net.set_weights([random.normal(0, 0.1, part.shape) if part.ndim == 1 else part for part in net.get_weights()])
    return net


def write_keras(net, file, form):
    """Writes a net of Keras in one of its formats."""
    match form:
        case ".weights.h5":
            net.save_weights(file)
        case "legacy.h5":  # what keras.applications downloads: the weights of a model alone, in the old form
            import h5py
            from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

            with h5py.File(file, "w") as opened:
                save_weights_to_hdf5_group(opened, net)
        case _:
            net.save(file)
    return file


def keras_scores(net, pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Scores, or without a top the last map, after Keras's own preprocessing."""
    import keras

    pixels = np.stack([np.asarray(picture, np.float32) for picture in pictures])
    with torch.no_grad():
        result = net(keras.applications.vgg16.preprocess_input(pixels), training=False)
        scores = torch.from_numpy(np.array(keras.ops.convert_to_numpy(result)))
    return scores.permute(0, 3, 1, 2) if scores.ndim == 4 else scores


def crops(photos: Sequence[Path], side: int) -> list[Image.Image]:
    """Centre crops of a few photographs: what every program is then given, to do its own preprocessing."""
    return [ImageOps.fit(Image.open(photo).convert("RGB"), (side, side)) for photo in photos[:4]]


def as_pixels(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """What our nets take: n,3,h,w, uint8."""
    return torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in pictures])


def export_onnx(net: nn.Module, file: Path, side: int, **options: object) -> None:
    """Exports a net for batches of two images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.rand(2, 3, side, side),), str(file), verbose=False, **options)
