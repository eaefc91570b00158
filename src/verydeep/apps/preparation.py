"""What happens before the first update: images checked, precision chosen, a folder found, a better start suggested."""

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from verydeep.apps.reporter import Reporter
from verydeep.convnets.model_file import MODEL_FILE, read_card
from verydeep.convnets.net import VeryDeep
from verydeep.data.datasets import DataSet
from verydeep.data.image_set import ImageSet, memory_for_images
from verydeep.device import Choice, choose
from verydeep.mistakes import MistakeError
from verydeep.training.fit import make_optimiser, update
from verydeep.training.recipes import Recipe
from verydeep.training.run import free_name

_MEASURED_PIXELS = 8 * 224 * 224
_FEW_IMAGES = 10_000


def default_folder(net: VeryDeep, data: DataSet) -> Path:
    """Gives a run folder under runs/ that nothing lies in yet."""
    name = f"{data.name}-{net.geometry.architecture.name}" + ("-bn" if net.geometry.batch_norm else "")
    return Path("runs") / free_name(name, lambda name: (Path("runs") / name).exists())


def check_images(data: DataSet, skip_damaged: bool, reporter: Reporter) -> tuple[DataSet, list[str]]:
    """Decodes every image once, the test images too, and holds those to train and validate on if memory allows.

    A damaged test image is better known before the training than after it.
    """
    checked: dict[str, ImageSet] = {}
    skipped: list[str] = []
    for split, images in (("train", data.train), ("val", data.val), ("test", data.test)):
        if images is not None:
            memory = 0 if split == "test" else memory_for_images()
            checked[split], damaged = images.checked(
                skip_damaged=skip_damaged, memory=memory, progress=reporter.progress
            )
            skipped += damaged
    if skipped:
        more = " ..." if len(skipped) > 5 else ""
        reporter.note(f"left out {len(skipped)} damaged images: {', '.join(skipped[:5])}{more}")
    return replace(data, train=checked["train"], val=checked["val"], test=checked.get("test")), skipped


def default_workers(workers: int | None, choice: Choice) -> int:
    """Gives the processes that make crops: none on the processor, where they would take its cores, else one a core."""
    if workers is None:
        return 0 if choice.device == "cpu" else min(os.cpu_count() or 1, 16)
    return workers


def choose_for(net: VeryDeep, recipe: Recipe, device: str | None, precision: str | None, reporter: Reporter) -> Choice:
    """Chooses precision and layout by timing a training step of a copy of the net."""
    crop = net.geometry.crop
    count = max(1, min(recipe.batch_size, _MEASURED_PIXELS // crop**2))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, crop, crop, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
    labels = torch.arange(count) % net.geometry.num_classes

    def make_step(choice: Choice) -> Callable[[], object]:
        twin = copy.deepcopy(net)
        twin.place(choice)
        twin.train()
        optimiser = make_optimiser(twin, recipe)
        return lambda: update(twin, optimiser, images, labels, choice)

    with torch.random.fork_rng(devices=[]):
        choice, seconds = choose(make_step, device=device, precision=precision)
    timed = "; ".join(f"{name} {count / taken:.3g} images/s" for name, taken in seconds.items())
    reporter.note(f"{net.geometry.title} on {choice}" + (f" (measured: {timed})" if len(seconds) > 1 else ""))
    return choice


def suggest_fine_tuning(net: VeryDeep, data: DataSet, reporter: Reporter) -> None:
    """Names a trained net of the same shape where there is one and the images are few."""
    if len(data.train) > _FEW_IMAGES:
        return
    for file in sorted(Path("runs").glob(f"*/{MODEL_FILE}")):
        try:
            card = read_card(file)
        except MistakeError:
            continue
        same = card.architecture == net.geometry.architecture.name and card.batch_norm == net.geometry.batch_norm
        other = card.data is not None and card.data.fingerprint != data.fingerprint
        if same and other and card.width == net.geometry.width:
            reporter.note(
                f"hint: {file.parent} is a trained net of this kind: --init-from {file.parent} --recipe fine-tune"
            )
            return
