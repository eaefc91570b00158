"""Weights that are known by their hash, their first convolution or their classes: their input need not be guessed.

The authors' own nets went into many programs and files, over RGB and over BGR, and few of them say which.
"""

from dataclasses import replace
from typing import Final

from safetensors import SafetensorError, safe_open
from torch import Tensor

from verydeep.nets.net import IMAGENET_MEAN
from verydeep.weights.imported import A_GUESS, ImportedWeights
from verydeep.weights.published import PUBLISHED
from verydeep.weights.shipped import SHIPPED_FOLDER

_FIRST: Final = "conv1_1.weight"
_MOST_DIFFERENCE: Final = 1e-3
"""Of the largest weight: half precision gives half of it."""


_FACES: Final = 2622
_FACES_MEAN: Final = (129.1863, 104.7624, 93.5940)
"""Outputs of VGG-Face, and the mean that its authors publish: RGB in 0..255, divided by nothing."""

_CAFFE_FILES: Final = ("00b39a1b", "d01eb7cb")
"""Begin of the sha256 of vgg16-00b39a1b.pth and vgg19-d01eb7cb.pth, as their names say: torchvision's names, and the
authors' weights over blue, green, red."""


def with_known_file(found: ImportedWeights, sha256: str) -> ImportedWeights:
    """Replaces a guess by what is known of a published file."""
    if found.is_guessed and sha256.startswith(_CAFFE_FILES):
        convention = "BGR in 0..255, minus (103.939, 116.779, 123.68): the file is known by its hash"
        return _as_authors(found, convention, turned=not found.was_bgr)
    rows = [row for row in PUBLISHED.values() if row.digest and row.digest.algorithm == "sha256"]
    row = next((row for row in rows if row.digest and sha256.startswith(row.digest.digits)), None)
    if not found.is_guessed or row is None:
        return found
    convention = f"{found.convention.replace(f': {A_GUESS}', '')}: the file is known by its hash as {row.name}"
    return replace(found, convention=convention, is_guessed=False)


def _as_authors(found: ImportedWeights, convention: str, *, turned: bool) -> ImportedWeights:
    """Gives weights the input of the authors' nets, and their first convolution over RGB."""
    first = found.tensors[_FIRST]
    return replace(
        found,
        tensors=found.tensors | {_FIRST: first.flip(1) if turned else first},
        mean=IMAGENET_MEAN,
        divisor=(1.0, 1.0, 1.0),
        convention=convention,
        is_guessed=False,
    )


def with_known_input(found: ImportedWeights) -> ImportedWeights:
    """Replaces a guessed input where the first convolution is that of the authors' D, or the scores are VGG-Face's."""
    last = found.tensors.get("fc8.weight")
    if found.is_guessed and last is not None and len(last) == _FACES:
        order = "BGR" if found.was_bgr else "RGB"
        words = f"{order} in 0..255, minus VGG-Face's mean (129.1863, 104.7624, 93.594 of RGB), by its 2,622 scores"
        return replace(found, mean=_FACES_MEAN, divisor=(1.0, 1.0, 1.0), convention=f"{words}: {A_GUESS}")
    first, known = found.tensors.get(_FIRST), _first_of_authors()
    if not found.is_guessed or first is None or known is None or first.shape != known.shape:
        return found
    is_turned = _are_equal(first.flip(1), known)
    if not is_turned and not _are_equal(first, known):
        return found
    return _as_authors(found, "that of the authors' own D, whose first convolution it has", turned=is_turned)


def _are_equal(first: Tensor, known: Tensor) -> bool:
    return bool((first.float() - known).abs().max() < _MOST_DIFFERENCE * known.abs().max())


def _first_of_authors() -> Tensor | None:
    """Over RGB, from the net that ships; None where this copy of the package lacks it."""
    try:
        with safe_open(SHIPPED_FOLDER / "vgg16-features.safetensors", framework="pt") as opened:
            tensor: Tensor = opened.get_tensor(_FIRST).float()
    except (OSError, SafetensorError):
        return None
    return tensor
