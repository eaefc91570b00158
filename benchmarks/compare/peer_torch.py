"""The net in PyTorch: torchvision's eager in both layouts, compiled, and timm's."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.compare.contender import Call, LeftOutError
from verydeep.errors import UserError
from verydeep.nets.net import VeryDeep
from verydeep.weights.writers import TARGETS
from verydeep.weights.writers.torch import to_state_dict

Bind = Callable[[Tensor], Call]
"""Gives the call that computes the scores of normalised images; what it does to them first is not timed."""


def eager(twin: nn.Module, *, channels_last: bool, precision: str) -> Bind:
    """A net as it is, in a memory layout and a precision.

    Args:
        twin: in evaluation mode; it is copied where the layout or the precision is another.
        channels_last: the memory layout of weights and images.
        precision: fp32, or bf16: weights and all.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    if channels_last or precision == "bf16":
        twin = copy.deepcopy(twin).to(dtype).to(memory_format=layout)
    return lambda x: _call(twin, x.to(dtype=dtype, memory_format=layout))


def compiled(twin: nn.Module, *, precision: str, tune: bool) -> Bind:
    """A net compiled by torch, its weights frozen and laid out anew.

    Args:
        twin: in evaluation mode.
        precision: fp32, or bf16: weights and all.
        tune: let it choose among products of its own by measuring (max-autotune), which takes minutes.

    Raises:
        LeftOutError: there is no C++ compiler, which it needs.
    """
    check_compiler()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    last = copy.deepcopy(twin).to(dtype).to(memory_format=torch.channels_last)
    ready = torch.compile(last, dynamic=False, options={"freezing": True, "max_autotune": tune})

    def bind(x: Tensor) -> Call:
        mine = x.to(dtype=dtype, memory_format=torch.channels_last)
        ready(mine)
        return _call(ready, mine)

    return bind


def check_compiler() -> None:
    """Checks that torch.compile finds the compiler that it needs on the processor.

    Raises:
        LeftOutError: it finds none.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:
        raise LeftOutError("torch.compile needs a C++ compiler and finds none: install g++ or clang++") from error


def timm_net(net: VeryDeep, *, channels_last: bool, precision: str) -> Bind:
    """The net of timm, in a memory layout and a precision.

    Args:
        net: of the paper's width and crop.
        channels_last: the memory layout of weights and images.
        precision: fp32, or bf16: weights and all.

    Raises:
        LeftOutError: timm has no such net.
    """
    from timm.models import create_model

    try:
        TARGETS["timm"].check(net)
    except UserError as error:
        raise LeftOutError(str(error)) from error
    geometry = net.geometry
    depth = geometry.architecture.weight_layers
    theirs = create_model(f"vgg{depth}{'_bn' if geometry.batch_norm else ''}", num_classes=geometry.num_classes)
    theirs.load_state_dict(to_state_dict(net, "timm"))
    return eager(theirs.eval(), channels_last=channels_last, precision=precision)


def _call(module: Callable[[Tensor], Tensor], x: Tensor) -> Call:
    return lambda: module(x)
