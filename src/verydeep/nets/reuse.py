"""What users of timm and torchvision reach for: another head in place, features by timm's name, their input ranges."""

from dataclasses import replace
from typing import Final

import torch
from jaxtyping import Float, Num
from torch import Generator, Tensor

from verydeep.errors import UsageError, UserError
from verydeep.nets.architecture import find_head, layers
from verydeep.nets.checks import check_images, check_shape, is_traced, range_of
from verydeep.nets.initialise import find_initialisation
from verydeep.nets.layers import Dropout, FullyConnected, make_module
from verydeep.nets.weight_arrays import ArrayNet
from verydeep.paper import constants

TORCHVISION_MEAN: Final = (0.485, 0.456, 0.406)
TORCHVISION_STD: Final = (0.229, 0.224, 0.225)
"""By which torchvision and timm normalise images in 0..1, as their released weights expect."""

_MEAN, _STD = (255 * torch.tensor(numbers)[:, None, None] for numbers in (TORCHVISION_MEAN, TORCHVISION_STD))
_ZERO, _LEVELS = torch.zeros(3, 1, 1), torch.full((3, 1, 1), 255.0)

INPUT_RANGES: Final = {"pixels": (_ZERO, torch.ones(3, 1, 1)), "unit": (_ZERO, _LEVELS), "torchvision": (_MEAN, _STD)}
"""What float images may be: RGB in 0..255, in 0..1, or normalised as torchvision does; shift and factor to pixels.

Tensors, for a trace warns of one that is made while it runs.
"""

_LARGEST: Final = 8.0
"""Above this a float is none of 0..1 or normalised: the largest of torchvision's is 2.64."""


class ReusableNet(ArrayNet):
    """A net whose head can be replaced, and that can take the input of other libraries."""

    input_range: str = "pixels"

    def features(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Computes the feature map after the last pooling."""
        raise NotImplementedError

    def forward_features(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Computes ``features``, by the name that timm has for it."""
        return self.features(images)

    def reset_classifier(self, num_classes: int, head: str | None = None, generator: Generator | None = None) -> None:
        """Replaces the last layer, or the head, by one of random weights for other classes, in place.

        All other layers, mean, divisor and ``mirror`` stay as they are; ``classes`` becomes None, and a training sets
        it. A net of convolutions alone gets a head. Make the optimiser after this: the parameters are new.

        Args:
            num_classes: number of classes, at least one.
            head: ``paper`` (fc6, fc7, fc8) or ``linear`` (fc8 alone); by default the net's own, and linear where it has
                convolutions only. fc6 and fc7 stay where the head stays.
            generator: source of the random weights, normal with standard deviation 0.01.

        Raises:
            UsageError: no such head, or no class.
        """
        if num_classes < 1:
            raise UsageError(
                f"{num_classes} classes: give at least one; without a head, load(model, features_only=True) or features"
            )
        wanted = find_head(head or ("linear" if self.features_only else self.geometry.head))
        same = wanted == self.geometry.head and not self.features_only
        hidden = self.geometry.hidden if wanted == "paper" else None
        geometry = replace(self.geometry, num_classes=num_classes, head=wanted, hidden=hidden)
        dropout = next((module.p for module in self.children() if isinstance(module, Dropout)), constants.DROPOUT)
        if not same:
            names = list(self._modules)
            for name in names[names.index("pool5") + 1 :]:
                delattr(self, name)
        like, fill = next(self.parameters()), find_initialisation("gaussian")
        for layer in layers(geometry):
            if layer.name == "fc8" or layer.name not in self._modules:
                module = make_module(layer, dropout).to(like.device, like.dtype).train(self.training)
                if isinstance(module, FullyConnected):
                    assert module.bias is not None
                    with torch.no_grad():
                        fill(module.weight, True, generator)
                        module.bias.zero_()
                setattr(self, layer.name, module)
        self.geometry, self.features_only, self.classes, self.boxes = geometry, False, None, None

    def set_input_range(self, input_range: str) -> None:
        """Chooses what float images are; uint8 images are RGB in 0..255 whatever is chosen.

        The net turns them into RGB in 0..255 first, so that its scores are those of the same image as uint8. The choice
        is of this net object: it is not saved with the weights, and exported graphs, backends and ``accelerate`` take
        RGB in 0..255. ``verydeep.to_torchvision`` gives a VGG of torchvision, with its input and names.

        Args:
            input_range: ``pixels`` (RGB in 0..255, the default), ``unit`` (0..1, as ToTensor gives), or ``torchvision``
                (0..1 less the mean of ImageNet, divided by its deviation: torchvision's and timm's default).

        Raises:
            UsageError: an unknown name.
        """
        if input_range not in INPUT_RANGES:
            raise UsageError(f"input range {input_range!r}: choose one of {', '.join(INPUT_RANGES)}")
        self.input_range = input_range

    def to_pixels(self, images: Num[Tensor, "n 3 h w"]) -> Num[Tensor, "n 3 h w"]:
        """Checks images, and turns floats of another range into RGB in 0..255."""
        has_type = isinstance(images, Tensor)  # what torch.fx puts in place of a tensor has none
        if self.input_range == "pixels" or (has_type and not images.is_floating_point()):
            check_images(images)
            return images
        check_shape(images)
        if not is_traced(images) and (high := range_of(images)[1]) > _LARGEST:
            raise UserError(
                f"float images up to {high:.3g} look like RGB in 0..255, and this net's input range is "
                f"{self.input_range}: give that, or say net.set_input_range('pixels')"
            )
        shift, factor = (numbers.to(images.device) for numbers in INPUT_RANGES[self.input_range])
        return images.float() * factor + shift
