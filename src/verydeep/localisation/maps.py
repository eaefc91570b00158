"""Maps of pool5 of random views of every image, computed once, each with the box it shows.

Paper: appendix A; the stored maps are our addition.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from numpy import ndarray
from numpy.random import PCG64, Generator
from torch import Tensor

from verydeep.data.batches import Batch, draw_shown
from verydeep.data.boxes.boxed import BoxedImages
from verydeep.data.sources import read_ahead
from verydeep.device import Compute
from verydeep.images.augment import AreaView, CropPlace
from verydeep.images.decode import DamagedImageError, naming
from verydeep.localisation.targets import BoxTargets, central_place, covered_shares
from verydeep.nets.net import VeryDeep
from verydeep.paper.constants import TOTAL_STRIDE
from verydeep.progress import Progress, ignore_progress
from verydeep.speed.backend import make_backend
from verydeep.training.recipe import Recipe

_BATCH_PIXELS: Final = 16 * 224 * 224

_LEAST_AREA: Final = 0.4
"""Share of the image that a view shows at least, so that most show the whole object."""

_LOOKED_AT: Final = 16
"""Images by which the size of maps is measured."""


@dataclass(frozen=True, kw_only=True)
class BoxMaps:
    """Maps of views and their targets; an epoch takes each once."""

    maps: Sequence[Tensor]  # of each view: n,c,y,x, float16
    targets: Sequence[Tensor]  # of each view: n,5
    shares: Sequence[Tensor]  # of each view: n,y,x, the share of each position that the objects of the class cover

    @property
    def num_samples(self) -> int:
        return sum(map(len, self.maps))

    def batches(self, recipe: Recipe, *, seed: int) -> Callable[..., Iterator[Batch]]:
        """Returns what yields the batches of an epoch, in an order that is drawn from (seed, epoch)."""
        return partial(self._epoch, recipe.batch_size, seed)

    def _epoch(self, batch_size: int, seed: int, *, epoch: int, first: int) -> Iterator[Batch]:
        count = len(self.maps[0])
        order = Generator(PCG64([seed, epoch])).permutation(self.num_samples)
        for start in range(first * batch_size, len(order), batch_size):
            sample_ids = order[start : start + batch_size].tolist()
            drawn = [divmod(sample, count) for sample in sample_ids]
            maps = torch.stack([self.maps[view][index] for view, index in drawn])
            targets = torch.stack([self.targets[view][index] for view, index in drawn])
            yield maps.float(), targets, torch.tensor(sample_ids)


def store_views(
    net: VeryDeep, boxed: BoxedImages, compute: Compute, *, views: int, seed: int, mirror: bool, progress: Progress
) -> BoxMaps:
    """Computes the maps of several views of every image, drawn from (seed, view, image)."""
    view_of = AreaView(side=net.geometry.crop, mirror=mirror, least_area=_LEAST_AREA)
    targets = BoxTargets(boxed)
    images, side = boxed.images, net.geometry.crop // TOTAL_STRIDE
    maps: list[Tensor] = []
    rows: list[Tensor] = []
    shares: list[Tensor] = []
    total = views * len(images)
    for view in range(views):
        found: dict[int, tuple[Float32[ndarray, "5"], Float32[ndarray, "s s"]]] = {}

        def make(
            index: int, view: int = view, found: dict[int, tuple[ndarray, ndarray]] = found
        ) -> UInt8[ndarray, "c c 3"]:
            generator = Generator(PCG64([seed, view, index]))
            with naming(images.where(index)):
                pixels = images.pixels(index)
                place, target = draw_shown(lambda: view_of.draw(pixels, generator), targets, index)
                found[index] = target, covered_shares(boxed.boxes[index], place, side)
                return place.cut(pixels)

        def tell(number: int, before: int = view * len(images)) -> None:
            progress(f"computing views of {images.split}", before + number, total)

        maps.append(maps_of(net, read_ahead(make, range(len(images)), images.parallel_reads), compute, tell))
        for kept, part in ((rows, 0), (shares, 1)):
            kept.append(torch.from_numpy(np.stack([found[index][part] for index in range(len(images))])))
    return BoxMaps(maps=maps, targets=rows, shares=shares)


def central_maps(
    net: VeryDeep, boxed: BoxedImages, scale: int, compute: Compute, progress: Progress
) -> tuple[Tensor, list[CropPlace]]:
    """Computes the maps of the central crops of all images, and their places."""
    images, places = boxed.images, central_places(boxed, scale, net.geometry.crop)
    made = (place.cut(images.pixels(index)) for index, place in enumerate(places))
    maps = maps_of(net, made, compute, lambda n: progress(f"computing views of {images.split}", n, len(images)))
    return maps, places


def central_places(boxed: BoxedImages, scale: int, crop: int) -> list[CropPlace]:
    """The places of the central crops of all images at a scale."""
    return [central_place(boxed.images.pixels(index), scale, crop) for index in range(len(boxed.images))]


def size_of_maps(net: VeryDeep, boxed: BoxedImages, compute: Compute) -> tuple[float, float]:
    """Measures how large maps are, over the central crops of a few images.

    Returns the root mean square of pool5, and the mean over images of the sum of the squares of what fc8 is given.
    """
    spread = np.unique(np.linspace(0, len(boxed) - 1, _LOOKED_AT).astype(int)).tolist()
    some = boxed.subset([index for index in spread if _is_whole(boxed, index)] or spread)
    maps, _ = central_maps(net, some, net.geometry.crop, compute, ignore_progress)
    given = maps.to(next(net.parameters()).device).float()
    was_training = net.training
    net.eval()
    with torch.inference_mode():
        hidden = given
        for name in ("fc6", "relu6", "fc7", "relu7"):
            hidden = net.get_submodule(name)(hidden)
    net.train(was_training)
    return float(given.square().mean().sqrt()), float(hidden.square().flatten(1).sum(1).mean())


def _is_whole(boxed: BoxedImages, index: int) -> bool:
    try:
        boxed.images.pixels(index)
    except DamagedImageError:  # which is reported when all images are checked
        return False
    return True


def maps_of(
    net: VeryDeep, crops: Iterator[UInt8[ndarray, "c c 3"]], compute: Compute, done: Callable[[int], None]
) -> Tensor:
    """Computes the maps of pool5 of crops, float16; ``done`` is called with their number."""
    backend = make_backend(net, compute, layer="pool5")
    at_once = max(1, _BATCH_PIXELS // net.geometry.crop**2)
    waiting: list[ndarray] = []
    found: list[Tensor] = []

    def flush() -> None:
        if waiting:
            maps = torch.from_numpy(backend.maps(np.stack(waiting), "pool5"))
            found.append(maps.clamp(max=torch.finfo(torch.float16).max).half())
            waiting.clear()
            done(sum(map(len, found)))

    for crop in crops:
        waiting.append(crop)
        if len(waiting) == at_once:
            flush()
    flush()
    return torch.cat(found)
