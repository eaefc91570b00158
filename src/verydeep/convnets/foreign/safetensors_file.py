"""Weights in safetensors files of other programs: timm's, and torchvision's names."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from verydeep.convnets.foreign.found import ForeignWeights
from verydeep.convnets.foreign.names import from_state_dict
from verydeep.errors import UserError


def recognises(file: Path) -> bool:
    """Whether the file begins as safetensors do: eight bytes of length, then a JSON object."""
    with file.open("rb") as opened:
        return opened.read(10)[8:] in (b'{"', b"{}", b"{ ")


def read(file: Path) -> ForeignWeights:
    """Reads names and maps the tensors; the library checks length of the header, offsets and overlaps.

    Raises:
        UserError: the file is damaged, is a model file already, or has names we do not know.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            if "verydeep" in (opened.metadata() or {}):
                raise UserError(f"{file} is a model file of verydeep already: use it as it is")
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, RuntimeError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file} is a damaged safetensors file ({error}): download it again") from error
    return from_state_dict(state)
