"""The 3x3 convolution of training as an operator of PyTorch, with its gradients, computed by the kernel.

``torch.ops.verydeep.convolve``: forward, input gradient and weight gradient by Winograd's algorithm, with the ReLU and
the pooling after it, whose gradients are worked out while they are read. Everything lies channels last; the sums do not
depend on the number of threads.
"""

from typing import Any

import torch
import torch.nn.functional as F
from numpy import ndarray
from torch import Tensor

from verydeep.errors import UsageError
from verydeep.machine import Turn
from verydeep.speed.checks import check_kind
from verydeep.speed.library import Kernel, find_kernel, tiles
from verydeep.speed.memory import Buffer

_TURN, _WEIGHTS, _WORK = Turn(), Buffer(), Buffer()


def convolve_fast(map_: Tensor, weight: Tensor, bias: Tensor, *, rectify: bool = False, pool: bool = False) -> Tensor:
    """Convolves with stride 1 so that the resolution stays, adds the bias; differentiable once.

    Args:
        map_: n,c,y,x, float32, on the processor, best channels last.
        weight: k,c,3,3.
        bias: one number per output channel.
        rectify: ReLU of the result.
        pool: then the largest of 2x2 places; only with ReLU.

    Returns:
        n,k,y,x, or half of both sides, channels last.

    Raises:
        NoKernelError: there is no kernel.
        UsageError: tensors of another kind, or whose shapes do not fit, or pooling without ReLU.
    """
    result: Tensor = _convolve(map_, weight, bias, rectify, pool)[0]
    return result


def convolve_frozen(map_: Tensor, weight: Tensor, bias: Tensor, *, rectify: bool = False) -> Tensor:
    """Convolves by PyTorch, with the gradient of the map by the kernel; weight and bias get none.

    Winograd's rounding on the way forward would turn a ReLU on or off where it is within a millionth of zero, and with
    it a gradient; on the way back it changes no more than the last digits.

    Args:
        map_: n,c,y,x, float32, on the processor, best channels last.
        weight: k,c,3,3.
        bias: one number per output channel.
        rectify: ReLU of the result.
    """
    result: Tensor = _Frozen.apply(map_, weight, bias, rectify)
    return result


class _Frozen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, map_: Tensor, weight: Tensor, bias: Tensor, rectify: bool) -> Tensor:  # noqa: ANN401
        result = F.conv2d(map_, weight, bias, padding=1)
        result = result.relu_() if rectify else result
        ctx.save_for_backward(map_, weight, result if rectify else None)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        map_, weight, result = ctx.saved_tensors
        return _backward(gradient, map_, weight, result, None, True, False)[0], None, None, None


@torch.library.custom_op("verydeep::convolve", mutates_args=(), device_types="cpu")
def _convolve(map_: Tensor, weight: Tensor, bias: Tensor, rectify: bool, pool: bool) -> tuple[Tensor, Tensor]:
    """Gives the result, and for each place of a pooled one which of the four it was, 4 for none."""
    if pool and not rectify:
        raise UsageError("pool=True: the kernel pools what has been rectified: give rectify=True too")
    kernel = find_kernel()
    _check(kernel, map_, weight)
    (n, _, y, x), k = map_.shape, len(weight)
    _check_like(bias, "bias", (k,))
    map_, weight = _laid_out(kernel, map_), _padded(kernel, _laid_out(kernel, weight), 0)
    bias = _padded(kernel, bias, 0).contiguous()
    result, where = _results(map_, weight, pool)
    if result.numel():
        with _TURN:
            sizes = (n, y, x, map_.shape[1], len(weight))
            threads = kernel.threads()
            packed, work = _packed(kernel, weight, turned=False), _work(kernel, *sizes)
            to = [result, where if pool else None, work]
            _call(kernel, "training_forward", map_, *sizes, packed, bias, rectify, pool, *to, threads, kernel.cache)
    return _narrow(result, k), _narrow(where, k) if pool else where


@_convolve.register_fake
def _(map_: Tensor, weight: Tensor, bias: Tensor, rectify: bool, pool: bool) -> tuple[Tensor, Tensor]:
    return _results(map_, weight, pool)


@torch.library.custom_op("verydeep::convolve_backward", mutates_args=(), device_types="cpu")
def _backward(
    gradient: Tensor,
    map_: Tensor,
    weight: Tensor,
    output: Tensor | None,
    where: Tensor | None,
    of_map: bool,
    of_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gives the gradients of the map, the weight and the bias; an empty one where it is not asked for."""
    kernel = find_kernel()
    _check(kernel, map_, weight)
    (n, c, y, x), k = map_.shape, len(weight)
    shape = (n, k, y, x) if where is None else (n, k, y // 2, x // 2)
    _check_like(gradient, "gradient", shape)
    if output is not None:
        _check_like(output, "output", shape)
    if where is not None:
        _check_like(where, "where", shape, "uint8")
    gradient, map_, weight = (_laid_out(kernel, given) for given in (gradient, map_, weight))
    weight = _padded(kernel, weight, 0)
    output, where = (None if given is None else _laid_out(kernel, given) for given in (output, where))
    by_map, by_weight, by_bias = _gradients(map_, weight, of_map, of_weight)
    if gradient.numel() == 0:
        by_map, by_weight, by_bias = by_map.zero_(), by_weight.zero_(), by_bias.zero_()
        of_map = of_weight = False
    source = [gradient, output, where]
    threads = kernel.threads()
    with _TURN:
        if of_map:
            sizes = (n, y, x, len(weight), map_.shape[1])
            packed, work = _packed(kernel, weight, turned=True), _work(kernel, *sizes)
            _call(kernel, "input_gradient", *source, *sizes, packed, by_map, work, threads, kernel.cache)
        if of_weight:
            sizes = (n, y, x, map_.shape[1], len(weight))
            work = _WORK.take(kernel.call("weight_gradient_floats", tiles(n, y, x), *sizes[3:]))
            _call(kernel, "weight_gradient", map_, *source, *sizes, by_weight, by_bias, work, threads)
    return (
        _narrow(by_map, c) if by_map.ndim == 4 else by_map,
        _narrow(by_weight[:k], c) if by_weight.ndim == 4 else by_weight,
        by_bias[:k].clone() if len(by_bias) > k else by_bias,
    )


@_backward.register_fake
def _(
    gradient: Tensor,
    map_: Tensor,
    weight: Tensor,
    output: Tensor | None,
    where: Tensor | None,
    of_map: bool,
    of_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return _gradients(map_, weight, of_map, of_weight)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401 - autograd's own
    map_, weight, _, rectify, pool = inputs
    result, where = output
    ctx.save_for_backward(map_, weight, result if rectify and not pool else None, where if pool else None)
    ctx.mark_non_differentiable(where)


def _differentiate(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    of_map, of_weight, of_bias, *_rest = ctx.needs_input_grad
    results = _backward(gradient, *ctx.saved_tensors, of_map, of_weight or of_bias)
    wanted = (of_map, of_weight, of_bias)
    return (*(result if want else None for want, result in zip(wanted, results, strict=True)), None, None)


_convolve.register_autograd(_differentiate, setup_context=_keep)


def _check(kernel: Kernel, map_: Tensor, weight: Tensor) -> None:
    """Checks what the kernel would read past the end of, or take for something else."""
    check_kind(map_, "map")
    check_kind(weight, "weight")
    if map_.ndim != 4:
        raise UsageError(f"a map of shape {tuple(map_.shape)}: give n,c,y,x")
    if weight.ndim != 4 or weight.shape[1:] != (map_.shape[1], 3, 3):
        shape = tuple(weight.shape)
        raise UsageError(f"weight of shape {shape} for a map of {map_.shape[1]} channels: give k,{map_.shape[1]},3,3")
    for channels in weight.shape[:2]:
        if not 0 < channels <= kernel.most_channels:
            raise UsageError(f"{channels} channels: the kernel takes 1 to {kernel.most_channels:,}")


def _check_like(tensor: Tensor, name: str, shape: tuple[int, ...], dtype: str = "float32") -> None:
    check_kind(tensor, name, dtype)
    if tensor.shape != shape:
        raise UsageError(f"{name} of shape {tuple(tensor.shape)}: give {','.join(map(str, shape))}")


def _results(map_: Tensor, weight: Tensor, pool: bool) -> tuple[Tensor, Tensor]:
    (n, _, y, x), k = map_.shape, weight.shape[0]
    shape, last = (n, k, y // 2, x // 2) if pool else (n, k, y, x), torch.channels_last
    result = torch.empty(shape, dtype=map_.dtype, device=map_.device, memory_format=last)
    where = torch.empty_like(result, dtype=torch.uint8) if pool else map_.new_empty(0, dtype=torch.uint8)
    return result, where


def _gradients(map_: Tensor, weight: Tensor, of_map: bool, of_weight: bool) -> tuple[Tensor, Tensor, Tensor]:
    last = torch.channels_last
    by_map = torch.empty_like(map_, memory_format=last) if of_map else map_.new_empty(0)
    by_weight = torch.empty_like(weight, memory_format=last) if of_weight else map_.new_empty(0)
    return by_map, by_weight, map_.new_empty(weight.shape[0] if of_weight else 0)


def _laid_out(kernel: Kernel, tensor: Tensor) -> Tensor:
    """Channels last, their number rounded up with zeros."""
    return _padded(kernel, tensor, 1).contiguous(memory_format=torch.channels_last)


def _padded(kernel: Kernel, tensor: Tensor, dim: int) -> Tensor:
    missing = kernel.channels(tensor.shape[dim]) - tensor.shape[dim]
    return F.pad(tensor, (*[0] * (2 * (tensor.ndim - 1 - dim)), 0, missing)) if missing else tensor


def _narrow(tensor: Tensor, channels: int) -> Tensor:
    if tensor.shape[1] == channels:
        return tensor
    return tensor[:, :channels].clone(memory_format=torch.channels_last)


def _call(kernel: Kernel, function: str, *arguments: object) -> None:
    """Calls a function of the kernel: tensors as the addresses of their memory."""
    kernel.call(function, *(each.data_ptr() if isinstance(each, Tensor) else each for each in arguments))


def _packed(kernel: Kernel, weight: Tensor, *, turned: bool) -> ndarray:
    k, c = weight.shape[:2]
    packed = _WEIGHTS.take(36 * k * c)
    _call(kernel, "pack_for_training", weight, k, c, turned, packed, kernel.threads())
    return packed


def _work(kernel: Kernel, n: int, y: int, x: int, channels_in: int, channels_out: int) -> ndarray:
    threads = kernel.threads()
    return _WORK.take(kernel.call("winograd_floats", tiles(n, y, x), channels_in, channels_out, threads, kernel.cache))
