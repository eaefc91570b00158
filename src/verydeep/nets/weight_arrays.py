"""The weights of a module of PyTorch as arrays that share its memory."""

from collections.abc import Callable

import torch
from jaxtyping import Float32
from numpy import ndarray
from torch import Tensor, nn

from verydeep.errors import UserError
from verydeep.nets.described import DescribedNet


class ArrayNet(nn.Module, DescribedNet):
    """A net of PyTorch whose layers can be asked for their weights; see ``DescribedNet``."""

    @property
    def device_type(self) -> str:
        """Where its weights are: cpu, cuda or mps."""
        return next(self.parameters()).device.type

    def check_float32(self) -> None:
        """Raises UserError where the net is not in float32 on the CPU."""
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.device.type != "cpu":
                raise UserError(f"this net is on {tensor.device.type}: move it with net.cpu() first")
            if tensor.is_floating_point() and tensor.dtype != torch.float32:
                raise UserError(f"this net is in {str(tensor.dtype).removeprefix('torch.')}: make it net.float() first")

    def weights_check(self) -> Callable[[], None]:
        """Returns a function that raises UserError once the weights were changed in place."""
        last = list(self.parameters())[-1].detach()
        before = _version(last)

        def check() -> None:
            if _version(last) != before:
                raise UserError("the weights of this net were changed after it was accelerated: accelerate it again")

        return check

    def weights_of(self, layer: str) -> tuple[Float32[ndarray, "k c s s"], Float32[ndarray, "k"]]:
        """Weight and bias of a convolution or a fully connected layer, which may be a linear one in place of fc8."""
        module = self.get_submodule(layer)
        assert isinstance(module, nn.Conv2d | nn.Linear)
        weight = module.weight if module.weight.ndim == 4 else module.weight[:, :, None, None]
        return _array(weight), _array(torch.zeros(len(weight)) if module.bias is None else module.bias)

    def batch_norm_of(self, layer: str) -> tuple[ndarray, ndarray, ndarray, ndarray, float]:
        """Scale, shift, mean and variance of a batch norm, one number per channel each, and what the variance gets."""
        norm = self.get_submodule(layer)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        return _array(norm.weight), _array(norm.bias), _array(norm.running_mean), _array(norm.running_var), norm.eps


def _version(tensor: Tensor) -> int:
    try:
        return tensor._version
    except RuntimeError:  # what was made in inference mode counts no changes, and does not always say that it was
        return 0


def _array(tensor: Tensor) -> ndarray:
    array: ndarray = tensor.detach().contiguous().numpy()
    return array
