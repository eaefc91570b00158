"""What all perceptual losses share: checks, both pictures' features compared, gradients, references to keep.

On the CPU in float32 a few pictures are computed at a time, so that the maps of all never lie in memory together:
without gradients each layer is compared while it is there; with them the gradient of each picture is computed along
with its distance, and the backward pass only scales it.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from verydeep.errors import UserError
from verydeep.losses.features import Features
from verydeep.losses.pictures import Reference, check_against, check_pictures, check_range, parts, pixels, some
from verydeep.nets.activations import check_reaches
from verydeep.nets.net import VeryDeep
from verydeep.weights.resolve import load

Pictures = Num[Tensor, "..."]
"""n,3,h,w, which is checked: this is where they enter."""


class PerceptualLoss(nn.Module):
    """A distance of pictures by the features of a net.

    It has no parameters: what trains or stores the modules around it has nothing to do with the net's weights.

    Args:
        net: a ``VeryDeep``, or a MODEL: a model file, run folder or published name.
        layers: compared.
        pool: stands in the place of the net's max-pooling; None leaves it.
        precision: of the net: fp32 or bf16. Features are compared in float32.

    Raises:
        UserError: there is no such model.
        UsageError: no such layer or precision.
    """

    formula = ""

    def __init__(
        self,
        net: VeryDeep | str | Path,
        layers: Sequence[str],
        *,
        pool: nn.Module | None = None,
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        self.model = "" if isinstance(net, VeryDeep) else str(net)
        if not isinstance(net, VeryDeep):
            connected = any(str(name).startswith(("fc", "relu6", "relu7", "drop")) for name in layers)
            net = load(net, features_only=not connected)
        self.geometry, self.precision = net.geometry, precision
        self.features = Features(net, layers, pool, precision)

    # ---- what a loss is ---------------------------------------------------------------------------------------------

    def keep(self, name: str, map_: Float[Tensor, "n c y x"]) -> Tensor:
        """Returns what is compared of a layer."""
        return map_

    def compare(self, name: str, a: Tensor, b: Tensor) -> Float[Tensor, "n"]:
        """Compares what is kept of a layer; either may be of one picture for all."""
        raise NotImplementedError

    def compare_once(self, name: str, a: Tensor, b: Tensor) -> Float[Tensor, "n"]:
        """The same, differentiable once."""
        return self.compare(name, a, b)

    def total(self, compared: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """Makes the distance of the sum over the layers."""
        return compared

    @property
    def description(self) -> str:
        """Formula, net, layers, precision and the weights' hash: what a table of scores should name."""
        net = f"{self.model}, {self.geometry.title}" if self.model else self.geometry.title
        pool = self.features.pool
        pooling = "max-pooling" if pool is None else f"{type(pool).__name__} for max-pooling"
        layers = ", ".join(self.features.layers)
        return f"{self.formula} on {net}, {layers}, {pooling}, {self.precision}, weights {self.features.digest}"

    def __repr__(self) -> str:
        """Such as ``LPIPS(LPIPS v0.1 on vgg16-features, D (VGG-16), ..., weights 1a2b3c4d)``."""
        return f"{type(self).__name__}({self.description})"

    # ---- what is called ---------------------------------------------------------------------------------------------

    def forward(self, x: Pictures, y: Pictures | Reference, *, data_range: float) -> Float[Tensor, "n"]:
        """Computes the distances.

        Args:
            x: RGB in 0..data_range, uint8 or floating point.
            y: as many of the same size, or what ``reference`` made of them, or of one picture for all.
            data_range: 1 or 255.

        Returns:
            A distance for each pair, float32; gradients flow to x and y.

        Raises:
            UserError: pictures of different shapes or types, or plainly not in 0..data_range.
            UsageError: no such range.
        """
        check_range(data_range)
        if not torch.compiler.is_compiling():
            self._check(x, "x", data_range)
            if isinstance(y, Reference):
                if y.description != self.description:
                    raise UserError(f"y is a reference of another loss ({y.description}): make it with this one")
                check_against(x, (len(y), 3, *y.size), None)
            else:
                self._check(y, "y", data_range)
                check_against(x, y.shape, y.dtype)
        return self.distance(x, y, data_range)

    def distance(self, x: Pictures, y: Pictures | Reference, data_range: float) -> Float[Tensor, "n"]:
        """Computes the same without checks: pictures may leave their range."""
        if not self.features.kernel_takes(x):
            return self.total(self._compared(x, y, data_range))
        given = (x,) if isinstance(y, Reference) else (x, y)
        if torch.is_grad_enabled() and any(pictures.requires_grad for pictures in given):
            reference = y if isinstance(y, Reference) else None
            distance: Tensor = _PictureByPicture.apply(self, data_range, reference, *given)
            return self.total(distance)
        return self.total(self._without_gradients(x, y, data_range))

    def reference(self, y: Pictures, *, data_range: float) -> Reference:
        """Computes what other pictures are compared with, once for many calls; it takes no gradient.

        Args:
            y: RGB in 0..data_range, uint8 or floating point.
            data_range: 1 or 255.

        Raises:
            UserError: pictures that are plainly not in 0..data_range.
            UsageError: no such range.
        """
        check_range(data_range)
        self._check(y, "y", data_range)
        with torch.no_grad():
            slices = parts(y) if self.features.kernel_takes(y) else [slice(None)]
            found = [self._kept(y[part], data_range) for part in slices]
        kept = {name: torch.cat([each[name] for each in found]) for name in self.features.layers}
        return Reference((y.shape[2], y.shape[3]), kept, self.description)

    def _check(self, pictures: Pictures, what: str, data_range: float) -> None:
        check_pictures(pictures, what, data_range)
        if not rounds_up(self.features.pool):
            check_reaches(pictures.shape[2:], self.geometry, self.features.names)

    # ---- how it is computed -----------------------------------------------------------------------------------------

    def _compared(
        self, x: Tensor, y: Tensor | Reference, data_range: float, *, once: bool = False
    ) -> Float[Tensor, "n"]:
        """Compares by operations of PyTorch: both in one batch, or one of them without gradient.

        Args:
            x: pictures.
            y: pictures, or what is kept of them.
            data_range: of the pictures.
            once: differentiable once, and faster.
        """
        compare = self.compare_once if once else self.compare
        if isinstance(y, Reference):
            moving, kept = x, y.kept
        elif x.requires_grad == y.requires_grad or torch.compiler.is_compiling():
            both = torch.cat([pixels(x, data_range), pixels(y, data_range)])
            return _sum(
                compare(name, *self.keep(name, map_).chunk(2))
                for name, map_ in self.features.by_torch(both, frozen=once)
            )
        else:
            moving, fixed = (x, y) if x.requires_grad else (y, x)
            with torch.no_grad():
                kept = self._kept(fixed, data_range)
        maps = self.features.by_torch(pixels(moving, data_range), frozen=once)
        return _sum(compare(name, self.keep(name, map_), kept[name]) for name, map_ in maps)

    def _without_gradients(self, x: Tensor, y: Tensor | Reference, data_range: float) -> Float[Tensor, "n"]:
        """Compares layer by layer while the kernel computes them."""
        distance = torch.zeros(len(x))
        for part in parts(x):
            other, given = some(y, part), pixels(x[part].detach(), data_range)
            if isinstance(other, Tensor):
                given = torch.cat([given, pixels(other.detach(), data_range)])
            for name, map_ in self.features.without_gradients(given):
                kept = self.keep(name, map_)
                a, b = kept.chunk(2) if isinstance(other, Tensor) else (kept, other.kept[name])
                distance[part] += self.compare_once(name, a, b)
        return distance

    def _kept(self, pictures: Tensor, data_range: float) -> dict[str, Tensor]:
        given, by_kernel = pixels(pictures, data_range), self.features.kernel_takes(pictures)
        maps = self.features.without_gradients(given) if by_kernel else self.features.by_torch(given)
        return {name: self.keep(name, map_) for name, map_ in maps}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PerceptualLoss":
        kept = dict(self._buffers)
        super()._apply(fn, recurse)
        self.features.apply(fn)
        for name, before in kept.items():  # the net alone is rounded to bf16
            moved = self._buffers[name]
            assert before is not None
            assert moved is not None
            if moved.dtype != before.dtype:
                self._buffers[name] = before.to(moved.device)
        return self


class _PictureByPicture(torch.autograd.Function):
    """Distances with their gradients, computed together a few pictures at a time."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        loss: PerceptualLoss,
        data_range: float,
        reference: Reference | None,
        *given: Tensor,
    ) -> Tensor:
        needs = ctx.needs_input_grad[3:]
        distance = torch.zeros(len(given[0]))
        gradients = [torch.empty_like(each) if need else None for each, need in zip(given, needs, strict=True)]
        for part in parts(given[0]):
            taken = [each[part].detach().requires_grad_(need) for each, need in zip(given, needs, strict=True)]
            with torch.enable_grad():
                y = taken[1] if reference is None else some(reference, part)
                value = loss._compared(taken[0], y, data_range, once=True)
                found = iter(torch.autograd.grad(value.sum(), [each for each in taken if each.requires_grad]))
            distance[part] = value.detach()
            for gradient in gradients:
                if gradient is not None:
                    gradient[part] = next(found)
        ctx.loss, ctx.data_range, ctx.reference, ctx.count = loss, data_range, reference, len(given)
        ctx.save_for_backward(*given, *gradients)
        return distance

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Scales the gradients; computes them again by plain PyTorch where they are to be differentiated once more."""
        given, gradients = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        if torch.is_grad_enabled():
            y = given[1] if ctx.reference is None else ctx.reference
            value = ctx.loss._compared(given[0], y, ctx.data_range)
            inputs = [each for each in given if each.requires_grad]
            found = iter(torch.autograd.grad(value, inputs, upstream, create_graph=True))
            return None, None, None, *(next(found) if each.requires_grad else None for each in given)
        return (
            None,
            None,
            None,
            *(
                None if gradient is None else gradient * upstream.to(gradient.dtype)[:, None, None, None]
                for gradient in gradients
            ),
        )


def rounds_up(pool: nn.Module | None) -> bool:
    """Whether a pooling leaves a position of any map."""
    return pool is not None and not isinstance(pool, nn.AvgPool2d)


def _sum(terms: Iterable[Tensor]) -> Tensor:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first
