"""A net computed by PyTorch: on any device as it is, or on the CPU with its weights rounded to bfloat16."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from jaxtyping import Float, Float32, Num
from numpy import ndarray
from torch import Tensor, nn

from verydeep.device import Compute, fp32_choice
from verydeep.nets.graph import graph_of, weights_check
from verydeep.nets.net import VeryDeep, empty_net
from verydeep.speed.memory import Pixels, as_tensor

_Module = TypeVar("_Module", bound=nn.Module)


class TorchBackend:
    """A net computed by PyTorch, in evaluation mode whatever mode the net itself is in.

    Args:
        net: moves to the device; its weights are shared.
        compute: device, precision and layout.
        rounds_up: whether the pooling rounds sizes up, as Caffe's does.
    """

    def __init__(self, net: VeryDeep, compute: Compute, *, rounds_up: bool = False) -> None:
        net.place(compute)
        self._net, self._compute = evaluated(net, rounds_up=rounds_up), compute
        self._check_unchanged = weights_check(net)
        self.crop, self.num_classes = net.geometry.crop, net.geometry.num_classes
        self.head_kernel = net.geometry.head_kernel
        self.layers = tuple(name for name, _ in net.named_children())

    def maps(self, images: Pixels, layer: str = "fc8") -> Float32[ndarray, "n k i j"]:
        """Computes the maps of a layer, and nothing after it."""
        assert layer in self.layers
        given = as_tensor(images).permute(0, 3, 1, 2)
        if layer == "pool5":
            return self._computed(self._net.features, given)
        if layer == "fc8":
            return self._computed(self._net.score_map, given)
        return self._computed(lambda moved: self._net.activations(moved, [layer])[layer], given)

    def activations(self, images: Num[Tensor, "n 3 h w"], names: Sequence[str]) -> dict[str, Tensor]:
        """Computes the outputs of several layers in one pass, and nothing after the last."""
        self._check_unchanged()
        with torch.inference_mode(), self._compute.autocast():
            (moved,) = self._compute.move(images)
            return self._net.activations(moved, names)

    def head(self, pool5_maps: Float32[ndarray, "n c y x"]) -> Float32[ndarray, "n k i j"]:
        """Computes the class score maps from parts of the maps after pool5."""
        dtype = next(self._net.parameters()).dtype
        return self._computed(self._net.head, as_tensor(pool5_maps).to(dtype))

    def _computed(self, compute: Callable[[Tensor], Tensor], given: Tensor) -> Float32[ndarray, "n k i j"]:
        self._check_unchanged()
        with torch.inference_mode(), self._compute.autocast():
            (moved,) = self._compute.move(given)
            found: ndarray = compute(moved).float().cpu().numpy()
        return found


class TorchBf16Backend(TorchBackend):
    """A net in bfloat16 on the CPU, channels last.

    The mean is subtracted in float32 and batch norm is folded in float64, so that only weights, activations and
    products are rounded. The weights are rounded once: autocast would do it at every call.

    Args:
        net: in float32, on the CPU; it stays as it is.
    """

    def __init__(self, net: VeryDeep) -> None:
        super().__init__(_rounded(net), fp32_choice("cpu"))
        if net.geometry.batch_norm:  # which is folded: there is nothing between a convolution and its batch norm
            self.layers = tuple(name for name in self.layers if not name.startswith("conv"))
        self._check_unchanged = weights_check(net)


def evaluated(net: _Module, *, rounds_up: bool = False) -> _Module:
    """Copies the modules of a net in evaluation mode, their pooling rounding up where asked for; weights are shared."""
    twin = copy.copy(net)
    twin.training = False
    twin._parameters = {
        name: parameter if parameter is None else nn.Parameter(parameter.detach(), requires_grad=False)
        for name, parameter in net._parameters.items()
    }
    twin._buffers = {name: None if buffer is None else buffer.clone() for name, buffer in net._buffers.items()}
    twin._modules = {
        name: None if module is None else evaluated(module, rounds_up=rounds_up)
        for name, module in net._modules.items()
    }
    if isinstance(twin, nn.MaxPool2d):
        twin.ceil_mode = rounds_up
    return twin


def _rounded(net: VeryDeep) -> VeryDeep:
    graph = graph_of(net)
    twin = empty_net(replace(net.geometry, batch_norm=False), features_only=net.features_only)
    tensors = {"mean": torch.from_numpy(graph.mean), "divisor": torch.from_numpy(graph.divisor)}
    for step in graph.convolutions:
        tensors[f"{step.name}.weight"] = torch.from_numpy(step.scaled_weight()).bfloat16()
        tensors[f"{step.name}.bias"] = torch.from_numpy(step.bias).bfloat16()
    for connected in graph.fully_connected:
        tensors[f"{connected.name}.weight"] = torch.from_numpy(connected.weight).bfloat16()
        tensors[f"{connected.name}.bias"] = torch.from_numpy(connected.bias).bfloat16()
    twin.load_state_dict(tensors, assign=True)
    for name, module in list(twin.named_children()):
        if isinstance(module, nn.ReLU):
            module.inplace = True
        elif isinstance(module, nn.LocalResponseNorm):
            setattr(twin, name, _Float32Norm(module.size, module.alpha, module.beta, module.k))
    return twin


class _Float32Norm(nn.LocalResponseNorm):
    """Local response normalisation in float32: squares of activations of some hundreds need more than eight bits."""

    def forward(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n c y x"]:
        return super().forward(map_.float()).to(map_.dtype, memory_format=torch.channels_last)
