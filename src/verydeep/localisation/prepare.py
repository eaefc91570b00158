"""Prepares the data and the run folder of a localiser's training.

Paper: appendix A.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from verydeep.data.boxes.boxed import BoxedImages, BoxedSet
from verydeep.data.boxes.findings import describe_findings
from verydeep.data.dataset import describe
from verydeep.data.image_set import ImageSet
from verydeep.data.pixels import measure_pixels
from verydeep.distributed import broadcast_from_rank0
from verydeep.localisation.options import LocaliseOptions
from verydeep.nets.net import VeryDeep
from verydeep.runs.finish import make_run_card
from verydeep.runs.start import check_images, run_settings, settle_compute
from verydeep.training.recipe import Recipe
from verydeep.training.run_folder import Run
from verydeep.training.state import Callback

VERB: Final = "localise train"


def prepare(
    net: VeryDeep, boxed: BoxedSet, recipe: Recipe, skip_damaged: bool, reporter: Callback
) -> tuple[BoxedSet, dict[str, Any]]:
    """Decodes every image once; returns what run.json says of the images too."""
    net.mirror = recipe.mirror and boxed.mirror
    data = boxed.as_data_set()
    reporter.note(describe(data))
    for line in describe_findings(boxed.findings):
        reporter.note(f"data: {line}")
    checked, skipped = check_images(data, skip_damaged, reporter, net.train_scale[1])
    colours = broadcast_from_rank0(lambda: measure_pixels(checked.train).as_record())
    boxed = replace(
        boxed,
        train=with_pixels(boxed.train, checked.train),
        val=with_pixels(boxed.val, checked.val),
        test=None if boxed.test is None or checked.test is None else with_pixels(boxed.test, checked.test),
    )
    facts = {"fingerprint": boxed.fingerprint, "hold_out": True, "skip_damaged": skip_damaged}
    return boxed, facts | {"skipped": skipped, "colours": colours}


def with_pixels(boxed: BoxedImages, images: ImageSet) -> BoxedImages:
    """Puts in images that are held in memory; those that were left out leave their boxes behind."""
    if len(images) != len(boxed):
        kept = set(images.names)
        boxed = boxed.subset([index for index, name in enumerate(boxed.images.names) if name in kept])
    return replace(boxed, images=images)


def create_run(
    folder: Path,
    net: VeryDeep,
    boxed: BoxedSet,
    recipe: Recipe,
    options: LocaliseOptions,
    facts: dict[str, Any],
    reporter: Callback,
) -> tuple[Run, BoxedSet]:
    """Makes the run folder of a training that begins."""
    boxed, images = prepare(net, boxed, recipe, options.damaged == "skip", reporter)
    training = options.of_training
    if facts["on_maps"] and training.precision is None:
        training = replace(training, precision="fp32")
    compute = settle_compute(None, net, recipe, training, reporter)
    settings = run_settings(net, recipe, training, compute, facts) | {"options": options.as_record(), "verb": VERB}
    card = make_run_card(net, boxed.as_data_set(), recipe, patience=options.patience)
    return Run.create(folder, settings | images, net, card), boxed
