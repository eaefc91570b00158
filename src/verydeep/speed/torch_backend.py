"""A net computed by PyTorch: on any device as it is, or on the CPU with its weights rounded to bfloat16."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy import ndarray
from torch import Tensor, nn

from verydeep.device import Compute, fp32_choice
from verydeep.nets.described import DescribedNet
from verydeep.nets.graph import graph_of
from verydeep.nets.model_file import as_module
from verydeep.nets.net import VeryDeep, empty_net
from verydeep.speed.memory import Pixels

_Module = TypeVar("_Module", bound=nn.Module)


class TorchBackend:
    """A net computed by PyTorch, in evaluation mode whatever mode the net itself is in.

    Args:
        net: moves to the device; its weights are shared. That of a model file becomes a module.
        compute: device, precision and layout.
        rounds_up: whether the pooling rounds sizes up, as Caffe's does.
    """

    def __init__(self, net: DescribedNet, compute: Compute, *, rounds_up: bool = False) -> None:
        module = as_module(net)
        module.place(compute)
        self._net, self._compute = evaluated(module, rounds_up=rounds_up), compute
        self._check_unchanged = module.weights_check()
        self.crop, self.num_classes = net.geometry.crop, net.geometry.num_classes
        self.head_kernel = net.geometry.head_kernel
        self.layers = tuple(name for name, _ in module.named_children())

    def maps(self, images: Pixels, layer: str = "fc8") -> Float32[ndarray, "n k i j"]:
        """Computes the maps of a layer, and nothing after it."""
        assert layer in self.layers
        given = as_tensor(images).permute(0, 3, 1, 2)
        if layer == "pool5":
            return self._computed(self._net.features, given)
        if layer == "fc8":
            return self._computed(self._net.score_map, given)
        return self.activations(images, [layer])[layer]

    def activations(self, images: Pixels, names: Sequence[str]) -> dict[str, Float32[ndarray, "n c y x"]]:
        """Computes the outputs of several layers in one pass, and nothing after the last."""
        self._check_unchanged()
        with torch.inference_mode(), self._compute.autocast():
            (moved,) = self._compute.move(as_tensor(images).permute(0, 3, 1, 2))
            return {name: _array(map_) for name, map_ in self._net.activations(moved, names).items()}

    def head(self, pool5_maps: Float32[ndarray, "n c y x"]) -> Float32[ndarray, "n k i j"]:
        """Computes the class score maps from parts of the maps after pool5."""
        dtype = next(self._net.parameters()).dtype
        return self._computed(self._net.head, as_tensor(pool5_maps).to(dtype))

    def _computed(self, compute: Callable[[Tensor], Tensor], given: Tensor) -> Float32[ndarray, "n k i j"]:
        self._check_unchanged()
        with torch.inference_mode(), self._compute.autocast():
            (moved,) = self._compute.move(given)
            return _array(compute(moved))


class TorchBf16Backend(TorchBackend):
    """A net in bfloat16 on the CPU, channels last.

    The mean is subtracted in float32 and batch norm is folded in float64, so that only weights, activations and
    products are rounded. The weights are rounded once: autocast would do it at every call.

    Args:
        net: in float32, on the CPU; it stays as it is.
    """

    def __init__(self, net: DescribedNet) -> None:
        super().__init__(_rounded(net), fp32_choice("cpu"))
        if net.geometry.batch_norm:  # which is folded: there is nothing between a convolution and its batch norm
            self.layers = tuple(name for name in self.layers if not name.startswith("conv"))
        self._check_unchanged = net.weights_check()


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


def as_tensor(array: ndarray) -> Tensor:
    """Returns an array as a tensor: a copy only where PyTorch cannot share it, mirrored or not writable."""
    shared = array.flags.writeable and min(array.strides) >= 0
    return torch.from_numpy(array if shared else np.array(array, order="C"))


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """A context whose tensors take no gradients and are not inference mode's, so that they can be written to later."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        yield


def _array(tensor: Tensor) -> Float32[ndarray, "..."]:
    array: ndarray = tensor.float().cpu().numpy()
    return array


def _rounded(net: DescribedNet) -> VeryDeep:
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
