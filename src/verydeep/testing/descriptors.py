"""Image descriptors: a layer of a net applied densely to whole images, averaged over positions, mirror and scales.

A descriptor is one more reduction of the test loop: an image is decoded once for all nets and scales, and images of one
shape are computed together with their mirror images. No scores are needed, so that a net of convolutions alone will do.

Paper: appendix B.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

import numpy as np
from jaxtyping import Float, Float32, UInt8
from numpy import ndarray

from verydeep.data.image_set import ImageSet
from verydeep.device import Compute, fp32_choice
from verydeep.distributed import all_reduce_array, processes
from verydeep.errors import UsageError
from verydeep.images import views
from verydeep.nets.activations import check_layers
from verydeep.nets.architecture import layers
from verydeep.nets.described import DescribedNet
from verydeep.progress import Progress, ignore_progress
from verydeep.speed.backend import Backend, choose_backend, make_backend
from verydeep.speed.tiling import LayerMap, layer_map, pooled_map
from verydeep.testing.chunks import Counter, Images, Parts, chunk_range, num_chunks, read_chunks
from verydeep.testing.measure import compute as compute_maps
from verydeep.testing.metrics import check_finite
from verydeep.testing.protocols import Method, Protocol, ProtocolAt, ViewPlan, default_test_scale

CONVOLUTIONS_SCALE: Final = 160
"""Largest test scale Q that is chosen for layers before the fully connected ones, pixels: at the 384 of the authors' D
an image takes six times as long."""


@dataclass(frozen=True, kw_only=True)
class DescriptorOptions:
    """How images are described.

    Choice: each net's descriptor is L2-normalised per scale before scales are combined, and once more at the end.

    Paper: appendix B.
    """

    layer: str | None = None
    "Any named layer: relu7 is fc7 after its ReLU, fc7 before it. [relu7 where the net has one, else pool5]"
    test_scales: tuple[int, ...] | None = None
    "Test scales Q, pixels. [the net's own; at most 160 for convolutions]"
    combine: Literal["stack", "average"] = "stack"
    "Descriptors at several scales: one after the other, or their mean."
    pool: Literal["mean", "max"] = "mean"
    "Over the positions of the layer's map."
    mirror: bool | None = None
    "Average with the descriptor of the mirror image. [where the net's data allow it]"
    normalise: bool = True
    "L2-normalise: at each scale, then the whole."
    root: bool = False
    "Take the square root of each number first, with its sign: a few strong channels then count for less."


class Describer:
    """Computes descriptors of images with one net or several, whose descriptors are stacked.

    Args:
        models: nets; those of convolutions alone too.
        options: layer, scales, and how they are combined.
        compute: device and precision; by default the CPU in float32.

    Raises:
        UsageError: a net has no such layer, or a test scale is too small for it.

    Attributes:
        dimensions: of a descriptor.
        settings: the layer, the test scales and the mirror of each net, as they were chosen.

    Paper: appendix B.
    """

    def __init__(
        self,
        models: Sequence[DescribedNet],
        options: DescriptorOptions = DescriptorOptions(),
        *,
        compute: Compute | None = None,
    ) -> None:
        compute = compute or fp32_choice("cpu")
        self.options = options
        self.settings = find_settings(models, options)
        self.dimensions = count_dimensions(self.settings, options)
        self._backends = [
            backend_with(net, compute, settings.layer.name) for net, settings in zip(models, self.settings, strict=True)
        ]
        maximum = options.pool == "max"
        tests = [
            ProtocolAt(_protocol(backend, settings, maximum), (scale,))
            for backend, settings in zip(self._backends, self.settings, strict=True)
            for scale in settings.scales
        ]
        self._plan = ViewPlan(tests, self._backends[0].crop, mirror=True)
        self._largest_scale = max(scale for settings in self.settings for scale in settings.scales)

    def of(self, images: Sequence[UInt8[ndarray, "_ _ 3"]]) -> Float32[ndarray, "n d"]:
        """Describes decoded images of any sizes, RGB."""
        return self.describe(map(self.cut, images), len(images))

    def cut(self, image: UInt8[ndarray, "_ _ 3"]) -> Parts:
        """Makes the views of an image: one for each scale."""
        return self._plan.cut(image)

    def describe(
        self, parts: Iterable[Parts], count: int, done: Callable[[float], None] | None = None
    ) -> Float32[ndarray, "n d"]:
        """Describes ``count`` images from their views; ``done`` is called with a number of images after each batch."""
        sums = [DescriptorSum(count, settings.layer.channels) for settings in self.settings for _ in settings.scales]
        for found in compute_maps(self._backends[0], self._plan, parts):
            for number, maps, weight, _ in found.uses():
                sums[number].add(found.images, maps, weight)
            if done is not None:
                done(len(found.images) / len(self._plan.views))
        finished = (one.finish() for one in sums)
        per_net = [self._combined(list(islice(finished, len(settings.scales)))) for settings in self.settings]
        for one in per_net:
            check_finite(one)
        return self._normalised(np.concatenate(per_net, 1)) if len(per_net) > 1 else per_net[0]

    def _combined(self, at_scales: list[Float32[ndarray, "n c"]]) -> Float32[ndarray, "n d"]:
        normalised = [self._normalised(self._rooted(one)) for one in at_scales]
        if len(normalised) == 1:
            return normalised[0]
        stacked = np.concatenate(normalised, 1) if self.options.combine == "stack" else np.mean(normalised, 0)
        return self._normalised(stacked)

    def _rooted(self, descriptors: Float32[ndarray, "n d"]) -> Float32[ndarray, "n d"]:
        if not self.options.root:
            return descriptors
        rooted: ndarray = np.copysign(np.sqrt(np.abs(descriptors)), descriptors)
        return rooted

    def _normalised(self, descriptors: Float32[ndarray, "n d"]) -> Float32[ndarray, "n d"]:
        """Scales each to a length of 1; one that is all zeros stays so."""
        if not self.options.normalise:
            return descriptors
        lengths = np.linalg.norm(descriptors, axis=1, keepdims=True)
        unit: ndarray = descriptors / np.maximum(lengths, np.finfo(np.float32).tiny)
        return unit

    def chunks(
        self,
        images: Images,
        numbers: Iterable[int],
        *,
        skip_damaged: bool = False,
        done: Callable[[float], None] | None = None,
    ) -> Iterator["Chunk"]:
        """Describes chunks of images by their numbers, reading ahead.

        Args:
            images: all of them; decoded in threads.
            numbers: of the chunks wanted, each of ``CHUNK`` images.
            skip_damaged: leave damaged images out, instead of raising DamagedImageError.
            done: called with a number of images as they are computed.
        """
        read = read_chunks(images, numbers, self.cut, largest_scale=self._largest_scale, skip_damaged=skip_damaged)
        for chunk in read:
            rows = self.describe(chunk.views, len(chunk.indices), done)
            if chunk.skipped:
                rows = np.delete(rows, [index - chunk.indices.start for index in chunk.skipped], 0)
            yield Chunk(chunk.number, rows, tuple(chunk.skipped))


@dataclass(frozen=True)
class Chunk:
    number: int
    rows: Float32[ndarray, "n d"]  # of the images that were not skipped
    skipped: tuple[int, ...]  # indices of damaged images among all


class DescriptorSum:
    """Sums the pooled maps of the parts of images, each with its weight: a reduction of the test loop."""

    def __init__(self, num_images: int, channels: int) -> None:
        self._sums = np.zeros((num_images, channels), np.float32)

    def add(self, images: Sequence[int], maps: Float[ndarray, "n k 1 1"], weight: float) -> None:
        self._sums[list(images)] += np.float32(weight) * maps[:, :, 0, 0]  # an image stands once in a batch of a view

    def finish(self) -> Float32[ndarray, "n k"]:
        return self._sums


def describe(
    models: Sequence[DescribedNet],
    images: ImageSet,
    options: DescriptorOptions = DescriptorOptions(),
    *,
    compute: Compute | None = None,
    progress: Progress = ignore_progress,
) -> Float32[ndarray, "n d"]:
    """Describes the images of a set, in memory; several processes share them, and each returns all.

    Args:
        models: nets, whose descriptors are stacked.
        images: their labels are not used.
        options: layer, scales, and how they are combined.
        compute: device and precision; by default the CPU in float32.
        progress: called with the number of images done.

    Returns:
        One descriptor for each image.

    Raises:
        UserError: an image is damaged or too long to be held at the largest scale.
        UsageError: a net has no such layer, or a test scale is too small for it.

    Paper: appendix B.
    """
    describer = Describer(models, options, compute=compute)
    result = np.zeros((len(images), describer.dimensions), np.float32)
    mine = processes().share(num_chunks(len(images)))
    counter = Counter(progress, f"describing {images.split}", sum(len(chunk_range(one, len(images))) for one in mine))
    for chunk in describer.chunks(images, mine, done=counter.advance):
        result[chunk_range(chunk.number, len(images))] = chunk.rows
    all_reduce_array(result)
    return result


@dataclass(frozen=True)
class NetSettings:
    """The options of one net, as they were chosen for it."""

    layer: LayerMap
    scales: tuple[int, ...]
    mirror: bool


def find_settings(models: Sequence[DescribedNet], options: DescriptorOptions) -> list[NetSettings]:
    """Chooses what the options leave open; raises UsageError where a net has no such layer or a scale is too small."""
    return [_settings_of(net, options) for net in models]


def _settings_of(net: DescribedNet, options: DescriptorOptions) -> NetSettings:
    layer = layer_map(net.geometry, find_layer(net, options.layer))
    scales = options.test_scales or (default_scale(net, layer),)
    for scale in scales:
        if scale < layer.smallest_side:
            raise UsageError(f"test scale {scale} is too small for {layer.name}: give {layer.smallest_side} or more")
        if scales.count(scale) > 1:
            raise UsageError(f"test scale {scale} is given twice: give each once, they count alike")
    return NetSettings(layer, scales, net.mirror if options.mirror is None else options.mirror)


def default_scale(net: DescribedNet, layer: LayerMap) -> int:
    """The test scale where none is given, pixels: the net's own, and for its convolutions no more than is needed."""
    own = default_test_scale(net)
    return max(layer.smallest_side, own) if layer.is_fully_connected else min(own, CONVOLUTIONS_SCALE)


def count_dimensions(settings: Sequence[NetSettings], options: DescriptorOptions) -> int:
    """Numbers of a descriptor."""
    stacked = options.combine == "stack"
    return sum(one.layer.channels * (len(one.scales) if stacked else 1) for one in settings)


def find_layer(net: DescribedNet, name: str | None = None) -> str:
    """Checks that a net has a layer; without a name, returns relu7, or pool5 where it has no fc7.

    Raises:
        UsageError: it has none of this name; the nearest are named.
    """
    names = [layer.name for layer in layers(net.geometry, features_only=net.features_only)]
    if name is None:
        return "relu7" if "relu7" in names else "pool5"
    check_layers([name], names, net.geometry)
    return name


def backend_with(net: DescribedNet, compute: Compute, layer: str) -> Backend:
    """Returns the fastest backend that gives the maps of a layer."""
    if compute.precision == "bf16" and compute.device == "cpu":
        backend = choose_backend("bf16").make(net)
        if layer in backend.layers:
            return backend
    return make_backend(net, compute, layer=layer)


def _protocol(backend: Backend, settings: NetSettings, maximum: bool) -> Protocol:
    """Testing by descriptors: the whole image, one position for the pooled map of a layer."""

    def pooled(_: Backend, images: UInt8[ndarray, "n h w 3"]) -> Float[ndarray, "n c 1 1"]:
        return pooled_map(backend, images, settings.layer, maximum=maximum)[:, :, None, None]

    method = Method(view=views.whole, parts=1, score_map=pooled, is_dense=True)
    return Protocol(name="descriptor", remark="", methods=(method,), mirrored=settings.mirror)
