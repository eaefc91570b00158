"""Dense testing at three scales beside the 150 crops that see the same photograph."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial

import numpy as np
import torch
from numpy import ndarray
from PIL import Image
from torch import Tensor, nn

from benchmarks.compare.contender import Case, Contender, Options, Row, scores_error
from benchmarks.compare.inference import version_of
from benchmarks.compare.nets import as_torchvision_builds_it, make_net, normalised
from benchmarks.compare.photographs import find_photographs, middle, of_four_thirds, rescaled
from verydeep.images.geometry import rescaled_size
from verydeep.images.views import grid_offsets
from verydeep.nets.architecture import layers, scaled_length
from verydeep.nets.net import VeryDeep
from verydeep.paper import constants
from verydeep.speed.accelerate import Accelerated, accelerate
from verydeep.testing.classifier import posterior
from verydeep.testing.protocols import find_protocol

_ROUNDS = 3
_DENSE, _CROPS = "multi-scale", "multi-crop"


class Dense:
    """Both ways of testing one photograph of 4:3, in float32.

    Args:
        options: of the measurement.

    Raises:
        UsageError: another precision.
    """

    precisions: tuple[str, ...] = ("fp32",)

    def __init__(self, options: Options) -> None:
        options.require_fp32("dense testing is")
        self.options = options

    @property
    def notes(self) -> tuple[str, ...]:
        """The size of the photograph."""
        width, height = self._image.size
        scales = ", ".join(map(str, self._scales))
        return (f"a photograph of {width} x {height} and its mirror image at Q = {scales}",)

    def cases(self) -> Sequence[Case]:
        """Dense, and crops."""
        return [
            Case(
                name="three scales, dense",
                contenders=(
                    self._ours(_DENSE),
                    self._peer("torchvision made convolutional, channels last,", self._torchvision_dense, last=True),
                    self._peer("torchvision made convolutional,", self._torchvision_dense, last=False),
                ),
                images=1,
                rounds=_ROUNDS,
                macs=self._macs(_DENSE),
                errors=self._errors,
            ),
            Case(
                name="150 crops",
                contenders=(
                    self._ours(_CROPS),
                    self._peer("torchvision, channels last,", self._torchvision_crops, last=True),
                ),
                images=1,
                rounds=_ROUNDS,
                macs=self._macs(_CROPS),
            ),
        ]

    def extra(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """How the times of both ways compare with their work."""
        dense, crops = (row.seconds for row in rows if row.is_ours)
        work = self._macs(_CROPS) / self._macs(_DENSE)
        return {"time_ratio": crops / dense, "mac_ratio": work, "time_ratio_over_mac_ratio": crops / dense / work}

    @cached_property
    def _net(self) -> VeryDeep:
        return make_net(self.options)

    @cached_property
    def _image(self) -> Image.Image:
        return of_four_thirds(find_photographs(self.options.data, 1)[0])

    @property
    def _scales(self) -> tuple[int, ...]:
        low, high = constants.JITTERED_TRAIN_SCALES
        return tuple(scaled_length(scale, self._net.geometry.crop) for scale in (low, (low + high) // 2, high))

    def _macs(self, protocol: str) -> int:
        (method,) = find_protocol(protocol).methods
        macs = 0
        for scale in self._scales:
            width, height = rescaled_size(self._image.size, scale)
            crop = self._net.geometry.crop
            sides = (_trimmed(height), _trimmed(width)) if method.is_dense else (crop, crop)
            macs += 2 * method.parts * self._macs_of_part(*sides)
        return macs

    def _macs_of_part(self, height: int, width: int) -> int:
        """Of the convolutions by the pixels, of the fully connected layers by the positions of the score map."""
        geometry = self._net.geometry
        rows, columns = (side // constants.TOTAL_STRIDE - geometry.head_kernel + 1 for side in (height, width))
        return sum(
            layer.macs * rows * columns
            if layer.kind == "fully-connected"
            else layer.macs * height * width // geometry.crop**2
            for layer in layers(geometry)
        )

    def _posterior(self, net: VeryDeep | Accelerated, protocol: str) -> Tensor:
        return torch.from_numpy(posterior(net, self._image, protocol=protocol, test_scales=self._scales))

    def _ours(self, protocol: str) -> Contender:
        def make() -> Callable[[], Tensor]:
            fast = accelerate(self._net)
            return lambda: self._posterior(fast, protocol)

        return Contender(name=f"verydeep {version_of('verydeep')}", make=make, is_ours=True)

    def _errors(self, outputs: Mapping[str, object]) -> dict[str, float]:
        exact = self._posterior(copy.deepcopy(self._net).double(), _DENSE).double()
        return scores_error(exact)(outputs)

    def _peer(self, name: str, make: Callable[[bool], Callable[[], Tensor]], *, last: bool) -> Contender:
        full = f"{name} {version_of('torchvision')}"
        return Contender(name=full, make=partial(make, last), package="torchvision")

    def _torchvision_dense(self, last: bool) -> Callable[[], Tensor]:
        layout = torch.channels_last if last else torch.contiguous_format
        dense = _made_convolutional(as_torchvision_builds_it(self._net), self._net).to(memory_format=layout)

        def call() -> Tensor:
            of_scales = []
            for scale in self._scales:
                small = rescaled(self._image, scale)
                trimmed = middle(small, _trimmed(small.width), _trimmed(small.height))
                x = self._tensor([np.asarray(trimmed)]).contiguous(memory_format=layout)
                of_scales.append(dense(torch.cat([x, x.flip(3)])).mean((2, 3)).softmax(1).mean(0))
            return torch.stack(of_scales).mean(0)

        return call

    def _torchvision_crops(self, last: bool) -> Callable[[], Tensor]:
        layout = torch.channels_last if last else torch.contiguous_format
        twin = as_torchvision_builds_it(self._net).to(memory_format=layout)

        def call() -> Tensor:
            of_scales = []
            for scale in self._scales:
                x = self._tensor(_grid(np.asarray(rescaled(self._image, scale)), self._net.geometry.crop))
                batch = torch.cat([x, x.flip(3)]).contiguous(memory_format=layout)
                of_scales.append(twin(batch).softmax(1).mean(0))
            return torch.stack(of_scales).mean(0)

        return call

    def _tensor(self, arrays: Sequence[ndarray]) -> Tensor:
        return normalised(self._net, torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2))


def _trimmed(side: int) -> int:
    return side // constants.TOTAL_STRIDE * constants.TOTAL_STRIDE


def _grid(pixels: ndarray, crop: int) -> list[ndarray]:
    tops, lefts = (grid_offsets(side - crop) for side in pixels.shape[:2])
    return [pixels[top : top + crop, left : left + crop] for top in tops for left in lefts]


def _made_convolutional(twin: nn.Module, net: VeryDeep) -> nn.Sequential:
    """A net of torchvision whose fully connected layers became convolutions, as many have written it."""
    side, parts = net.geometry.crop // 32, list(twin.get_submodule("features").children())
    for module in twin.get_submodule("classifier").children():
        if isinstance(module, nn.Linear):
            channels = module.in_features // side**2
            convolution = nn.Conv2d(channels, module.out_features, side, device="meta")
            weight = module.weight.detach().view(module.out_features, channels, side, side)
            convolution.weight, convolution.bias = nn.Parameter(weight), module.bias
            parts.append(convolution)
            side = 1
        else:
            parts.append(module)
    return nn.Sequential(*parts).eval()
