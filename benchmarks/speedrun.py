"""A short training on images that stay on a device: what gpu_cifar.py runs with several seeds and settings.

The net is one of the paper's with batch norm, the training is not the paper's: a triangular rate, label smoothing, a
mirror that alternates, several views at test, and what speedrun_parts.py has.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.speedrun_parts import Average, FlatMuon, begin_as_identity, cut_out, whiten_first_layer
from verydeep.data.augment import TrainingView
from verydeep.data.resident import ResidentImages
from verydeep.device import Compute, synchronise
from verydeep.nets.layers import Convolution
from verydeep.nets.net import VeryDeep


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a net is trained in seconds.

    Attributes:
        architecture: with batch norm.
        width: factor on the channels.
        epochs: passes over the images.
        batch_size: images per update; a smaller last batch is left out.
        optimiser: ``sgd`` for all, or ``muon`` for the convolutions and sgd for the rest.
        learning_rate: of sgd, at its highest.
        muon_rate: of muon, at its highest.
        rise: share of the updates over which the rates rise from zero; over the rest they fall to zero.
        momentum: of both, in Nesterov's form.
        weight_decay: of weights; not of biases and batch norm.
        label_smoothing: probability mass spread over the classes.
        dropout: probability on fc6 and fc7.
        margin: pixels by which a crop may reach over the edge, where it sees the image reflected.
        cutout: side of a square that is filled with the mean, pixels; 0 for none.
        alternate: mirror each image in every second epoch; otherwise at random.
        whiten: the first layer whitens patches of the training images, and is not trained.
        identity: the other convolutions begin as the identity.
        average: epochs over which the tested weights are averaged; 0 tests the last weights.
        views: at test: ``one``, ``mirror``, or ``shift``, the mirror and shifts by a pixel.
        precision: fp32 or bf16.
        compile: mode of torch.compile, or ``off``.
    """

    architecture: str = "D-bn"
    width: float = 1.0
    epochs: int = 20
    batch_size: int = 512
    optimiser: str = "muon"
    learning_rate: float = 0.2
    muon_rate: float = 0.03
    rise: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    dropout: float = 0.1
    margin: int = 3
    cutout: int = 0
    alternate: bool = True
    whiten: bool = True
    identity: bool = True
    average: float = 0.0
    views: str = "shift"
    precision: str = "bf16"
    compile: str = "default"


class Trainer:
    """Trains one net again and again, from new weights each time, so that it is compiled once.

    Args:
        plan: how.
        train: images to train on, at one scale.
        device: where.
        num_classes: number of classes.
    """

    def __init__(self, plan: Plan, train: ResidentImages, device: str, num_classes: int) -> None:
        self.plan, self.train, self.device = plan, train, device
        threads = torch.get_num_threads()
        self.choice = Compute(device=device, precision=plan.precision, channels_last=True, threads=threads)
        self.crop = train.scales[0]
        self.net = VeryDeep(
            plan.architecture,
            num_classes=num_classes,
            crop=self.crop,
            width=plan.width,
            dropout=plan.dropout,
            initialisation=None,
        )
        colours = train.pixels[:: max(1, len(train.pixels) // 2_000_000)].float()
        self.net.set_input(colours.mean(0).tolist(), colours.std(0).tolist())
        self.net.place(self.choice)
        self.called: Callable[[Tensor], Tensor] = self.net
        if plan.compile != "off":
            self.called = torch.compile(self.net, mode=plan.compile)
        self.view = TrainingView(crop=self.crop, train_scale=train.scales, mirror=not plan.alternate)

    @property
    def updates(self) -> int:
        """Weight updates of the whole training."""
        return self.plan.epochs * (len(self.train) // self.plan.batch_size)

    def begin(self, seed: int) -> None:
        """Draws new weights."""
        self.net.initialise("kaiming", torch.Generator(self.device).manual_seed(seed))
        if self.plan.identity:
            begin_as_identity(self.net)
        if self.plan.whiten:
            whole = TrainingView(crop=self.crop, train_scale=self.train.scales, mirror=False)
            some = torch.arange(0, len(self.train), max(1, len(self.train) // 500), device=self.device)
            whiten_first_layer(self.net, self.train.crops(some, whole, torch.Generator(self.device)))

    def run(self, seed: int, most_updates: int | None = None) -> dict[str, float]:
        """Trains from new weights to the end of the schedule, or for some updates of it.

        Returns:
            Seconds from the first weights to the last update, and the mean loss of the last epoch.
        """
        plan, total = self.plan, self.updates
        synchronise(self.device)
        start = time.perf_counter()
        torch.manual_seed(seed)
        self.begin(seed)
        optimisers = make_optimisers(self.net, plan)
        average = Average(self.net, plan.average * total / plan.epochs) if plan.average else None
        loss, counted = torch.zeros((), device=self.device), 0
        self.net.train()
        for done, (images, labels) in enumerate(self.batches(seed)):
            if done == most_updates:
                break
            share = (done + 0.5) / total
            for optimiser, highest in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = highest * min(share / plan.rise, (1 - share) / (1 - plan.rise))
            with self.choice.autocast():
                scores = self.called(images)
            each = F.cross_entropy(scores.float(), labels, label_smoothing=plan.label_smoothing)
            each.backward()
            for optimiser, _ in optimisers:
                optimiser.step()
                optimiser.zero_grad()
            if average:
                average.add(self.net)
            if share > 1 - 1 / plan.epochs:
                loss, counted = loss + each.detach(), counted + 1
        if average:
            average.give(self.net)
        synchronise(self.device)
        return {"seconds": time.perf_counter() - start, "loss": loss.item() / max(counted, 1)}

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented batches of all epochs."""
        plan, train = self.plan, self.train
        generator = torch.Generator(self.device).manual_seed(seed)
        first_mirrored = torch.rand(len(train), generator=generator, device=self.device) < 0.5
        for epoch in range(plan.epochs):
            order = torch.randperm(len(train), generator=generator, device=self.device)
            for indices in order.split(plan.batch_size):
                if len(indices) < plan.batch_size:
                    continue
                images = train.crops(indices, self.view, generator, margin=plan.margin)
                if plan.alternate:
                    mirrored = first_mirrored[indices] ^ bool(epoch % 2)
                    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
                if plan.cutout:
                    images = cut_out(images, plan.cutout, self.net.mean, generator)
                yield images, train.labels[indices]

    @torch.inference_mode()
    def accuracy(self, images: ResidentImages, batch_size: int = 2000) -> float:
        """Share of whole images that are classified rightly, by the posteriors averaged over the plan's views."""
        self.net.eval()
        whole = TrainingView(crop=self.crop, train_scale=images.scales, mirror=False)
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        for indices in torch.arange(len(images), device=self.device).split(batch_size):
            batch = images.crops(indices, whole, torch.Generator(self.device))
            posterior = sum(weight * self._posterior(view) for view, weight in views(batch, self.plan.views))
            assert isinstance(posterior, Tensor)
            right += (posterior.argmax(1) == images.labels[indices]).sum()
        return right.item() / len(images)

    def _posterior(self, images: Tensor) -> Tensor:
        with self.choice.autocast():
            scores: Tensor = self.net(images)
        return scores.float().softmax(1)


def views(images: Tensor, kind: str) -> Iterator[tuple[Tensor, float]]:
    """Gives what the net sees of images at test, with the weight of each view.

    Args:
        images: n,3,c,c.
        kind: ``one``, ``mirror``, or ``shift``.
    """
    shown = [(images, 1.0)]
    if kind == "shift":
        crop = images.shape[2]
        padded = F.pad(images.float(), (1, 1, 1, 1), mode="reflect")
        shown = [(images, 0.5)]
        shown += [(padded[:, :, i : i + crop, i : i + crop].byte(), 0.25) for i in (0, 2)]
    for view, weight in shown:
        if kind == "one":
            yield view, weight
        else:
            yield view, weight / 2
            yield view.flip(3), weight / 2


def make_optimisers(net: VeryDeep, plan: Plan) -> list[tuple[torch.optim.Optimizer, float]]:
    """Makes the optimisers of a plan, each with its highest rate."""
    trained = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    flat: list[Tensor] = []
    if plan.optimiser == "muon":
        convolutions = [name for name, module in net.named_children() if isinstance(module, Convolution)]
        flat = [trained.pop(f"{name}.weight") for name in convolutions if f"{name}.weight" in trained]
    weights = [parameter for parameter in trained.values() if parameter.ndim > 1]
    others = [parameter for parameter in trained.values() if parameter.ndim == 1]
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": plan.weight_decay}, {"params": others}]
    sgd = torch.optim.SGD(
        groups,
        lr=plan.learning_rate,
        momentum=plan.momentum,
        nesterov=True,
        fused=True,
    )
    optimisers: list[tuple[torch.optim.Optimizer, float]] = [(sgd, plan.learning_rate)]
    if flat:
        muon = FlatMuon(flat, momentum=plan.momentum, weight_decay=plan.weight_decay)
        optimisers.append((muon, plan.muon_rate))
    return optimisers
