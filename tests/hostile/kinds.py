"""The readers that are given hostile files, each with its seeds: small files of its formats that it reads."""

import functools
import io
import json
import lzma
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from tests.hostile.harness import Files, Kind
from verydeep.data.boxes.check import check
from verydeep.data.boxes.open import make_boxed_set, read_boxes
from verydeep.data.boxes.upright import look_at_images
from verydeep.data.doctor.scan import scan_file
from verydeep.data.open import open_data
from verydeep.images.decode import read_image
from verydeep.nets.model_card import card_facts
from verydeep.nets.model_file import load_file
from verydeep.nets.stored_net import ModelFile, check_model
from verydeep.runs import resume as resuming
from verydeep.runs.listing import compare_runs, summarise
from verydeep.testing.result import load_posteriors
from verydeep.training.recipe import find_recipe
from verydeep.training.run_folder import Run
from verydeep.weights.imported import assemble
from verydeep.weights.readers import read_weights

_GOLDEN = Path(__file__).parents[1] / "golden"
_OLD = _GOLDEN / "made_by_0_1_0"
_SIDE = 24
_TIFFS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")


def _picture() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((_SIDE + 4, _SIDE), Image.Resampling.BILINEAR)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401 - of Pillow
    encoded = io.BytesIO()
    image.save(encoded, kind, **options)
    return encoded.getvalue()


@functools.cache
def _images() -> list[Files]:
    exif = Image.Exif()
    exif[0x0112] = 6
    colours = _picture()
    deep = Image.fromarray(np.asarray(colours.convert("L")).astype(np.uint16) * 257)
    files = [
        _saved(colours, "JPEG"),
        _saved(colours, "JPEG", progressive=True, exif=exif),
        _saved(colours, "JPEG", restart_marker_rows=1, subsampling=0),
        _saved(colours.convert("L"), "JPEG"),
        _saved(colours.convert("CMYK"), "JPEG"),
        _saved(colours, "MPO", save_all=True, append_images=[colours]),
        _saved(colours, "PNG"),
        _saved(colours.convert("P"), "PNG", transparency=3),
        _saved(colours.convert("RGBA"), "PNG", exif=exif),
        _saved(deep, "PNG", transparency=500),
        _saved(colours.convert("1"), "PNG"),
        _saved(colours, "PNG", save_all=True, append_images=[colours.rotate(90)]),
        _saved(colours, "BMP"),
        _saved(colours.convert("P"), "BMP"),
        _saved(colours, "GIF", save_all=True, append_images=[colours.rotate(90)]),
        *(_saved(colours, "TIFF", compression=how) for how in _TIFFS),
        _saved(colours.convert("1"), "TIFF", compression="group4"),
        _saved(deep, "TIFF"),
        _saved(colours, "WEBP"),
        _saved(colours.convert("RGBA"), "WEBP", lossless=True, exif=exif),
        _saved(colours, "WEBP", save_all=True, append_images=[colours.rotate(90)]),
        _saved(colours, "AVIF"),
        _saved(colours, "JPEG2000"),
        _saved(colours.convert("RGBA"), "JPEG2000", irreversible=True),
        _saved(colours, "PPM"),
        _saved(deep, "PPM"),
    ]  # fmt: skip
    return [{"image.dat": content} for content in files]


def _read_image(folder: Path) -> None:
    """What predict, a data set with boxes and the doctor do; only the first of them raises."""
    file = folder / "image.dat"
    scan_file(file)
    look_at_images([file])
    read_image(file)


def _tree(folder: Path, *parts: str) -> Files:
    """The files below a folder, or those of some parts of it."""
    found = (file for part in parts or (".",) for file in (folder / part).rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


@functools.cache
def _model_files() -> list[Files]:
    names = ("finished/model", "half", "start", "timm-names", "interrupted/checkpoint")
    return [{"model.safetensors": (_OLD / f"{name}.safetensors").read_bytes()} for name in names]


def _read_model(folder: Path) -> None:
    """What inspect --check and predict do before the first image."""
    file = folder / "model.safetensors"
    card_facts(ModelFile(file).card)
    check_model(file)
    load_file(file, features_only=True)


@functools.cache
def _weights() -> list[Files]:
    return [
        {packed.stem: lzma.decompress(packed.read_bytes())} for packed in sorted((_GOLDEN / "formats").glob("*.xz"))
    ]


def _read_weights(folder: Path) -> None:
    (file,) = folder.iterdir()
    assemble(read_weights(file))


@functools.cache
def _posteriors() -> list[Files]:
    return [{"p.safetensors": (_OLD / "posteriors.safetensors").read_bytes()}]


@functools.cache
def _shards() -> list[Files]:
    indexed = _tree(_OLD / "shards")
    return [indexed, {name: content for name, content in indexed.items() if name != "index.json"}]


def _read_shards(folder: Path) -> None:
    tars = sorted(folder.glob("train-*.tar"))
    data = open_data(folder if (folder / "index.json").exists() else folder / "train-{000000..000002}.tar")
    assert tars
    for images in data.splits.values():
        for index in range(min(2, len(images))):
            images.pixels(index)


@functools.cache
def _recipes() -> list[Files]:
    recipe = json.loads((_OLD / "finished/run.json").read_text())["recipe"]
    return [{"recipe.json": json.dumps(recipe, indent=1).encode()}]


def _read_recipe(folder: Path) -> None:
    find_recipe(str(folder / "recipe.json")).scales(32)


@functools.cache
def _runs() -> list[Files]:
    return [_tree(_OLD, "finished", "photos") | _tree(_OLD, "interrupted")]


def _read_run(folder: Path) -> None:
    """What runs and train --resume do, up to the first update."""
    run = folder / ("interrupted" if (folder / "interrupted").exists() else "finished")
    summarise(run)
    compare_runs(run, run)
    with mock.patch.object(resuming, "run_to_end"):
        resuming.resume(run, data=folder / "photos")
    Run.open(run).log_records()


@functools.cache
def _boxes() -> list[Files]:
    """A small set in each format, written by what tests the readers."""
    import box_files

    rows = box_files.rows(6)
    makers: list[Callable[..., Path]] = [
        box_files.voc, box_files.labelimg, box_files.coco, box_files.yolo, box_files.labelme, box_files.table,
        box_files.ilsvrc,
    ]  # fmt: skip
    found = []
    for make in makers:
        with tempfile.TemporaryDirectory() as made:
            opened = make(Path(made) / "set", rows)
            files = _tree(Path(made) / "set")
            found.append(files | {"OPENED": opened.relative_to(Path(made) / "set").as_posix().encode()})
    return found


def _read_boxes(folder: Path) -> None:
    path = folder / (folder / "OPENED").read_text()
    make_boxed_set(path, check(read_boxes(path)))


@functools.cache
def _tables() -> list[Files]:
    photos = _tree(_OLD, "photos")
    names = sorted(photos)
    plain = "file,label\n" + "".join(f"{name},{name.split('/')[1]}\n" for name in names)
    split = "file,label,split,group\n" + "".join(
        f"{name},{name.split('/')[1]},{'train' if number % 3 else 'val'},g{number}\n"
        for number, name in enumerate(names)
    )
    return [photos | {"t.csv": text.encode()} for text in (plain, split)]


def _read_table(folder: Path) -> None:
    for images in open_data(folder / "t.csv").splits.values():
        images.pixels(0)


def _is_not_image(name: str) -> bool:
    return not name.endswith((".jpg", ".png", ".JPEG", "OPENED", "report.html"))


KINDS = {
    kind.name: kind
    for kind in (
        Kind("images", _images, _read_image),
        Kind("models", _model_files, _read_model),
        Kind("weights", _weights, _read_weights),
        Kind("posteriors", _posteriors, lambda folder: load_posteriors(folder / "p.safetensors")),
        Kind("shards", _shards, _read_shards),
        Kind("recipes", _recipes, _read_recipe),
        Kind("runs", _runs, _read_run, _is_not_image),
        Kind("boxes", _boxes, _read_boxes, _is_not_image),
        Kind("tables", _tables, _read_table, _is_not_image),
    )
}
"""By name. To add a reader is to add a row."""
