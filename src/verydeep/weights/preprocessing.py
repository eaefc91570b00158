"""Mean, divisor and order of channels as they travel with weights: inside a file that we wrote, or in JSON beside one.

A state dict cannot say what was done to the pixels. Ours carry it where the other program does not look: in the header
of safetensors, the ``_metadata`` of a state dict, an attribute of HDF5. Of other programs, timm's and the hub's
``config.json`` are read, and ``preprocessor_config.json``.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from verydeep.nets.net import VeryDeep
from verydeep.weights.imported import ImportedWeights, Triple

KEY: Final = "preprocessing"
"""Under which the record lies in a header, a state dict or an HDF5 file."""

_LARGEST_JSON: Final = 2**24
_MOST_FRACTION: Final = 8.0  # a mean or divisor below this is of pixels in 0..1
_FIRST: Final = "conv1_1.weight"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What was done to the pixels, and the names of the classes, as somebody wrote them down.

    Attributes:
        where: in words, such as ``of config.json beside it``.
        mean: RGB in 0..255.
        divisor: likewise.
        is_bgr: whether the first convolution is over blue, green, red; None where that is as its program has it.
        classes: in the order of the scores.
    """

    where: str
    mean: Triple | None = None
    divisor: Triple | None = None
    is_bgr: bool | None = None
    classes: tuple[str, ...] | None = None


def record_of(net: VeryDeep, *, bgr: bool = False) -> str:
    """Writes down the input of a net for a file in which its first convolution is over RGB, or over BGR."""
    channels = "BGR" if bgr else "RGB"
    return json.dumps({"mean": net.mean.tolist(), "divisor": net.divisor.tolist(), "channels": channels})


def read_record(text: object) -> Recorded | None:
    """Reads what ``record_of`` wrote; None of anything else."""
    found = _parse(text if isinstance(text, str) else "")
    mean, divisor = _triple(found.get("mean")), _triple(found.get("divisor"))
    if mean is None or divisor is None or min(divisor) <= 0:
        return None
    where = "as recorded in the file"
    return Recorded(where=where, mean=mean, divisor=divisor, is_bgr=found.get("channels") == "BGR")


def with_record(found: ImportedWeights, recorded: Recorded | None) -> ImportedWeights:
    """Returns the weights with what was recorded in place of what was guessed."""
    if recorded is None:
        return found
    if recorded.classes is not None:
        found = replace(found, classes=recorded.classes)
    if recorded.mean is None or recorded.divisor is None:
        return found
    tensors = found.tensors
    # as read, the first convolution is over RGB by the usual order of its program, which then was another
    if recorded.is_bgr is not None and recorded.is_bgr != found.was_bgr:
        tensors = tensors | {_FIRST: tensors[_FIRST].flip(1)}
    order = "RGB" if recorded.is_bgr is None else "BGR" if recorded.is_bgr else "RGB"
    mean, divisor = (", ".join(f"{number:.6g}" for number in part) for part in (recorded.mean, recorded.divisor))
    return replace(
        found,
        tensors=tensors,
        mean=recorded.mean,
        divisor=recorded.divisor,
        convention=f"{order} in 0..255, less ({mean}), divided by ({divisor}), {recorded.where}",
        is_guessed=False,
    )


def record_beside(file: Path) -> Recorded | None:
    """Reads timm's or the hub's JSON in the folder of a file; None where there is none, or it is of no VGG."""
    config = _load(file.parent / "config.json")
    names = [config.get("architecture"), config.get("model_type"), *_list(config.get("architectures"))]
    if not any("vgg" in str(name).lower() for name in names):
        config = {}
    inner = config.get("pretrained_cfg")
    settings = inner if isinstance(inner, dict) else config
    classes = _classes(config) or _classes(settings)
    mean, divisor = _of_fractions(settings.get("mean"), settings.get("std"), 1 / 255)
    where = "as config.json beside it says"
    preprocessor = _load(file.parent / "preprocessor_config.json")
    if mean is None and (config or "vgg" in file.stem.lower()):
        where = "as preprocessor_config.json beside it says"
        factor = preprocessor.get("rescale_factor", 1 / 255) if preprocessor.get("do_rescale", True) else 1
        if isinstance(factor, int | float) and preprocessor:
            plain = preprocessor.get("do_normalize", True)
            keys = ("image_mean", "image_std")
            usual, std = (preprocessor.get(key) for key in keys) if plain else ([0] * 3, [1] * 3)
            mean, divisor = _of_fractions(usual, std, float(factor))
    if mean is None and classes is None:
        return None
    return Recorded(where=where, mean=mean, divisor=divisor, classes=classes)


def _of_fractions(mean: object, std: object, factor: float) -> tuple[Triple, Triple] | tuple[None, None]:
    """Those of pixels in 0..255 from those of pixels times a factor."""
    subtracted, divisor = _triple(mean), _triple(std)
    if subtracted is None or divisor is None or min(divisor) <= 0 or not factor > 0:
        return None, None
    (a, b, c), (d, e, f) = subtracted, divisor
    return (a / factor, b / factor, c / factor), (d / factor, e / factor, f / factor)


def buffers_as_record(mean: object, std: object, where: str) -> Recorded | None:
    """Takes a mean and deviation that somebody keeps in a net, of pixels in 0..1 or 0..255."""
    subtracted, divisor = _triple(mean), _triple(std)
    if subtracted is None or divisor is None:
        return None
    factor = 1 / 255 if max(*map(abs, subtracted), *divisor) < _MOST_FRACTION else 1.0
    mean_, divisor_ = _of_fractions(list(subtracted), list(divisor), factor)
    return None if mean_ is None else Recorded(where=where, mean=mean_, divisor=divisor_)


def _classes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    return class_names(next((config[key] for key in ("label_names", "id2label") if config.get(key)), None))


def class_names(given: object) -> tuple[str, ...] | None:
    """Reads names of classes from a list, ``{name: index}``, ``{index: name}`` or ``{index: [id, name]}``; else None.

    The indices have to be 0, 1, 2 and so on, each once.
    """
    if isinstance(given, list | tuple):
        return tuple(given) if given and all(isinstance(name, str) for name in given) else None
    if not isinstance(given, Mapping) or not given:
        return None
    pairs: dict[int, str] = {}
    for key, value in given.items():
        if isinstance(key, str) and isinstance(value, int) and not isinstance(value, bool):
            index, name = value, key
        elif isinstance(key, int) or (isinstance(key, str) and key.isdecimal() and len(key) < 9):
            index, name = int(key), value[-1] if isinstance(value, list | tuple) and value else value
        else:
            return None
        if not isinstance(name, str) or index in pairs:
            return None
        pairs[index] = name
    return tuple(pairs[index] for index in range(len(pairs))) if pairs.keys() == set(range(len(pairs))) else None


def _load(file: Path) -> dict[str, Any]:
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST_JSON:
            return {}
        return _parse(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}


def _parse(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _triple(numbers: object) -> Triple | None:
    given = _list(numbers)
    if len(given) != 3 or not all(isinstance(number, int | float) and math.isfinite(number) for number in given):
        return None
    red, green, blue = (float(number) for number in given)
    return red, green, blue


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
