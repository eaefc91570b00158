"""Training: one update of the weights, as ``verydeep train`` makes it and as a loop around torchvision's net does."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.compare.contender import Case, Contender, Options, Row
from benchmarks.compare.inference import version_of
from benchmarks.compare.nets import as_torchvision_builds_it, make_net, normalised, random_images
from benchmarks.compare.peer_torch import check_compiler
from verydeep.device import Compute
from verydeep.errors import UsageError
from verydeep.nets.architecture import layers
from verydeep.nets.net import VeryDeep
from verydeep.speed.train_net import choose_training, place
from verydeep.training.loop import make_optimiser
from verydeep.training.recipe import find_recipe
from verydeep.training.update import update

_ROUNDS = 5
_FEW = 2
_RECIPE = find_recipe("small-images")


class Step:
    """One update on the same images again and again; the rate is zero, so that the weights stay what they are.

    Args:
        net: in training mode.
        optimiser: of its parameters.
        images: that an update takes.
        labels: their classes.
        one: updates the weights on some images.
    """

    def __init__(
        self,
        net: nn.Module,
        optimiser: torch.optim.Optimizer,
        images: Tensor,
        labels: Tensor,
        one: Callable[[Tensor, Tensor], object],
    ) -> None:
        self.net, self.images, self.labels, self._one = net, images, labels, one
        for group in optimiser.param_groups:
            group["lr"] = 0.0  # as much work as with any other

    def __call__(self) -> "Step":
        """Updates the weights; gives what can say how exact that is."""
        self._one(self.images, self.labels)
        return self

    def gradients(self, count: int) -> list[Tensor]:
        """Computes the gradients on the first images, without dropout."""
        set_dropout(self.net, 0.0)
        self._one(self.images[:count], self.labels[:count])
        return [parameter.grad.detach().flatten() for parameter in self.net.parameters() if parameter.grad is not None]


def set_dropout(net: nn.Module, p: float) -> None:
    """Sets the probability of dropout in a net of ours or of torchvision."""
    if isinstance(net, VeryDeep):
        net.set_dropout(p)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = p


def our_step(net: VeryDeep, images: Tensor, labels: Tensor, choice: Compute) -> Step:
    """One update as verydeep's loop makes it.

    Args:
        net: is placed, and trained.
        images: uint8.
        labels: their classes.
        choice: how it is computed.
    """
    place(net, choice)
    net.set_dropout(_RECIPE.dropout)
    net.train()
    optimiser = make_optimiser(net, _RECIPE)
    return Step(net, optimiser, images, labels, lambda x, y: update(net, optimiser, x, y, choice))


def peer_step(
    twin: nn.Module, images: Tensor, labels: Tensor, *, bf16: bool, channels_last: bool, compile_it: bool = False
) -> Step:
    """One update of a loop in plain PyTorch, with the optimiser that takes least time.

    Args:
        twin: torchvision's, in training mode.
        images: normalised.
        labels: their classes.
        bf16: by autocast; the weights are float32.
        channels_last: the memory layout.
        compile_it: let torch compile the net, forward and backward.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    twin.to(memory_format=layout)
    forward = torch.compile(twin, dynamic=False) if compile_it else twin
    optimiser = torch.optim.SGD(
        twin.parameters(),
        lr=_RECIPE.learning_rate,
        momentum=_RECIPE.momentum,
        nesterov=_RECIPE.nesterov,
        weight_decay=_RECIPE.weight_decay,
        fused=True,
    )

    def one(x: Tensor, y: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            scores = forward(x)
        loss = F.cross_entropy(scores.float(), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return Step(twin, optimiser, images.contiguous(memory_format=layout), labels, one)


@dataclass(frozen=True)
class _Size:
    batch_norm: bool
    crop: int
    batch: int
    num_classes: int


class Training:
    """Updates of the paper's size and of small images, or of the size asked for.

    Args:
        options: of the measurement.

    Raises:
        UsageError: training has no such precision.
    """

    def __init__(self, options: Options) -> None:
        if options.precision == "int8":
            raise UsageError("--precision int8: nets are trained in fp32 or bf16")
        self.options = options
        self.notes = ("the error is that of the gradients of a few images, without dropout",)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions that the contenders compute in."""
        return ("fp32", "bf16") if self.options.precision == "auto" else (self.options.precision,)

    def cases(self) -> Sequence[Case]:
        """A case for each size."""
        options = self.options
        usual = [_Size(False, 224, 16, 1000), _Size(True, 32, 128, 10)]
        if options.crop or options.batches or options.batch_norm or options.model:
            like = usual[1] if options.crop and options.crop < 64 else usual[0]
            usual = [
                _Size(options.batch_norm, options.crop or like.crop, batch, like.num_classes)
                for batch in options.batches or (like.batch,)
            ]
        return [_One(options, size, self.precisions).case() for size in usual]

    def extra(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """Nothing more."""
        return {}


class _One:
    def __init__(self, options: Options, size: _Size, precisions: tuple[str, ...]) -> None:
        self.options, self.size, self.precisions = options, size, precisions

    @cached_property
    def net(self) -> VeryDeep:
        size = self.size
        return make_net(self.options, batch_norm=size.batch_norm, crop=size.crop, num_classes=size.num_classes).train()

    @cached_property
    def images(self) -> Tensor:
        return random_images(self.size.batch, self.net.geometry.crop)

    @cached_property
    def labels(self) -> Tensor:
        return torch.arange(self.size.batch) % self.net.geometry.num_classes

    def case(self) -> Case:
        geometry = self.net.geometry
        return Case(
            name=f"{geometry.title}, update of {self.size.batch}",
            contenders=(self._ours(), *self._peers()),
            images=self.size.batch,
            rounds=_ROUNDS,
            macs=3 * sum(layer.macs for layer in layers(geometry)),  # forward, of the images, of the weights
            errors=self._errors,
        )

    def _ours(self) -> Contender:
        asked, threads = self.options.precision, self.options.threads
        precision = None if asked == "auto" else asked
        choice = choose_training(self.net.geometry, device="cpu", precision=precision, threads=threads)

        return Contender(
            name=f"verydeep {version_of('verydeep')}",
            make=lambda: our_step(copy.deepcopy(self.net), self.images, self.labels, choice),
            is_ours=True,
            precision=choice.precision,
            computed_by=lambda: str(choice),
        )

    def _peers(self) -> list[Contender]:
        peers = []
        for precision in self.precisions:
            bf16 = precision == "bf16"
            what = "torchvision, autocast" if bf16 else "torchvision"
            for channels_last in (True, False):
                name = f"{what}, channels {'last' if channels_last else 'first'}, {version_of('torchvision')}"
                peers.append(self._peer(name, "torchvision", bf16=bf16, channels_last=channels_last))
            name = f"torch.compile{', autocast' if bf16 else ''}, channels last, {version_of('torch')}"
            peers.append(self._peer(name, "torch", bf16=bf16, channels_last=True, compile_it=True))
        return peers

    def _peer(self, name: str, package: str, **how: Any) -> Contender:  # noqa: ANN401 - of peer_step
        def make() -> Step:
            if how.get("compile_it"):
                check_compiler()
            twin = as_torchvision_builds_it(self.net, dropout=_RECIPE.dropout)
            step = peer_step(twin, normalised(self.net, self.images), self.labels, **how)
            return step()

        return Contender(name=name, make=make, package=package, precision="bf16" if how["bf16"] else "fp32")

    def _errors(self, outputs: Mapping[str, Any]) -> dict[str, float]:
        """Errors of the gradients against float64, all parameters as one vector."""
        count = min(self.size.batch, _FEW if self.net.geometry.crop >= 64 else 8)
        exact_net = copy.deepcopy(self.net).double()
        exact_net.set_dropout(0.0)
        F.cross_entropy(exact_net(self.images[:count]), self.labels[:count]).backward()
        exact = [parameter.grad.flatten() for parameter in exact_net.parameters() if parameter.grad is not None]
        size = sum(float(one.square().sum()) for one in exact)
        errors = {}
        for name, step in outputs.items():
            pairs = zip(step.gradients(count), exact, strict=True)
            errors[name] = (sum(float((mine.double() - one).square().sum()) for mine, one in pairs) / size) ** 0.5
        return errors
