"""What happens before the first update: images checked, precision chosen, a folder found, a better start suggested."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from verydeep.data.dataset import DataSet
from verydeep.data.doctor import examine_quickly
from verydeep.data.image_set import ImageSet, describe_skipped, memory_for_images
from verydeep.device import Compute, check_precision, find_device
from verydeep.distributed import num_local_processes, processes
from verydeep.errors import UsageError, UserError
from verydeep.files import free_name
from verydeep.nets.model_file import MODEL_FILE
from verydeep.nets.net import VeryDeep
from verydeep.speed.choosing import choose_training
from verydeep.training.callbacks import Reporter
from verydeep.training.recipe import Recipe
from verydeep.weights.resolve import read_card


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """What a user says about how a training is computed; none of it changes what is learnt, but for rounding.

    Attributes:
        device: cpu, cuda or mps; None for the fastest there is.
        precision: fp32 or bf16; None for the faster.
        workers: processes that make crops; None for none on the processor and one per core for a GPU.
        micro_batch: images computed at a time; None for all of a batch.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
        checkpoint_seconds: time between checkpoints within an epoch.
    """

    device: str | None = None
    precision: str | None = None
    workers: int | None = None
    micro_batch: int | None = None
    gradient_checkpointing: bool = False
    checkpoint_seconds: float = 600.0

    def check(self) -> None:
        """Checks what can be checked without data.

        Raises:
            UsageError: a name or a number that cannot be right.
        """
        find_device(self.device)
        check_precision(self.precision)
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"{self.workers} workers: give 0 or more")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise UsageError(f"a micro-batch of {self.micro_batch} images: give 1 or more")
        if not self.checkpoint_seconds > 0:
            raise UsageError("the time between checkpoints must be above 0")


_FEW_IMAGES = 10_000


def default_folder(net: VeryDeep, data: DataSet) -> Path:
    """Gives a run folder under runs/ that nothing lies in yet."""
    name = f"{data.name}-{net.geometry.architecture.name}" + ("-bn" if net.geometry.batch_norm else "")
    return Path("runs") / free_name(name, lambda name: (Path("runs") / name).exists())


def check_images(
    data: DataSet, skip_damaged: bool, reporter: Reporter, scale: int | None = None
) -> tuple[DataSet, list[str]]:
    """Decodes every image once, the test images too, and holds those to train and validate on if memory allows.

    A damaged test image is better known before the training than after it.

    Args:
        data: the data set.
        skip_damaged: leave damaged images out.
        reporter: told what was left out.
        scale: the largest S of the training, pixels, where there is one: no image may be too long for it.
    """
    checked: dict[str, ImageSet] = {}
    skipped: list[str] = []
    for split, images in (("train", data.train), ("val", data.val), ("test", data.test)):
        if images is not None:
            memory = 0 if split == "test" else memory_for_images() // num_local_processes()
            checked[split], damaged = images.checked(
                skip_damaged=skip_damaged,
                memory=memory,
                scale=None if split == "test" else scale,
                progress=reporter.progress,
            )
            skipped += damaged
    if skipped:
        reporter.note(describe_skipped(skipped))
    return replace(data, train=checked["train"], val=checked["val"], test=checked.get("test")), skipped


def reopen_images(data: DataSet, damaged: Sequence[str], reporter: Reporter) -> DataSet:
    """Prepares the images of a run that goes on: they were checked when it began, so only what memory holds is read."""
    train, val = data.train.without(damaged), data.val.without(damaged)
    if train.decoded_bytes() + val.decoded_bytes() <= memory_for_images() // num_local_processes():
        train, val = (images.checked(memory=2**62, progress=reporter.progress)[0] for images in (train, val))
    return replace(data, train=train, val=val, test=data.test.without(damaged) if data.test else None)


def say_what_is_wrong(data: DataSet, reporter: Reporter) -> None:
    """The short form of the data doctor: names each kind of finding with its remedy."""
    for finding in examine_quickly(data):
        if finding.severity != "note" or finding.kind == "imbalance":
            reporter.note(f"data: {finding.message}; {finding.remedy}")


def default_workers(workers: int | None, choice: Compute) -> int:
    """Gives the processes that make crops: none on the processor, where they would take its cores, else one a core."""
    if workers is None:
        return (
            0
            if choice.device == "cpu"
            else min(os.cpu_count() or 1, 16 * num_local_processes()) // num_local_processes()
        )
    return workers


def choose_for(net: VeryDeep, recipe: Recipe, execution: ComputeOptions, reporter: Reporter) -> Compute:
    """Chooses how a net is trained on this machine, and says it."""
    share = -(-recipe.batch_size // processes().size)
    choice = choose_training(
        net.geometry,
        device=execution.device,
        precision=execution.precision,
        threads=max(1, torch.get_num_threads() // num_local_processes()),
        micro_batch=execution.micro_batch if execution.micro_batch and execution.micro_batch < share else None,
        gradient_checkpointing=execution.gradient_checkpointing,
    )
    reporter.note(f"{net.geometry.title} on {choice}")
    return choice


def suggest_fine_tuning(net: VeryDeep, data: DataSet, reporter: Reporter) -> None:
    """Names a trained net of the same shape where there is one and the images are few."""
    if len(data.train) > _FEW_IMAGES:
        return
    for file in sorted(Path("runs").glob(f"*/{MODEL_FILE}")):
        try:
            card = read_card(file)
        except UserError:
            continue
        same = card.architecture == net.geometry.architecture.name and card.batch_norm == net.geometry.batch_norm
        other = card.data is not None and card.data.fingerprint != data.fingerprint
        if same and other and card.width == net.geometry.width:
            reporter.note(
                f"hint: {file.parent} is a trained net of this kind: --init-from {file.parent} --recipe fine-tune"
            )
            return
