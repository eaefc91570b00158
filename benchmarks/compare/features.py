"""Features: descriptors of photographs in files, by ``verydeep features`` and by a script of torchvision.

The photographs are cut to squares first, so that the whole image at Q is the crop that the script takes.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.compare.contender import Case, Contender, Options, Row
from benchmarks.compare.inference import version_of
from benchmarks.compare.nets import as_torchvision_builds_it, make_net
from benchmarks.compare.photographs import find_photographs, middle
from verydeep.data.folder import label_files
from verydeep.data.image_set import ImageSet
from verydeep.images.decode import read_image
from verydeep.nets.architecture import feature_macs, head_macs
from verydeep.nets.net import VeryDeep
from verydeep.testing.chunks import num_chunks
from verydeep.testing.descriptors import Describer, DescriptorOptions

_ROUNDS = 3
_BATCH = 32
_NODES = {"pool5": "features", "relu7": "classifier.4"}
"""Of torchvision's net, by the layer that a descriptor is made of."""

_KINDS = ((True, 0, False), (True, 2, False), (False, 0, False), (False, 2, False), (True, 2, True))
"""Whether channels are last, the workers that read, whether the net is compiled."""


class Features:
    """The mean of pool5, and fc7 after its ReLU, of photographs at the net's crop, in float32.

    Args:
        options: of the measurement.

    Raises:
        UsageError: another precision.
    """

    precisions: tuple[str, ...] = ("fp32",)

    def __init__(self, options: Options) -> None:
        options.require_fp32("features are")
        self.options = options
        self._folder = Path(tempfile.mkdtemp(prefix="verydeep-bench-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was read."""
        count = len(self._files)
        return (f"{count} square JPEG photographs from files to normalised descriptors, without mirror images",)

    def cases(self) -> Sequence[Case]:
        """A case for each layer."""
        geometry = self._net.geometry
        macs = feature_macs(geometry, geometry.crop, geometry.crop)
        work = {"pool5": macs, "relu7": macs + head_macs(geometry)}
        return [
            Case(
                name=f"{geometry.title}, {layer}",
                contenders=(
                    self._ours(layer),
                    *(self._peer(layer, *kind) for kind in _KINDS),
                ),
                images=len(self._files),
                rounds=_ROUNDS,
                macs=work[layer],
                errors=_errors,
            )
            for layer in _NODES
        ]

    def extra(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """Nothing more."""
        return {}

    @cached_property
    def _net(self) -> VeryDeep:
        return make_net(self.options)

    @cached_property
    def _files(self) -> list[Path]:
        """Square photographs."""
        files = []
        for number, file in enumerate(find_photographs(self.options.data, self.options.photographs)):
            image = read_image(file)
            side = min(image.size)
            files.append(self._folder / f"{number:04}.jpg")
            middle(image, side, side).save(files[-1], quality=92)
        return files

    @property
    def _images(self) -> ImageSet:
        return label_files(self._folder, "test", ("one",), [[file.name for file in self._files]])

    def _ours(self, layer: str) -> Contender:
        def make() -> Callable[[], ndarray]:
            options = DescriptorOptions(layer=layer, test_scales=(self._net.geometry.crop,), mirror=False)
            describer, images = Describer([self._net], options), self._images
            numbers = range(num_chunks(len(images)))
            return lambda: np.concatenate([chunk.rows for chunk in describer.chunks(images, numbers)])

        return Contender(name=f"verydeep features {version_of('verydeep')}", make=make, is_ours=True)

    def _peer(self, layer: str, last: bool, workers: int, compiled: bool) -> Contender:
        def make() -> Callable[[], ndarray]:
            return _script(self._net, self._files, layer, last=last, workers=workers, compiled=compiled)

        kinds = [*(["channels last"] if last else []), *(["compiled"] if compiled else []), f"{workers} workers"]
        name = f"torchvision's extractor, {', '.join(kinds)}, {version_of('torchvision')}"
        return Contender(name=name, make=make, package="torchvision")


def _script(
    net: VeryDeep, files: Sequence[Path], layer: str, *, last: bool, workers: int, compiled: bool
) -> Callable[[], ndarray]:
    """What a script would be: torchvision's feature extractor over a DataLoader."""
    from torchvision.models.feature_extraction import create_feature_extractor

    twin = as_torchvision_builds_it(net)
    if last:
        twin = twin.to(memory_format=torch.channels_last)
    extractor: nn.Module = create_feature_extractor(twin, {_NODES[layer]: "map"}).eval()
    if compiled:
        extractor = torch.compile(extractor)  # type: ignore[assignment]
    loader = DataLoader(_Photographs(net, files), batch_size=_BATCH, num_workers=workers)

    def describe() -> ndarray:
        found = []
        for batch in loader:
            given = batch.contiguous(memory_format=torch.channels_last) if last else batch
            map_ = extractor(given)["map"]
            found.append(nn.functional.normalize(map_.mean((2, 3)) if map_.ndim == 4 else map_))
        result: ndarray = torch.cat(found).numpy()
        return result

    return describe


class _Photographs(Dataset[Tensor]):
    """Files as normalised tensors, as torchvision's transforms make them."""

    def __init__(self, net: VeryDeep, files: Sequence[Path]) -> None:
        from torchvision import transforms

        side = net.geometry.crop
        mean, divisor = net.mean.tolist(), net.divisor.tolist()
        self.files = files
        self.view: Any = transforms.Compose(
            [
                transforms.Resize(side),
                transforms.CenterCrop(side),
                transforms.ToTensor(),
                transforms.Normalize([one / 255 for one in mean], [one / 255 for one in divisor]),
            ]
        )

    def __len__(self) -> int:
        """Number of files."""
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """A photograph."""
        view: Tensor = self.view(Image.open(self.files[index]).convert("RGB"))
        return view


def _errors(outputs: Mapping[str, Any]) -> dict[str, float]:
    """The difference of each to the first that is not ours: both decode and rescale by rules of their own."""
    reference = next(output for name, output in outputs.items() if not name.startswith("verydeep"))
    norm = float(np.linalg.norm(reference))
    return {name: float(np.linalg.norm(output - reference)) / norm for name, output in outputs.items()}
