"""Makes the net that ships with the package: trains it, tests it by three protocols, stores it in bf16 with its card.

    python benchmarks/shipped_net.py .cache/cifar10/cifar10 --out runs/shipped

First a tenth of the training images is held out, for a third of the epochs, to see that the recipe is right; then the
training is done on all of them. What is trained already is not trained again, and what was interrupted goes on. The
test images are used once, at the end, on the file that is written; its error in fp32 stands beside it.

    python benchmarks/shipped_net.py .cache/cifar10/cifar10 --out runs/tiny --images 500 --epochs 1 --width 0.125 \
        --file runs/tiny/verydeep-cifar10.safetensors

shows in about two minutes that it works.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from verydeep.cli.output import reporting
from verydeep.data.dataset import DataSet, hold_out
from verydeep.data.image_set import ImageSet
from verydeep.data.open import open_data
from verydeep.nets.model_card import ModelCard
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.runs.finish import TrainedRun
from verydeep.runs.fit import fit
from verydeep.runs.resume import resume
from verydeep.testing.evaluate import evaluate
from verydeep.testing.result import Result
from verydeep.training.recipe import Recipe, find_recipe
from verydeep.weights.resolve import load, read_card
from verydeep.weights.shipped import SHIPPED_FOLDER

PROTOCOLS = ("centre", "single", "multi-scale")
TRAIN_SCALE = (32, 42)
MOST_BYTES = 10_000_000
LICENCE = (
    "Apache-2.0, as the package; trained on CIFAR-10, whose authors state no licence and ask to cite A. Krizhevsky, "
    "Learning Multiple Layers of Features from Tiny Images, 2009"
)


def some_of(data: DataSet, count: int) -> DataSet:
    """Takes about so many training images of each split, alike from each class, to try things."""
    share = min(1.0, count / len(data.train))

    def part(images: ImageSet) -> ImageSet:
        return hold_out(images, share, images.split)[1]

    return replace(data, train=part(data.train), val=part(data.val), test=part(data.test) if data.test else None)


def make_net(options: argparse.Namespace, data: DataSet, recipe: Recipe) -> VeryDeep:
    from torch import Generator

    return VeryDeep(
        options.architecture,
        batch_norm=True,
        num_classes=len(data.classes),
        crop=32,
        width=options.width,
        head=options.head,
        dropout=recipe.dropout,
        initialisation=recipe.initialisation,
        generator=Generator().manual_seed(options.seed),
    )


def trained(options: argparse.Namespace, data: DataSet, recipe: Recipe, *, keep_validation: bool) -> TrainedRun:
    """Trains, goes on with a training, or finds it done."""
    folder: Path = options.out / ("held-out" if keep_validation else "all")
    if keep_validation:
        recipe = replace(recipe, epochs=-(-recipe.epochs // 3))
    with reporting() as reporter:
        reporter.note(f"{folder}: " + ("a tenth held out" if keep_validation else "all training images"))
        if (folder / "run.json").exists():
            return resume(folder, data=data, data_source=options.data, reporter=reporter)
        return fit(
            make_net(options, data, recipe),
            data,
            recipe=recipe,
            out=folder,
            seed=options.seed,
            hold_out=keep_validation,
            reporter=reporter,
            data_source=options.data,
        )


def tested(net: VeryDeep, data: DataSet) -> list[Result]:
    with reporting() as reporter:
        return [evaluate(net, data, protocol=name, split="test", progress=reporter.progress) for name in PROTOCOLS]


def figures(result: Result) -> dict[str, Any]:
    record = result.as_record()
    kept = ("protocol", "split", "num_images", "top1_error", "top5_error", "test_scales", "interval95")
    return {key: record[key] for key in kept} | {"data": result.data}


def write(net: VeryDeep, file: Path, precision: str, card: ModelCard, results: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    described = card.model_copy(
        update={
            "results": tuple(results),
            "errors": None,  # those of a training on all images are of images that it learned from
            "licence": LICENCE,
            "source": "trained by benchmarks/shipped_net.py of verydeep",
        }
    )
    save(net, file, precision=precision, card=described)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, default=Path("runs/shipped"))
    parser.add_argument("--file", type=Path, default=SHIPPED_FOLDER / "verydeep-cifar10.safetensors")
    parser.add_argument("--architecture", default="B")
    parser.add_argument("--width", type=float, default=0.37)
    parser.add_argument("--head", default="paper", choices=("paper", "linear"))
    parser.add_argument("--recipe", default="small-images", help="a name or a JSON file")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--held-out-only", action="store_true", help="try the recipe, and train nothing on all images")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--images", type=int, help="train on about so many only, to try things")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    recipe = find_recipe(options.recipe, epochs=options.epochs, train_scale=TRAIN_SCALE)
    data = open_data(options.data)
    if options.images:
        data = some_of(data, options.images)
    parameters = sum(parameter.numel() for parameter in make_net(options, data, recipe).parameters())
    if 2 * parameters > MOST_BYTES:
        sys.exit(f"{parameters:,} parameters take {2 * parameters:,} bytes in bf16, above {MOST_BYTES:,}: less --width")

    validated = trained(options, data, recipe, keep_validation=True)
    if options.held_out_only:
        print(f"{validated.run}: {validated.top1_error}")
        return
    final = trained(options, data, recipe, keep_validation=False) if validated.finished else validated
    if not final.finished:
        sys.exit("interrupted: say the same again to go on")

    net, card = load(final.model), read_card(final.model)
    write(net, options.file, options.precision, card, [])
    stored = load(options.file)
    whole, rounded = tested(net, data), tested(stored, data)
    write(stored, options.file, options.precision, card, [figures(result) for result in rounded])
    size = options.file.stat().st_size
    assert size <= MOST_BYTES, f"{options.file} has {size:,} bytes"
    assert not (stored_again := load(options.file)).training
    assert all(
        bool((ours == theirs).all())
        for ours, theirs in zip(stored_again.state_dict().values(), stored.state_dict().values(), strict=True)
    )
    rows = [
        figures(after)
        | {
            "top1_error_fp32": before.top1_error,
            "changed": int((before.posteriors.argmax(1) != after.posteriors.argmax(1)).sum()),
        }
        for before, after in zip(whole, rounded, strict=True)
    ]
    summary = {
        "file": str(options.file),
        "bytes": size,
        "parameters": parameters,
        "net": net.geometry.title,
        "recipe": recipe.as_record(),
        "validation_top1_error_held_out": validated.top1_error,
        "test": rows,
    }
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
