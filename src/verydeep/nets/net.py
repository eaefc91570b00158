"""VeryDeep: one PyTorch module for every column of Table 1, always convolutional.

Paper: sections 2.1 and 3.2, Table 1.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, NoReturn

import torch
from jaxtyping import Float, Num
from torch import Generator, Tensor, nn
from torch.fx import Proxy

import verydeep
from verydeep.device import Compute
from verydeep.errors import UserError
from verydeep.nets.activations import check_layers, check_pooling, check_reaches
from verydeep.nets.architecture import Geometry, find_architecture, find_head, layers, scaled_length
from verydeep.nets.boxes_card import BoxesCard
from verydeep.nets.checks import check_size, check_tensor, is_jit_traced, is_traced
from verydeep.nets.initialise import find_initialisation
from verydeep.nets.layers import (
    BatchRows,
    Convolution,
    Dropout,
    FullyConnected,
    compute_layer,
    make_module,
    outputs_of,
    recomputed,
)
from verydeep.nets.reuse import ReusableNet
from verydeep.paper import constants

IMAGENET_MEAN: Final = (123.68, 116.779, 103.939)
"""Mean RGB of ILSVRC-2012 in 0..255, as published with the authors' models."""


class VeryDeep(ReusableNet):
    """A net of the paper.

    It takes RGB images in 0..255, uint8 or floating point, and subtracts the mean itself. Its layers have the names
    everybody cites (conv1_1 ... conv5_4, fc6, fc7, fc8) and are attributes of the net.

    Args:
        architecture: a name of a column of Table 1, such as ``D`` or ``vgg16_bn``.
        num_classes: number of classes.
        batch_norm: a batch norm after every convolution; a name that ends in ``bn`` asks for it too.
        initialisation: ``gaussian``, ``gaussian-variance``, ``glorot``, ``glorot-uniform``, ``kaiming`` or ``centred``;
            None leaves the weights uninitialised.
        crop: side of the training crop, pixels, a multiple of 32; fc6 is a (crop/32) x (crop/32) convolution.
        width: factor on the channels of every layer but the last.
        head: ``paper`` is fc6, fc7 and fc8; ``linear`` is fc8 alone on the map after the last pooling, so that a linear
            classifier of mean descriptors is a net, and its score map a class activation map.
        hidden: channels of fc6 and fc7; None is 4096 times the width.
        dropout: probability of zeroing an activation of fc6 and fc7 while training.
        features_only: end with the last pooling: no fully connected layers, and no scores.
        generator: source of the random weights.

    Attributes:
        geometry: the numbers that fix the shapes.
        features_only: whether the net ends with the last pooling.
        classes: names of the classes in the order of the scores, where known.
        mirror: whether images may be flipped horizontally; False where a flip changes the class, as for digits.
        train_scale: smallest and largest training scale S, pixels.
        boxes: what its outputs say where it is a localiser, whose outputs are boxes; else None.
        mean: subtracted from the pixels, one number per channel.
        divisor: divides them afterwards, 1 by the paper's convention.
        gradient_checkpointing: whether the backward pass computes the activations of each block again instead of
            keeping them, which takes about a third more time and much less memory.
        input_range: what float images are, ``pixels`` unless ``set_input_range`` was called.
        input_is_set: True if mean and divisor were set or loaded with the weights, False if they are the defaults.

    Raises:
        UsageError: an unknown name, or a number out of range.

    Paper: section 2.1, Table 1.
    """

    mean: Tensor
    divisor: Tensor

    def __init__(
        self,
        architecture: str = "D",
        *,
        num_classes: int = 1000,
        batch_norm: bool = False,
        initialisation: str | None = "kaiming",
        crop: int = constants.CROP,
        width: float = 1.0,
        head: str = "paper",
        hidden: int | None = None,
        dropout: float = constants.DROPOUT,
        features_only: bool = False,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        row, named_batch_norm = find_architecture(architecture)
        self.geometry = Geometry(
            architecture=row,
            batch_norm=batch_norm or named_batch_norm,
            num_classes=num_classes,
            crop=crop,
            width=width,
            head=find_head(head),
            hidden=hidden,
        )
        self.features_only = features_only
        self.classes: tuple[str, ...] | None = None
        self.mirror = True
        self.input_is_set = False
        scale = scaled_length(constants.TRAIN_SCALE, crop)
        self.train_scale: tuple[int, int] = (scale, scale)
        self.boxes: BoxesCard | None = None
        self.gradient_checkpointing = False
        self._blocks: tuple[tuple[object, ...], tuple[nn.Sequential, ...]] | None = None
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN))
        self.register_buffer("divisor", torch.ones(3))
        for layer in layers(self.geometry, features_only=features_only):
            self.add_module(layer.name, make_module(layer, dropout))
        if initialisation is not None:
            self.initialise(initialisation, generator)

    def initialise(self, initialisation: str, generator: Generator | None = None) -> None:
        """Draws new weights and sets the biases to zero.

        Args:
            initialisation: a name in ``INITIALISATIONS``, such as ``kaiming``.
            generator: source of the random weights.

        Raises:
            UsageError: an unknown name.
        """
        fill = find_initialisation(initialisation)
        with torch.no_grad():
            for module in self.children():
                if isinstance(module, Convolution | FullyConnected):
                    fill(module.weight, isinstance(module, FullyConnected), generator)
                    assert module.bias is not None
                    module.bias.zero_()
                elif isinstance(module, nn.BatchNorm2d):
                    module.reset_parameters()

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - of any attribute
        """Sets an attribute; another fc8 sets the number of classes, and their names are then unknown."""
        super().__setattr__(name, value)
        if name == "fc8" and isinstance(value, nn.Conv2d | nn.Linear):
            count = value.out_channels if isinstance(value, nn.Conv2d) else value.out_features
            if count != self.geometry.num_classes:
                self.geometry, self.classes = replace(self.geometry, num_classes=count), None
                self.boxes = None

    def _apply(self, fn, recurse: bool = True) -> "VeryDeep":  # type: ignore[no-untyped-def]  # noqa: ANN001
        # bf16 would round the mean by up to half a grey level, so both buffers stay float32
        kept = {"mean": self.mean, "divisor": self.divisor}
        super()._apply(fn, recurse)
        for name, before in kept.items():
            moved: Tensor = getattr(self, name)
            if moved.dtype != before.dtype:
                setattr(self, name, before.to(moved.device))
        return self

    def place(self, choice: Compute) -> None:
        """Moves the net to a device and its convolutions into a memory layout.

        Args:
            choice: device, layout and gradient checkpointing. The fully connected layers keep their layout: in either
                they cost the same, and 400 MB need not move.
        """
        self.to(choice.device)
        self.gradient_checkpointing = choice.gradient_checkpointing
        layout = torch.channels_last if choice.channels_last else torch.contiguous_format
        for module in self.children():
            if isinstance(module, Convolution):
                module.to(memory_format=layout)

    def set_dropout(self, p: float) -> None:
        """Sets the probability of zeroing an activation of fc6 and fc7 while training."""
        for module in self.children():
            if isinstance(module, Dropout):
                module.p = p

    def tie_dropout(self, batch: BatchRows | None) -> None:
        """Draws the masks of dropout for the rows of a batch; None draws them from torch's global generator."""
        for module in self.children():
            if isinstance(module, Dropout):
                module.batch = batch

    def normalise(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Subtracts the mean and divides, in float32, then converts to the precision of the weights.

        Args:
            images: RGB in 0..255, uint8 or floating point.

        Raises:
            UserError: the images do not have three channels, or are floats that are plainly not in 0..255.
        """
        pixels = self.to_pixels(images)
        x = (pixels.float() - self.mean[:, None, None]) / self.divisor[:, None, None]
        return x.to(next(self.parameters()).dtype)

    def features(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Computes the feature map after the last pooling, at stride 32.

        Args:
            images: RGB in 0..255, uint8 or floating point.
        """
        x = self.normalise(images)
        if isinstance(x, Proxy):  # torch.fx knows the layers by their names, and no blocks
            names = list(self._modules)
            for name in names[: names.index("pool5") + 1]:
                x = self.get_submodule(name)(x)
            return x
        for block in self.blocks():
            x = recomputed(block, x) if self.gradient_checkpointing and torch.is_grad_enabled() else block(x)
        return x

    def blocks(self) -> tuple[nn.Sequential, ...]:
        """Returns the blocks, each up to and including its max-pooling; cached until a layer is replaced."""
        names = list(self._modules)
        convolutional = names[: names.index("pool5") + 1]
        key = (type(self), *(self._modules[name] for name in convolutional))
        if self._blocks is None or self._blocks[0] != key:
            blocks: list[list[nn.Module]] = [[]]
            for name in convolutional:
                blocks[-1].append(self.get_submodule(name))
                if name.startswith("pool"):
                    blocks.append([])
            self._blocks = key, tuple(self.make_block(block) for block in blocks[:-1])
        return self._blocks[1]

    def make_block(self, block: Sequence[nn.Module]) -> nn.Sequential:
        """Makes one module of the layers of a block; a subclass may compute several layers at once."""
        return nn.Sequential(*block)

    def head(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k i j"]:
        """Computes the class score map from the map after the last pooling.

        Args:
            map_: of at least fc6's size; of any size for a linear head.

        Raises:
            UserError: the map is smaller or has another number of channels, or the net has convolutions only.
            UsageError: it is not a tensor.

        Paper: section 3.2.
        """
        self.require_scores()
        self.check_map(map_)
        names = list(self._modules)
        for name in names[names.index("pool5") + 1 :]:
            map_ = compute_layer(self.get_submodule(name), map_)
        return map_

    def score_map(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n k i j"]:
        """Computes the class score map: the net applied densely to whole images.

        Args:
            images: RGB in 0..255, uint8 or floating point, each side at least the crop, or 32 for a linear head.

        Returns:
            Scores before the soft-max, at stride 32: 1x1 for an image of the size of the crop, but for a linear head.

        Raises:
            UserError: the images are smaller than the crop or not RGB in 0..255, or the net has convolutions only.
            UsageError: they are not a tensor.

        Paper: section 3.2.
        """
        self.require_scores()
        check_size(images, self.geometry.smallest_side)
        return self.head(self.features(images))

    def forward(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Computes the scores: the mean of the class score map over its positions.

        Args:
            images: RGB in 0..255, uint8 or floating point, each side at least the crop.

        Returns:
            Scores before the soft-max.

        Paper: section 3.2.
        """
        return self.score_map(images).mean((2, 3))

    def activations(
        self, images: Num[Tensor, "n 3 h w"], names: Sequence[str], *, pooling: str = "max"
    ) -> dict[str, Tensor]:
        """Computes the outputs of named layers, and no layer after the last of them.

        Gradients flow to images that ask for them. A net without fully connected layers gives all others.

        Args:
            images: RGB in 0..255, uint8 or floating point, of any size that leaves the layers a position.
            names: such as ``relu3_3``, ``pool5``, ``fc7`` (before its ReLU) or ``relu7`` (after it).
            pooling: ``max``, or ``average``, which puts the average of 2x2 positions in the place of the largest, as
                Gatys et al. did.

        Returns:
            The outputs, n,c,y,x, by name; nothing overwrites them.

        Raises:
            UserError: the images are too small for a layer or not RGB in 0..255.
            UsageError: the net has no layer of this name; the message says the nearest.
        """
        check_tensor(images)
        check_layers(names, self._modules, self.geometry)
        check_pooling(pooling)
        if not is_traced(images):
            check_reaches(images.shape[-2:], self.geometry, names)
        return outputs_of(self._modules, self.normalise(images), names, pooling=pooling)

    def check_map(self, map_: Float[Tensor, "..."]) -> None:
        """Raises UserError where the head cannot take a map: other channels, or sides smaller than fc6."""
        check_tensor(map_, "a map", "n,c,y,x")
        channels, side = self.geometry.last_channels, self.geometry.head_kernel
        if is_jit_traced(map_):
            return
        if map_.ndim != 4 or map_.shape[1] != channels or min(map_.shape[2:]) < side:
            raise UserError(
                f"a map of shape {tuple(map_.shape)}: the head of this net takes n,{channels},y,x, each side at least "
                f"{side}, as features gives it"
            )

    def __prepare_scriptable__(self) -> NoReturn:
        """Refuses ``torch.jit.script``, which torch has deprecated."""
        raise UserError(
            "TorchScript, which torch deprecates, has no types of this net: say torch.export.export(net, (images,)), "
            "or torch.compile(net)"
        )

    def as_torchvision(self) -> nn.Module:
        """Returns ``verydeep.to_torchvision`` of this net, an alias from version 0.1."""
        return verydeep.to_torchvision(self)

    def set_input(self, mean: Iterable[float], divisor: Iterable[float] = (1, 1, 1)) -> None:
        """Sets what is subtracted from the pixels and what divides them afterwards.

        Args:
            mean: one number per channel, RGB in 0..255.
            divisor: one number per channel.
        """
        self.mean.copy_(torch.tensor(list(mean)))
        self.divisor.copy_(torch.tensor(list(divisor)))
        self.input_is_set = True


def empty_net(geometry: Geometry, *, features_only: bool = False) -> VeryDeep:
    """Makes a net on the meta device, whose weights take no memory, to be filled from a file."""
    with torch.device("meta"):
        return VeryDeep(
            geometry.architecture.name,
            batch_norm=geometry.batch_norm,
            num_classes=geometry.num_classes,
            crop=geometry.crop,
            width=geometry.width,
            head=geometry.head,
            hidden=geometry.hidden,
            initialisation=None,
            features_only=features_only,
        )
