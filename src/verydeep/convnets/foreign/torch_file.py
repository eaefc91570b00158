"""Weights in files of torch.save, read without running anything that they hold."""

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Final

import torch
from torch import Tensor

from verydeep.convnets.foreign.found import ForeignWeights
from verydeep.convnets.foreign.names import from_state_dict
from verydeep.errors import UserError

_STATE_KEYS: Final = ("state_dict", "model_state_dict", "model", "model_state", "net", "weights")
_MOST_NESTING: Final = 4
_FORBIDDEN = re.compile(r"GLOBAL (\S+)")


def recognises(file: Path) -> bool:
    """Whether the file is a zip archive of torch.save, or a pickle, which files of before 2020 are."""
    with file.open("rb") as opened:
        start = opened.read(4)
    if start[:1] == b"\x80" and start[1:2] <= b"\x05":
        return True
    if start != b"PK\x03\x04":
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/data.pkl") or name == "data.pkl" for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, EOFError):
        return False


def read(file: Path) -> ForeignWeights:
    """Reads a state dict; anything in the file that is no tensor and no plain value is refused.

    Raises:
        UserError: the file would run code, is damaged, or holds no state dict of a VGG.
    """
    return from_state_dict(load_state(file))


def load_state(file: Path) -> dict[str, Tensor]:
    """Reads the tensors of a state dict by the names they have in the file.

    Raises:
        UserError: as read.
    """
    zipped = zipfile.is_zipfile(file)
    if zipped:
        _check_archive(file)
    # torch goes by the ending, and we by the content; only files with a name can be mapped
    mapped = zipped and file.suffix != ".safetensors"
    try:
        with warnings.catch_warnings(), file.open("rb") as opened:
            warnings.simplefilter("ignore")
            loaded = torch.load(file if mapped else opened, map_location="cpu", weights_only=True, mmap=mapped)
    except UnpicklingError as error:
        forbidden = _FORBIDDEN.search(str(error))
        what = f"asks to run {forbidden[1]}" if forbidden else "holds more than tensors"
        raise UserError(
            f"{file} is a pickle that {what}, and nothing in it was run: save the state dict alone, with "
            "torch.save(model.state_dict(), FILE)"
        ) from error
    except Exception as error:  # whatever a made-up file sets off
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file} is a damaged file of PyTorch ({reason}): download it again") from error
    return _state_dict(file, loaded)


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


def _state_dict(file: Path, loaded: object) -> dict[str, Tensor]:
    for _ in range(_MOST_NESTING):  # a made-up file may lie in itself
        if isinstance(loaded, Mapping) and (key := next((key for key in _STATE_KEYS if key in loaded), None)):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise UserError(f"{file} holds a {type(loaded).__name__} and no state dict")
    state: dict[str, Tensor] = {}
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(f"{file} holds {name!r}, a {type(value).__name__}, where a state dict has tensors")
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise UserError(f"{file}: {name} is sparse, quantised or without numbers: give the plain weights")
        if value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise UserError(f"{file}: {name} claims the shape {tuple(value.shape)} and has fewer numbers")
        state[name] = value
    return state
