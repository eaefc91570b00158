"""Tests of nets that share their lower blocks: the maps of an image are computed once and kept for the next net.

Paper: section 3.2; the shared blocks are our addition.
"""

from hashlib import blake2b
from typing import Final

import torch
from jaxtyping import Float, Float32, UInt8
from numpy import ndarray
from torch import Tensor

from verydeep.data.image_set import ImageSet
from verydeep.nets.net import VeryDeep
from verydeep.nets.upper import UpperBlocks
from verydeep.progress import Progress, ignore_progress
from verydeep.speed.backend import make_backend
from verydeep.speed.train_net import choose_training, place, release
from verydeep.testing.evaluate import evaluate_with
from verydeep.testing.result import Result

_LAYERS: Final = ("pool5", "fc8")


class LowerBlocks:
    """The lower blocks of a net, and their maps of every image that they have seen.

    Args:
        net: whose blocks they are.
        first_block: the first block above them.
        device: where they are computed, in float32, as all tests are.
        most_bytes: of the maps that are kept; those of further images are computed each time.
    """

    def __init__(self, net: VeryDeep, first_block: int, device: str, *, most_bytes: int) -> None:
        self.first_block = first_block
        self.compute = compute = choose_training(net.geometry, device=device, precision="fp32")
        self._layer = f"pool{first_block - 1}"
        self._backend = make_backend(net, compute, layer=self._layer)
        self._kept: dict[tuple[tuple[int, ...], bytes], Tensor] = {}
        self._bytes_left = most_bytes

    def maps(self, images: UInt8[ndarray, "n h w 3"]) -> Float32[Tensor, "n c y x"]:
        names = [(image.shape, blake2b(image.tobytes(), digest_size=16).digest()) for image in images]
        new = [row for row, name in enumerate(names) if name not in self._kept]
        computed: dict[int, Tensor] = {}
        if new:
            found = torch.from_numpy(self._backend.maps(images[new], self._layer))
            computed = dict(zip(new, found, strict=True))
        maps = [computed[row] if row in computed else self._kept[name] for row, name in enumerate(names)]
        for row, map_ in computed.items():
            if map_.nbytes <= self._bytes_left:
                self._kept[names[row]] = map_.clone(memory_format=torch.contiguous_format)
                self._bytes_left -= map_.nbytes
        return torch.stack(maps).contiguous(memory_format=torch.channels_last)

    def evaluate(
        self, net: VeryDeep, images: ImageSet, *, mirror: bool, progress: Progress = ignore_progress
    ) -> Result:
        """Measures the error rates of a net over these blocks by ``single``, with mirror images or without."""
        place(net, self.compute)
        was_training = net.training
        try:
            return evaluate_with(UpperBackend(net.eval(), self), net, images, mirror=mirror, progress=progress)
        finally:
            release(net.train(was_training))


class UpperBackend:
    """Computes the upper blocks of a net on the maps of the lower ones; see ``Backend``."""

    layers = _LAYERS

    def __init__(self, net: VeryDeep, lower: LowerBlocks) -> None:
        self._upper, self._lower = UpperBlocks(net, lower.first_block), lower
        self.crop, self.num_classes = net.geometry.crop, net.geometry.num_classes
        self.head_kernel = net.geometry.head_kernel

    def maps(self, images: UInt8[ndarray, "n h w 3"], layer: str = "fc8") -> Float32[ndarray, "n k i j"]:
        """Computes the maps of pool5, or the raw scores."""
        compute = self._lower.compute
        with torch.inference_mode(), compute.autocast():
            (moved,) = compute.move(self._lower.maps(images))
            found = self._upper.features(moved)
            return self._given(found if layer == "pool5" else self._upper.net.head(found))

    def head(self, pool5_maps: Float32[ndarray, "n c y x"]) -> Float32[ndarray, "n k i j"]:
        """Computes the class score maps from parts of the maps after pool5."""
        compute = self._lower.compute
        with torch.inference_mode(), compute.autocast():
            (moved,) = compute.move(torch.from_numpy(pool5_maps))
            return self._given(self._upper.net.head(moved))

    def _given(self, maps: Float[Tensor, "n k i j"]) -> Float32[ndarray, "n k i j"]:
        found: ndarray = maps.float().cpu().numpy()
        return found
