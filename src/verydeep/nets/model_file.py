"""Model files: one safetensors file that describes itself, saved from a net of PyTorch and loaded into one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write, check_utf8
from verydeep.nets.described import DescribedNet
from verydeep.nets.model_card import ModelCard, make_card
from verydeep.nets.net import VeryDeep, empty_net
from verydeep.nets.plain_weights import plain_weights, unshared, unwrapped
from verydeep.nets.stored_net import METADATA_KEY, STATE_PREFIX, ModelFile, StoredNet, format_error, progress_of

STORED: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions in which weights can be stored."""


def save(
    net: nn.Module,
    file: str | Path,
    *,
    card: ModelCard | None = None,
    precision: str = "fp32",
    state: dict[str, Tensor] | None = None,
    progress: dict[str, Any] | None = None,
) -> None:
    """Writes a model file, completely or not at all.

    Args:
        net: the net; also one in torch.compile, DataParallel, DistributedDataParallel or AveragedModel. Pruned and
            parametrised weights are saved as they are computed with.
        file: such as ``hands.safetensors``.
        card: what the file says of itself; by default what the net knows.
        precision: of the weights: fp32, or bf16 or fp16 in half the bytes. Biases, statistics of batch norm, mean and
            divisor stay fp32.
        state: tensors of the training, for a checkpoint.
        progress: numbers of the training, for a checkpoint.

    Raises:
        UserError: the file cannot be written, for instance because the disk is full; a weight is too large for fp16;
            or the net has a layer that no model file holds.
        UsageError: an unknown precision, or no net of this package.
    """
    dtype, net = _find_precision(precision), unwrapped(net)
    check_utf8(file, "give another")
    tensors = {name: _converted(name, tensor, dtype) for name, tensor in plain_weights(net).items()}
    tensors |= {STATE_PREFIX + name: tensor.contiguous() for name, tensor in (state or {}).items()}
    tensors = unshared(tensors)
    described = (card or make_card(net)).model_copy(update={"precision": precision, "names": "verydeep"})
    metadata = {"format": "pt", METADATA_KEY: described.model_dump_json()}
    if progress is not None:
        metadata["progress"] = json.dumps(progress)
    try:
        with atomic_write(Path(file)) as temporary:
            save_file(tensors, temporary, metadata)
            _sort_metadata(temporary)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be written: {format_error(error)}") from error


def _sort_metadata(file: Path) -> None:
    """Sorts the strings of a header, which safetensors writes in an order of chance: equal nets give equal bytes."""
    with file.open("rb+") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        written = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(size)
        assert len(written) == size  # the same JSON in another order
        opened.seek(8)
        opened.write(written)


def _find_precision(name: str) -> torch.dtype:
    if name not in STORED:
        raise UsageError(f"unknown precision {name!r}: choose one of {', '.join(STORED)}")
    return STORED[name]


def _converted(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Converts a tensor for the file; what has one dimension stays fp32: it is small, and rounding it costs most."""
    if not tensor.is_floating_point():
        return tensor.contiguous()
    rounded = tensor.to(dtype if tensor.ndim > 1 else torch.float32)
    if dtype == torch.float16 and rounded.isinf().any() and not tensor.isinf().any():
        raise UserError(f"{name} has a weight of {tensor.abs().max():.3g}, too large for fp16: store it as bf16")
    return rounded.contiguous()


def load_file(file: Path, *, features_only: bool = False, precision: str = "fp32") -> VeryDeep:
    """Loads the net of a model file, in evaluation mode, as ``verydeep.load`` does."""
    dtype = _find_precision(precision)
    return _load(ModelFile(file), features_only, dtype)


def as_module(net: DescribedNet) -> VeryDeep:
    """Returns a net as a module of PyTorch: itself, or that of its model file."""
    if isinstance(net, VeryDeep):
        return net
    assert isinstance(net, StoredNet)
    return _load(net.file)


def _load(file: ModelFile, features_only: bool = False, dtype: torch.dtype = torch.float32) -> VeryDeep:
    card = file.card
    net = empty_net(card.geometry, features_only=features_only or card.features_only)
    expected = net.state_dict()
    weights = {"mean": torch.tensor(card.mean), "divisor": torch.tensor(card.divisor)}
    for name, theirs in file.net_tensors(features_only=features_only).items():
        like, tensor = expected[name], _tensor(file, theirs)
        converts = like.is_floating_point() and name not in ("mean", "divisor")
        weights[name] = tensor.reshape(like.shape).to(dtype if converts else like.dtype)
    net.load_state_dict(weights, assign=True)
    net.classes, net.mirror, net.train_scale = card.classes, card.mirror, card.train_scale
    net.boxes, net.input_is_set = card.boxes, True
    return net.eval()


def _tensor(file: ModelFile, name: str) -> Tensor:
    """Maps a tensor from a file."""
    array = file.array(name)
    if file.dtype(name) == "BF16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def load_checkpoint(path: Path) -> tuple[VeryDeep, dict[str, Tensor], dict[str, Any]]:
    """Loads a checkpoint: the net, the tensors and the numbers of its training."""
    file = ModelFile(path)
    progress = progress_of(file)
    state = {
        name.removeprefix(STATE_PREFIX): _tensor(file, name) for name in file.names if name.startswith(STATE_PREFIX)
    }
    return _load(file), state, progress
