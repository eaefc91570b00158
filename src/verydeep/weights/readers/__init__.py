"""Every kind of third-party file as a row: how it is recognised by its content, and what reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from verydeep.errors import UserError
from verydeep.files import check_utf8
from verydeep.weights.imported import ImportedWeights
from verydeep.weights.known import with_known_input
from verydeep.weights.readers.caffe import is_caffe, read_caffe
from verydeep.weights.readers.keras import is_keras, read_keras
from verydeep.weights.readers.matconvnet import is_matconvnet, read_matconvnet
from verydeep.weights.readers.onnx import is_onnx, read_onnx
from verydeep.weights.readers.torch import is_pickle, is_safetensors, read_pickle, read_safetensors
from verydeep.weights.readers.unreadable import describe


@dataclass(frozen=True)
class Reader:
    """A kind of file with weights of another program."""

    name: str
    remark: str  # which files are meant
    recognises: Callable[[Path], bool]  # by the content of a file, never by its name
    read: Callable[[Path], ImportedWeights]  # UserError, one line; find_reader and read_weights name the file


_CAFFE = ".caffemodel, such as the authors' VGG_ILSVRC_16_layers"
_PYTORCH = ".pth, .pt and .bin: torchvision's and timm's names, and the seed class's net.* and classifier.*"
_ROWS = (
    Reader("safetensors", "timm's and torchvision's names", is_safetensors, read_safetensors),
    Reader("Keras", ".h5, .weights.h5 and .keras", is_keras, read_keras),
    Reader("PyTorch", _PYTORCH, is_pickle, read_pickle),
    Reader("MatConvNet", ".mat, such as imagenet-vgg-verydeep-16", is_matconvnet, read_matconvnet),
    Reader("ONNX", ".onnx with its weights inside or beside it", is_onnx, read_onnx),
    Reader("Caffe", _CAFFE, is_caffe, read_caffe),
)

READERS: Final[dict[str, Reader]] = {row.name: row for row in _ROWS}
"""The rows by name, in the order in which they are asked."""


def find_reader(file: Path) -> Reader:
    """Finds what kind of file it is, by its content, or raises UserError."""
    try:
        size = file.stat().st_size
        if not file.is_file():
            raise UserError(f"{file} is no file: give a file of weights")
        check_utf8(file)
        if size == 0:
            raise UserError(f"{file} is empty: download it again")
        for row in READERS.values():
            if row.recognises(file):
                return row
        if what := describe(file):
            raise UserError(f"{file} is {what}")
    except UserError:
        raise
    except OSError as error:  # a loop of links among them
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # whatever a made-up file sets off in the libraries that read it
        raise _damaged(file, error) from error
    known = "; ".join(f"{row.name} ({row.remark})" for row in READERS.values())
    raise UserError(f"{file} is no file of weights that can be read. These are: {known}")


def read_weights(file: str | Path, *, averaged: bool = True) -> ImportedWeights:
    """Reads the weights of another program, of any kind in READERS whatever the file's name; nothing in it is run.

    Args:
        file: of weights.
        averaged: take the averaged weights (EMA) where a checkpoint has both.

    Raises:
        UserError: no such file, of no kind we know, damaged, or with something in it that is no weight.
    """
    path = Path(file)
    reader = find_reader(path)
    try:
        found = read_pickle(path, averaged=averaged) if reader.read is read_pickle else reader.read(path)
    except UserError as error:
        message = str(error)
        raise UserError(message if message.startswith(str(path)) else f"{path}: {message}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # as above
        raise _damaged(path, error) from error
    if empty := next((name for name, tensor in found.tensors.items() if not tensor.numel()), None):
        raise UserError(f"{path}: {empty} has no numbers, its shape is {tuple(found.tensors[empty].shape)}")
    return with_known_input(found)


def _damaged(file: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return UserError(f"{file} is damaged, or no file of weights ({reason}): download it again")
