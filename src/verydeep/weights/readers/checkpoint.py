"""Finds the weights in files as people write them: nested, averaged, with settings beside them. Nothing in one is run.

A pickle is read by torch's ``weights_only``, which builds tensors and plain values alone. Settings that training
programs keep (``argparse.Namespace``, numpy's scalars, paths) are plain values too; of a module that was pickled whole
its tensors are.
"""

import argparse
import collections
import pathlib
import re
import types
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from verydeep.errors import UserError, printable
from verydeep.weights.preprocessing import KEY, Recorded, buffers_as_record, class_names, read_record
from verydeep.weights.readers.pickled_module import load_states

_STATE_KEYS: Final = (
    *("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params"),
    *("net_state_dict", "model_weights", "generator", "student", "teacher"),
)
_AVERAGED_KEYS: Final = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "model_ema_state_dict", "params_ema", "ema"),
    *("averaged_model", "swa_model", "swa_state_dict"),
)
_CLASSES_KEYS: Final = ("class_to_idx", "classes", "class_names", "CLASSES", "label_names", "idx_to_class", "id2label")
_SETTINGS_KEYS: Final = ("meta", "hyper_parameters", "args", "config", "cfg", "extra")
_MOST_NESTING: Final = 4
_MOST_REPEATED: Final = 2**16  # places that one number may stand in, such as zero in a bias
_FORBIDDEN: Final = re.compile(r"GLOBAL (\S+)")
_PASSED_OVER: Final = re.compile(
    r"(criterion|loss|losses|loss_fn|loss_func|\w*metrics?|\w*accuracy|n_averaged|optimi[sz]er|num_updates|decay|_?ema)"
    r"(\.|$)"
)
_INPUT: Final = re.compile(r"(?:.*\.)?(?:data_preprocessor|normali[sz]\w*|norm_layer|preprocess\w*|)\.?_?(mean|std)s?")


def _plain_dictionary(*_: object) -> dict[str, Any]:
    """Stands in for ``defaultdict``."""
    return {}


# settings of training programs whose own class is a dictionary, for which a plain one stands in
_DICTIONARIES: Final = (
    *("lightning_fabric.utilities.data.AttributeDict", "lightning.fabric.utilities.data.AttributeDict"),
    *("pytorch_lightning.utilities.parsing.AttributeDict", "lightning.pytorch.utilities.parsing.AttributeDict"),
    *("yacs.config.CfgNode", "easydict.EasyDict", "addict.addict.Dict", "mmengine.config.config.ConfigDict"),
    *("mmcv.utils.config.ConfigDict", "munch.Munch", "fastcore.basics.AttrDict"),
)
_PLAIN_TYPES: Final[list[Any]] = [
    *(argparse.Namespace, types.SimpleNamespace, dict, list, set, tuple),
    *(pathlib.Path, pathlib.PosixPath, pathlib.PurePosixPath, pathlib.PurePath),
    (pathlib.PurePosixPath, "pathlib._local.PosixPath"),
    (pathlib.PureWindowsPath, "pathlib.WindowsPath"),
    (pathlib.PureWindowsPath, "pathlib._local.WindowsPath"),
    *(np.dtype, np.ndarray, *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd")),
    *((np.float64(0).__reduce__()[0], f"numpy.{part}.multiarray.scalar") for part in ("core", "_core")),
    *((np.zeros(0).__reduce__()[0], f"numpy.{part}.multiarray._reconstruct") for part in ("core", "_core")),
    (_plain_dictionary, "collections.defaultdict"),
    *((collections.OrderedDict, name) for name in _DICTIONARIES),
]
"""What a pickle may make besides what torch allows: values alone; none of these runs anything."""


@dataclass(frozen=True, kw_only=True)
class StateDict:
    """The tensors of a file by the names that they have in it, and what the file says beside them.

    Attributes:
        tensors: those that are no part of a loss or a metric.
        recorded: what was done to the pixels, and the classes, where the file says so.
        notes: what was taken and what was passed over, for the user.
    """

    tensors: dict[str, Tensor] = field(repr=False)
    recorded: Recorded | None = None
    notes: tuple[str, ...] = ()


def load_safetensors(file: Path) -> StateDict:
    """Maps the tensors; the library checks length of the header, offsets and overlaps."""
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if "verydeep" in metadata:
                raise UserError(f"{file} is a model file of verydeep already: use it as it is")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, RuntimeError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file} is a damaged safetensors file ({error}): download it again") from error
    return _sorted_out(StateDict(tensors=tensors, recorded=read_record(metadata.get(KEY))))


def load_pickle(file: Path, *, averaged: bool = True) -> StateDict:
    """Reads a state dict, however it is nested, without running what the file asks for.

    Args:
        file: of torch.save.
        averaged: take the averaged weights (EMA) where the file has both, as timm does.
    """
    loaded, unknown = _load(file)
    found = _sorted_out(_found(file, loaded, averaged))
    if not unknown:
        return found
    note = (
        f"objects of {', '.join(sorted(unknown)[:3])} beside the weights were passed over, and nothing of them was run"
    )
    return replace(found, notes=(*found.notes, note))


def _load(file: Path) -> tuple[object, list[str]]:
    """What a file holds, and the classes of objects that were left out of it."""
    zipped = zipfile.is_zipfile(file)
    if zipped:
        _check_archive(file)
    # torch goes by the ending, and we by the content; only files with a name can be mapped
    mapped = zipped and file.suffix != ".safetensors"
    try:
        with warnings.catch_warnings(), file.open("rb") as opened, torch.serialization.safe_globals(_PLAIN_TYPES):
            warnings.simplefilter("ignore")
            return torch.load(file if mapped else opened, map_location="cpu", weights_only=True, mmap=mapped), []
    except UnpicklingError as error:
        if zipped and (states := _load_states(file)) is not None:
            return states
        forbidden = _FORBIDDEN.search(str(error))
        what = f"asks to run {forbidden[1]}" if forbidden else "holds more than tensors"
        raise UserError(
            f"{file} is a pickle that {what}, and nothing in it was run: save the state dict alone, with "
            "torch.save(model.state_dict(), FILE)"
        ) from error
    except Exception as error:  # whatever a made-up file sets off
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file} is a damaged file of PyTorch ({reason}): download it again") from error


def _load_states(file: Path) -> tuple[object, list[str]] | None:
    """``load_states``; None where a file cannot be read so either."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_PLAIN_TYPES):
            warnings.simplefilter("ignore")
            return load_states(file)
    except Exception:  # a hostile file may raise anything: the first error is reported
        return None


def _check_archive(file: Path) -> None:
    """Refuses what torch.save never writes: compressed members, scripts, members that overlap."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if any(member.filename.endswith(("/constants.pkl", ".py")) for member in members):
        raise UserError(f"{file} is a TorchScript program: save its state dict, with torch.save(model.state_dict())")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise UserError(f"{file} has compressed members, which torch.save does not write: it is refused")
    total = sum(member.file_size for member in members)
    if total > (size := file.stat().st_size):
        raise UserError(f"{file} claims {total:,} bytes in a file of {size:,}: it is refused")


def _found(file: Path, loaded: object, averaged: bool) -> StateDict:
    notes: list[str] = []
    recorded = None
    for _ in range(_MOST_NESTING):  # a made-up file may lie in itself
        if isinstance(loaded, list | tuple) and loaded and all(isinstance(part, Mapping) for part in loaded):
            loaded = max(loaded, key=_num_tensors)
        if not isinstance(loaded, Mapping):
            break
        recorded = recorded or _recorded_classes(loaded)
        key, others = _choose(loaded, averaged)
        if key is None:
            break
        if others:
            why = "--last-weights takes the other" if averaged else "as --last-weights says"
            notes.append(f"the file has {key} and {', '.join(others)}: {key} is taken ({why})")
        loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise UserError(f"{file} holds a {type(loaded).__name__} and no state dict")
    record = read_record(getattr(loaded, "_metadata", {}).get(KEY))
    if record is not None:
        recorded = replace(record, classes=recorded.classes if recorded else None)
    return StateDict(tensors=_tensors(file, loaded), recorded=recorded, notes=tuple(notes))


def _num_tensors(part: Mapping[Any, Any]) -> int:
    """Counts the tensors in a dictionary, and in those that lie in it."""
    inner = [value for value in part.values() if isinstance(value, Mapping)]
    return sum(isinstance(value, Tensor) for some in (part, *inner) for value in some.values())


def _choose(loaded: Mapping[Any, Any], averaged: bool) -> tuple[str | None, list[str]]:
    """The key under which the weights lie, and others where they lie too; none where these are the weights."""

    def is_state(value: object) -> bool:
        return isinstance(value, Mapping | list | tuple) and bool(value)

    plain = [key for key in _STATE_KEYS if is_state(loaded.get(key))]
    means = [key for key in _AVERAGED_KEYS if is_state(loaded.get(key))]
    chosen = [*means[:1], *plain[:1]] if averaged else [*plain[:1], *means[:1]]
    return (chosen[0], chosen[1:]) if chosen else (None, [])


def _recorded_classes(loaded: Mapping[Any, Any]) -> Recorded | None:
    places = [loaded, *(loaded.get(key) for key in _SETTINGS_KEYS)]
    for place in places:
        values = place if isinstance(place, Mapping) else vars(place) if isinstance(place, argparse.Namespace) else {}
        for key in _CLASSES_KEYS:
            if names := class_names(values.get(key)):
                return Recorded(where="", classes=names)
    return None


def _tensors(file: Path, loaded: Mapping[Any, Any]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            if isinstance(name, str) and isinstance(value, int | float | np.generic) and not isinstance(value, bool):
                continue  # such as the number of an epoch
            raise UserError(f"{file} holds {name!r}, a {type(value).__name__}, where a state dict has tensors")
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise UserError(f"{file}: {name} is sparse, quantised or without numbers: give the plain weights")
        is_short = value.untyped_storage().nbytes() < value.numel() * value.element_size()
        if is_short and value.numel() > _MOST_REPEATED:
            raise UserError(f"{file}: {name} claims the shape {tuple(value.shape)} and has fewer numbers")
        state[name] = value
    if not state:
        raise UserError(f"{file} holds a {type(loaded).__name__} and no state dict")
    return state


def _sorted_out(state: StateDict) -> StateDict:
    """Takes out what belongs to a loss, a metric or the average, by its name, and the mean and deviation of pixels."""
    over = [name for name in state.tensors if any(map(_PASSED_OVER.match, _tails(name)))]
    kept = {name: tensor for name, tensor in state.tensors.items() if name not in over}
    numbers = {found[1]: name for name in kept if (found := _INPUT.fullmatch(name)) and kept[name].numel() == 3}
    recorded, notes = state.recorded, state.notes
    if numbers.keys() == {"mean", "std"}:
        mean, std = (kept.pop(numbers[key]).double().flatten().tolist() for key in ("mean", "std"))
        where = f"as {numbers['mean']} and {numbers['std']} in the file say"
        own = buffers_as_record(mean, std, where)
        if own is not None and (recorded is None or recorded.mean is None):
            recorded = replace(own, classes=recorded.classes if recorded else None)
    if shown := [name for name in over if name.rpartition(".")[2] != "n_averaged"]:
        names = ", ".join(printable(name[:80]) for name in shown[:4])
        more = f" and {len(shown) - 4} more" if len(shown) > 4 else ""
        notes = (*notes, f"passed over, no part of the net: {names}{more}")
    return StateDict(tensors=kept, recorded=recorded, notes=notes)


def _tails(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[first:]) for first in range(min(2, len(parts)))]
