"""Every kind of foreign file as a row, and the net that its weights make."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch

from verydeep.convnets.foreign import caffe, keras_file, matconvnet, onnx_file, safetensors_file, torch_file
from verydeep.convnets.foreign.found import ForeignWeights
from verydeep.convnets.foreign.shapes import COUNTER, check_numbers, expected_shapes, infer_geometry
from verydeep.convnets.foreign.squeeze import fold_pooling
from verydeep.errors import UsageError, UserError
from verydeep.nets.architecture import Geometry
from verydeep.nets.net import IMAGENET_MEAN, VeryDeep, empty_net


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A kind of file with weights of another program.

    Attributes:
        name: as a user would say it.
        remark: which files are meant.
        recognises: whether a file is of this kind, by its content and never by its name.
        read: gives its weights in our names, and raises UserError, one line, where it cannot.
    """

    name: str
    remark: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], ForeignWeights]


_ROWS = (
    Reader(
        name="safetensors",
        remark="timm's and torchvision's names",
        recognises=safetensors_file.recognises,
        read=safetensors_file.read,
    ),
    Reader(
        name="Keras",
        remark=".h5, .weights.h5 and .keras",
        recognises=keras_file.recognises,
        read=keras_file.read,
    ),
    Reader(
        name="PyTorch",
        remark=".pth, .pt and .bin: torchvision's and timm's names, and the seed class's net.* and classifier.*",
        recognises=torch_file.recognises,
        read=torch_file.read,
    ),
    Reader(
        name="MatConvNet",
        remark=".mat, such as imagenet-vgg-verydeep-16",
        recognises=matconvnet.recognises,
        read=matconvnet.read,
    ),
    Reader(
        name="ONNX",
        remark=".onnx with its weights inside or beside it",
        recognises=onnx_file.recognises,
        read=onnx_file.read,
    ),
    Reader(
        name="Caffe",
        remark=".caffemodel, such as the authors' VGG_ILSVRC_16_layers",
        recognises=caffe.recognises,
        read=caffe.read,
    ),
)

READERS: Final[dict[str, Reader]] = {row.name: row for row in _ROWS}
"""The rows by name, in the order in which they are asked."""


def find_reader(file: Path) -> Reader:
    """Finds what kind of file it is, by its content.

    Raises:
        UserError: it is no file that can be read, or of no kind we know.
    """
    try:
        size = file.stat().st_size
        if not file.is_file():
            raise UserError(f"{file} is no file: give a file of weights")
        if size == 0:
            raise UserError(f"{file} is empty: download it again")
        for row in READERS.values():
            if row.recognises(file):
                return row
    except UserError:
        raise
    except OSError as error:  # a loop of links among them
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # whatever a made-up file sets off in the libraries that read it
        raise _damaged(file, error) from error
    known = "; ".join(f"{row.name} ({row.remark})" for row in READERS.values())
    raise UserError(f"{file} is no file of weights that can be read. These are: {known}")


def read_foreign(file: str | Path) -> ForeignWeights:
    """Reads the weights of another program; nothing in the file is run.

    Args:
        file: of any kind in READERS, whatever its name.

    Raises:
        UserError: no such file, of no kind we know, damaged, or with something in it that is no weight.
    """
    path = Path(file)
    reader = find_reader(path)
    try:
        foreign = reader.read(path)
    except UserError as error:
        message = str(error)
        raise UserError(message if message.startswith(str(path)) else f"{path}: {message}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # as above
        raise _damaged(path, error) from error
    if empty := next((name for name, tensor in foreign.tensors.items() if not tensor.numel()), None):
        raise UserError(f"{path}: {empty} has no numbers, its shape is {tuple(foreign.tensors[empty].shape)}")
    return foreign


def _damaged(file: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return UserError(f"{file} is damaged, or no file of weights ({reason}): download it again")


def assemble(foreign: ForeignWeights, *, crop: int | None = None, classes: Sequence[str] | None = None) -> VeryDeep:
    """Makes a net of foreign weights; architecture, batch norm, width and number of classes follow from their shapes.

    Args:
        foreign: the weights in our names.
        crop: side of the crop the net was trained on, pixels; by default what the shape of fc6 says. Another one is
            possible where the other program pools its last map to the side of fc6, as torchvision does for crop 32:
            then fc6 is rewritten exactly.
        classes: names of the classes in the order of the scores; by default those of the file.

    Returns:
        The net in evaluation mode, its mean and divisor set.

    Raises:
        UserError: the tensors are no net of Table 1, a weight is NaN or infinite, the mean or divisor is none, or
            the names are not as many as the scores.
        UsageError: a crop that the weights cannot have.

    Paper: section 2.1, Table 1.
    """
    geometry = infer_geometry(foreign.tensors, features_only=foreign.features_only)
    check_numbers(foreign.tensors)
    _check_input(foreign)
    tensors = dict(foreign.tensors)
    if crop is not None and crop != geometry.crop:
        geometry = _with_crop(geometry, foreign, crop)
        if not foreign.features_only:
            tensors["fc6.weight"] = fold_pooling(tensors["fc6.weight"], geometry.fc6_kernel)
    net = empty_net(geometry, features_only=foreign.features_only)
    for name in expected_shapes(geometry, features_only=foreign.features_only):
        if name.endswith(COUNTER):
            tensors[name] = tensors.get(name, torch.tensor(0)).to(torch.int64)
        else:
            tensors[name] = tensors[name].detach().to("cpu", torch.float32).contiguous()
    tensors |= {"mean": torch.tensor(IMAGENET_MEAN), "divisor": torch.ones(3)}
    net.load_state_dict(tensors, assign=True)
    net.set_input(foreign.mean, foreign.divisor)
    net.classes = _check_classes(foreign, geometry, classes)
    return net.eval()


def _with_crop(geometry: Geometry, foreign: ForeignWeights, crop: int) -> Geometry:
    changed = replace(geometry, crop=crop)
    if not foreign.features_only and crop not in foreign.squeezed_crops:
        raise UsageError(f"crop {crop}: fc6 of these weights of {foreign.kind} is of crop {geometry.crop}")
    return changed


def _check_input(foreign: ForeignWeights) -> None:
    if not all(math.isfinite(number) for number in (*foreign.mean, *foreign.divisor)) or min(foreign.divisor) <= 0:
        raise UserError(
            f"its pixels are less {foreign.mean} and divided by {foreign.divisor}: no net can be used so; say what it "
            "was trained on with --mean and --divisor"
        )


def _check_classes(
    foreign: ForeignWeights, geometry: Geometry, classes: Sequence[str] | None
) -> tuple[str, ...] | None:
    names = foreign.classes if classes is None else tuple(classes)
    if names is None or foreign.features_only:
        return None
    if len(names) != geometry.num_classes:
        raise UserError(f"{len(names):,} names of classes for the {geometry.num_classes:,} scores of fc8")
    return names
