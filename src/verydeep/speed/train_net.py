"""How a net in training is computed: the choice for a machine, and its layers grouped for the kernel.

The layers up to each pooling are grouped into stages. The kernel computes a 3x3 convolution with the ReLU and the
pooling after it; the convolutions of small maps are matrix multiplications; PyTorch computes everything else.
"""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from verydeep.device import Compute, check_precision, find_device, has_amx, has_fast_bf16
from verydeep.nets.architecture import Geometry
from verydeep.nets.layers import Convolution
from verydeep.nets.net import VeryDeep
from verydeep.speed.autograd import convolve_fast
from verydeep.speed.library import has_kernel
from verydeep.speed.small_maps import convolve_small, is_small

FEWEST_CHANNELS: Final = 8
"""Below them, as for images, a convolution has too little to do for tiles of 6x6."""

LARGEST_SMALL_CROP: Final = 64
"""Side of the crop up to which bf16 trains faster than the kernel where there is no AMX, pixels."""

REMEDY: Final = "with other rounding; install a C++ compiler and verydeep again to have it"
"""What to say where it is missing."""


def choose_training(
    geometry: Geometry,
    *,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    micro_batch: int | None = None,
    gradient_checkpointing: bool = False,
) -> Compute:
    """Chooses how a net is trained, by the rules whose figures ``backend.py`` explains.

    Args:
        geometry: of the net.
        device: a name, or None for the fastest kind there is.
        precision: fp32 or bf16, or None for the faster.
        threads: of the CPU, or None for as many as torch uses now.
        micro_batch: images computed at a time, as given.
        gradient_checkpointing: as given.

    Raises:
        UsageError: an unknown device or precision.
    """
    device = find_device(device)
    check_precision(precision)
    kernel = device == "cpu" and has_kernel()
    if precision is None:
        precision = "bf16" if _bf16_trains_faster(device, geometry.crop, kernel=kernel) else "fp32"
    return Compute(
        device=device,
        precision=precision,
        # 2.25, channels first 2.17; 107 and 100 at 32; tensor cores want it too; PyTorch has nothing for it on mps
        channels_last=device != "mps",
        threads=threads or torch.get_num_threads(),
        micro_batch=micro_batch,
        gradient_checkpointing=gradient_checkpointing,
        kernel=kernel and precision == "fp32",  # it has no other; 5.9, PyTorch 2.3
    )


def _bf16_trains_faster(device: str, crop: int, *, kernel: bool) -> bool:
    if not has_fast_bf16(device):
        return False
    if not kernel:
        return True  # 4.6, PyTorch in fp32 2.3
    if has_amx():
        return True  # 13.7, the kernel 6.6; with batch norm at 32: 232 and 169
    return crop <= LARGEST_SMALL_CROP  # at 32: 168, the kernel 140; at 64: 46 and 44; at 224: 4.6 and 5.4


def place(net: VeryDeep, compute: Compute) -> None:
    """Moves a net to where it is trained; on the CPU its layers are grouped, for the kernel where that is chosen.

    Args:
        net: is changed; ``release`` gives it back to PyTorch.
        compute: how it is computed.
    """
    release(net)
    net.place(compute)
    if compute.device == "cpu":
        net.__class__ = _grouped(type(net), kernel=compute.kernel and has_kernel())


def release(net: VeryDeep) -> None:
    """Lets PyTorch compute a net again, layer by layer."""
    if type(net) in _GROUPED.values():
        net.__class__ = type(net).__bases__[0]


_GROUPED: dict[tuple[type[VeryDeep], bool], type[VeryDeep]] = {}
"""The classes of nets whose layers are grouped, by the class of the net and whether the kernel computes."""


def _grouped(kind: type[VeryDeep], *, kernel: bool) -> type[VeryDeep]:
    # a class and no attribute of the net: a copy of the net then has groups of its own layers
    if (kind, kernel) not in _GROUPED:

        def make_block(_: VeryDeep, block: Sequence[nn.Module]) -> nn.Sequential:
            return group_layers(block, kernel=kernel)

        _GROUPED[kind, kernel] = type(kind.__name__, (kind,), {"make_block": make_block})
    return _GROUPED[kind, kernel]


def group_layers(layers: Sequence[nn.Module], *, kernel: bool) -> nn.Sequential:
    """Groups each convolution with the ReLU and the pooling where they follow it."""
    stages: list[nn.Module] = []
    rest = list(layers)
    while rest:
        count = 1
        if isinstance(rest[0], Convolution):
            for kind in (nn.ReLU, nn.MaxPool2d):
                if count == len(rest) or not isinstance(rest[count], kind):
                    break
                count += 1
            stages.append(Stage(*rest[:count], kernel=kernel))
        else:
            stages.append(rest[0])
        rest = rest[count:]
    return nn.Sequential(*stages)


class Stage(nn.Sequential):
    """A convolution, and the ReLU and the pooling where they follow it: computed at once where the kernel takes them.

    Where somebody has hooked one of them, each is computed by itself, so that the hook is called.

    Args:
        layers: one to three.
        kernel: whether the kernel may compute them.
    """

    def __init__(self, *layers: nn.Module, kernel: bool) -> None:
        super().__init__(*layers)
        self._kernel = kernel

    def forward(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k v u"]:
        """Computes the layers."""
        convolution, *rest = self
        assert isinstance(convolution, Convolution)
        assert convolution.bias is not None
        weight, bias = convolution.weight, convolution.bias
        precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype
        small = weight.shape[2] > 1 and is_small(map_, precision)
        if torch.compiler.is_compiling():
            map_ = convolution(map_)
        elif small and not _has_hooks(convolution):
            map_ = convolve_small(map_, weight, bias, precision)
        elif self._kernel and not small and _kernel_takes(weight, map_, precision) and not any(map(_has_hooks, self)):
            return convolve_fast(map_, weight, bias, rectify=len(self) > 1, pool=len(self) > 2)
        else:
            map_ = convolution(map_)
        for layer in rest:
            map_ = layer(map_)
        return map_


def _kernel_takes(weight: Tensor, map_: Tensor, precision: torch.dtype) -> bool:
    """Whether the kernel computes a convolution: 3x3 of many channels in float32, so not of images."""
    return (
        weight.shape[2] == 3
        and weight.shape[1] >= FEWEST_CHANNELS
        and map_.device.type == "cpu"
        and map_.dtype == weight.dtype == precision == torch.float32
    )


def _has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)
