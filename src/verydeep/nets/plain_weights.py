"""The plain weights of a net, whatever wraps it or computes them: what a model file can hold."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from verydeep.errors import UsageError, UserError
from verydeep.nets.net import VeryDeep, empty_net

_WRAPPERS: Final = ("_orig_mod", "module")
"""Where torch.compile keeps what it wraps, and where DataParallel, DistributedDataParallel and AveragedModel do."""

_SETTINGS: Final = (
    *("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"),
    *("num_features", "eps", "size", "alpha", "beta", "k", "ceil_mode"),
)
"""What two layers of one kind have alike where they compute the same from the same weights."""

_KINDS: Final[tuple[tuple[type[nn.Module], ...], ...]] = (
    (nn.Conv2d,),
    (nn.BatchNorm2d, nn.SyncBatchNorm),
    (nn.ReLU,),
    (nn.MaxPool2d,),
    (nn.LocalResponseNorm,),
)
_INVISIBLE: Final = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout)


def unwrapped(net: nn.Module) -> VeryDeep:
    """Returns the net inside torch.compile, DataParallel, DistributedDataParallel and AveragedModel.

    Raises:
        UsageError: there is no net of this package inside.
    """
    inner = _unwrap(net)
    if not isinstance(inner, VeryDeep):
        raise UsageError(
            f"{type(inner).__name__} is no net of this package: give a VeryDeep, such as verydeep.load gives"
        )
    return inner


def _unwrap(module: object) -> object:
    while isinstance(module, nn.Module) and not isinstance(module, VeryDeep):
        parts = dict(module.named_children())
        if inside := [parts[name] for name in _WRAPPERS if name in parts]:
            module = inside[0]
        else:
            break
    return module


@torch.no_grad()
def plain_weights(net: VeryDeep) -> dict[str, Tensor]:
    """Computes the tensors of a net by the names and in the shapes that a model file has.

    What prunes or parametrises a weight is applied to it, a convolution without a bias gets one of zeros, and a linear
    layer in place of fc8 becomes a convolution.

    Raises:
        UserError: the net has a layer, or a setting of one, that no model file holds.
    """
    plain = empty_net(net.geometry, features_only=net.features_only)
    theirs = {name: _unwrap(module) for name, module in net.named_children()}
    ours = dict(plain.named_children())
    for name, given in theirs.items():
        if name not in ours and not isinstance(given, _INVISIBLE):
            raise _refused(name, given, "no layer of that name", net)
    tensors = {"mean": net.mean, "divisor": net.divisor}
    for name, expected in ours.items():
        given = theirs.get(name)
        parts = expected.state_dict()
        if not parts and _kind(expected) is None and (given is None or isinstance(given, _INVISIBLE)):
            continue  # a dropout
        if not isinstance(given, nn.Module):
            raise _refused(name, given, str(expected), net)
        if type(given) is nn.Linear or (parametrize.is_parametrized(given) and isinstance(given, nn.Linear)):
            is_alike = name == "fc8" and (given.in_features, given.out_features) == tuple(parts["weight"].shape[1::-1])
        else:
            is_alike = type(given) is type(expected) or _kind(given) == _kind(expected) is not None
            is_alike = is_alike and _settings(given) == _settings(expected)
        if not is_alike:
            raise _refused(name, given, str(expected), net)
        for part, like in parts.items():
            tensors[f"{name}.{part}"] = _part(name, given, part, like)
    return tensors


def _part(name: str, module: nn.Module, part: str, like: Tensor) -> Tensor:
    """A tensor of a layer as it computes with it: pruned and parametrised."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, prune.BasePruningMethod):
            hook(module, None)  # what an optimiser changed since the last forward pass counts
    tensor = getattr(module, part, None)
    if tensor is None and part == "bias" and isinstance(module, nn.Conv2d | nn.Linear):
        return torch.zeros(len(like))
    if not isinstance(tensor, Tensor) or tensor.numel() != like.numel():
        raise UserError(f"{name}.{part} has no numbers of the shape {tuple(like.shape)}: a model file needs them")
    return tensor.detach().reshape(like.shape)


def _kind(module: object) -> int | None:
    """The number of the kind of a layer, by its class or what parametrises it; None of any other."""
    kind = type(module)
    if isinstance(module, nn.Module) and parametrize.is_parametrized(module):
        kind = kind.__mro__[1]
    if kind.__module__ == "verydeep.nets.layers":
        kind = kind.__mro__[1]
    return next((number for number, kinds in enumerate(_KINDS) if kind in kinds), None)


def _settings(module: nn.Module) -> list[object]:
    found = [getattr(module, name, None) for name in _SETTINGS]
    if isinstance(module, nn.MaxPool2d):  # one number means the same for both sides
        found = [tuple(2 * [value])[:2] if isinstance(value, int) else value for value in found]
    return found


def _refused(name: str, given: object, expected: str, net: VeryDeep) -> UserError:
    what = " ".join(str(given).split())[:100] if given is not None else "missing"
    return UserError(
        f"this net cannot be saved: {name} is {what}, where {net.geometry.title} has {expected}; put back what it had, "
        "and merge adapters such as LoRA into the weights (merge_and_unload) first"
    )


def unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies tensors that lie in the memory of another, or repeat one number in many places."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        is_shared = tensor.numel() > 0 and not tensor.is_meta and storage.data_ptr() in seen
        repeats = storage.nbytes() < tensor.numel() * tensor.element_size()
        found[name] = tensor.clone(memory_format=torch.contiguous_format) if is_shared or repeats else tensor
        seen.add(storage.data_ptr())
    return found
