"""The text of errors: exit status and the one line, over all verbs and the Python functions."""

import lzma
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .harness import FORMATS, command, make_net, message, save_net

_TINY = ("--recipe", "quick", "--width", "0.01", "--crop", "32")

_COMMANDS: dict[str, tuple[object, ...]] = {
    # train
    "train, no data": ("train",),
    "train, missing folder": ("train", "nowhere"),
    "train, a name with a slip": ("train", "cifar"),
    "train, set not fetched": ("train", "cifar10"),
    "train, empty class": ("train", "empty-class"),
    "train, one class": ("train", "one-class"),
    "train, class in val alone": ("train", "class-in-val"),
    "train, two names of val": ("train", "two-vals"),
    "train, val but no train": ("train", "no-train"),
    "train, text named jpg": ("train", "damaged-text", *_TINY),
    "train, file cut short": ("train", "damaged-cut", *_TINY),
    "train, file of no bytes": ("train", "damaged-empty", *_TINY),
    "train, out below a file": ("train", "photos", *_TINY, "--out", "a.safetensors/run"),
    "train, out is taken": ("train", "photos", *_TINY, "--out", "finished"),
    "train, out is not empty": ("train", "photos", *_TINY, "--out", "pictures"),
    "train, out inside the data": ("train", "photos", "--out", "photos/run"),
    "train, resume nothing": ("train", "--resume", "--out", "nowhere"),
    "train, resume without out": ("train", "--resume"),
    "train, resume with options": ("train", "--resume", "--out", "interrupted", "--epochs", 9),
    "train, resume of what is no run": ("train", "--resume", "--out", "pictures"),
    "train, resume with other data": ("train", "--resume", "--out", "run-of-other-data"),
    "train, resume with another recipe": ("train", "--resume", "--out", "run-of-another-recipe"),
    "train, resume with damaged settings": ("train", "--resume", "--out", "run-damaged"),
    "train, resume asked for otherwise": ("train", "photos", "--resume", "--out", "interrupted", "--architecture", "B"),
    "train, crop 33": ("train", "photos", "--crop", 33),
    "train, width 0": ("train", "photos", "--crop", 32, "--width", 0),
    "train, batch size 0": ("train", "photos", "--batch-size", 0),
    "train, epochs x": ("train", "photos", "--epochs", "x"),
    "train, unknown architecture": ("train", "photos", "--architecture", "F"),
    "train, unknown recipe": ("train", "photos", "--recipe", "slow"),
    "train, unknown field": ("train", "photos", "--set", "droput=0"),
    "train, wrong value of a field": ("train", "photos", "--set", "momentum=2"),
    "train, wrong word in a field": ("train", "photos", "--set", "schedule=step"),
    "train, set without a value": ("train", "photos", "--set", "dropout"),
    "train, recipe file missing": ("train", "photos", "--recipe", "none.json"),
    "train, recipe file no JSON": ("train", "photos", "--recipe", "text.json"),
    "train, recipe file of some fields": ("train", "photos", "--recipe", "part.json"),
    "train, unknown initialisation": ("train", "photos", "--initialise", "xavier"),
    "train, unknown device": ("train", "photos", "--device", "tpu"),
    "train, unknown precision": ("train", "photos", *_TINY, "--precision", "fp8"),
    "train, scale below the crop": ("train", "photos", *_TINY, "--train-scale", 16),
    "train, scales turned round": ("train", "photos", *_TINY, "--train-scale", "64,32"),
    "train, scale in words": ("train", "photos", *_TINY, "--train-scale", "big"),
    "train, negative workers": ("train", "photos", *_TINY, "--workers", "-1"),
    "train, no micro-batch": ("train", "photos", *_TINY, "--micro-batch", 0),
    "train, no time between checkpoints": ("train", "photos", *_TINY, "--checkpoint-minutes", 0),
    "train, no validation but the best kept": ("train", "photos", *_TINY, "--no-validation", "--keep", "best"),
    "train, from a pickle": ("train", "photos", *_TINY, "--init-from", "weights.pth"),
    "train, from another width": ("train", "photos", *_TINY, "--init-from", "wide.safetensors"),
    "train, a seed too large": ("train", "photos", "--seed", 2**64),
    "train, pipe": ("train", "pipe:touch harm"),
    "train, pattern without quotes": ("train", "x-000.tar", "x-001.tar"),
    "train, unknown option": ("train", "photos", "--epoch", 3),
    # evaluate
    "evaluate, no model at all": ("evaluate", "photos"),
    "evaluate, no model": ("evaluate", "nothing", "photos"),
    "evaluate, an architecture": ("evaluate", "vgg16", "photos"),
    "evaluate, a folder that is no run": ("evaluate", "pictures", "photos"),
    "evaluate, half a model": ("evaluate", "half-a-model.safetensors", "photos"),
    "evaluate, a model of another program": ("evaluate", "other.safetensors", "photos"),
    "evaluate, weights not fetched": ("evaluate", "imagenet-D", "photos"),
    "evaluate, other classes": ("evaluate", "a.safetensors", "other-classes"),
    "evaluate, models of other classes": ("evaluate", "a.safetensors", "ten.safetensors", "photos"),
    "evaluate, no test split": ("evaluate", "a.safetensors", "no-test", "--split", "test"),
    "evaluate, unknown split": ("evaluate", "a.safetensors", "photos", "--split", "dev"),
    "evaluate, unknown protocol": ("evaluate", "a.safetensors", "photos", "--protocol", "best"),
    "evaluate, scale below the crop": ("evaluate", "a.safetensors", "photos", "--test-scales", 20),
    "evaluate, scale given twice": ("evaluate", "a.safetensors", "photos", "--test-scales", "40,40"),
    "evaluate, scale in words": ("evaluate", "a.safetensors", "photos", "--test-scales", "40,x"),
    "evaluate, images without labels": ("evaluate", "a.safetensors", "pictures"),
    "evaluate, an image": ("evaluate", "a.safetensors", "pictures/wide.jpg"),
    "evaluate, an image too long": ("evaluate", "a.safetensors", "long", "--test-scales", 100, "--split", "train"),
    "evaluate, a damaged image": ("evaluate", "a.safetensors", "damaged-text", "--split", "train"),
    "evaluate, damaged what": ("evaluate", "a.safetensors", "photos", "--damaged", "ignore"),
    "evaluate, save into no folder": ("evaluate", "a.safetensors", "photos", "--save", "none/a.safetensors"),
    "evaluate, save over a model": ("evaluate", "a.safetensors", "photos", "--save", "c.safetensors"),
    "evaluate, report over a model": ("evaluate", "a.safetensors", "photos", "--report", "c.safetensors"),
    "evaluate, compare one": ("evaluate", "a.safetensors", "photos", "--compare"),
    "evaluate, a model twice": ("evaluate", "a.safetensors", "a.safetensors", "photos", "--compare"),
    "evaluate, missing shards": ("evaluate", "a.safetensors", "x-{000..009}.tar"),
    "evaluate, damaged posteriors": ("evaluate", "half-posteriors.safetensors"),
    "evaluate, posteriors of other images": ("evaluate", "posteriors.safetensors", "train-posteriors.safetensors"),
    # predict
    "predict, no image": ("predict", "a.safetensors", "none.jpg"),
    "predict, no match": ("predict", "a.safetensors", "*.gif"),
    "predict, empty folder": ("predict", "a.safetensors", "hollow"),
    "predict, a damaged image": ("predict", "a.safetensors", "damaged-text/dark/text.jpg"),
    "predict, csv nowhere": ("predict", "a.safetensors", "pictures", "--csv", "none/a.csv"),
    "predict, csv over an image": ("predict", "a.safetensors", "pictures", "--csv", "pictures/wide.jpg"),
    "predict, heat maps among the images": ("predict", "a.safetensors", "pictures", "--heatmap", "pictures/maps"),
    "predict, top 0": ("predict", "a.safetensors", "pictures", "--top", 0),
    "predict, unknown precision": ("predict", "a.safetensors", "pictures", "--precision", "int8"),
    "predict, convolutions alone": ("predict", "features.safetensors", "pictures"),
    # tables
    "tables, no data": ("tables",),
    "tables, from nothing": ("tables", "--from", "nowhere"),
    "tables, from and data": ("tables", "photos", "--from", "nowhere"),
    "tables, a name between commas": ("tables", "photos", "--architectures", "A,,B"),
    "tables, unknown architecture": ("tables", "photos", "--crop", 32, "--architectures", "A,F"),
    "tables, three scales": ("tables", "photos", "--train-scale", "37,40,50"),
    "tables, no model": ("tables", "photos", "--models", "nothing"),
    "tables, models and a width": ("tables", "photos", "--models", "a.safetensors", "--width", 0.5),
    "tables, no seed": ("tables", "photos", "--crop", 32, "--seeds", 0),
    "tables, out inside the data": ("tables", "photos", "--out", "photos"),
    # inspect, doctor, shards, fetch
    "inspect, nothing": ("inspect", "resnet"),
    "inspect, a model with a crop": ("inspect", "a.safetensors", "--crop", 64),
    "inspect, no classes": ("inspect", "A", "--classes", 0),
    "inspect, check an architecture": ("inspect", "A", "--check"),
    "inspect, a model that is not finite": ("inspect", "not-finite.safetensors", "--check"),
    "doctor, nowhere": ("doctor", "nowhere"),
    "doctor, empty folder": ("doctor", "hollow"),
    "shards, into a taken folder": ("shards", "photos", "pictures"),
    "shards, of no size": ("shards", "photos", "new", "--size", "big"),
    "shards, of a damaged image": ("shards", "damaged-empty", "new"),
    "shards, among the images": ("shards", "photos", "photos/new"),
    "fetch, unknown set": ("fetch", "mnist"),
    "fetch, a set that nobody may pass on": ("fetch", "imagenet"),
    "fetch, without a network": ("fetch", "cifar10"),
    # weights
    "weights fetch, unknown": ("weights", "fetch", "imagenet-F"),
    "weights fetch, offline": ("weights", "fetch", "imagenet-D"),
    "weights import, missing": ("weights", "import", "none.pth", "--out", "m.safetensors"),
    "weights import, no weights": ("weights", "import", "pictures/wide.jpg", "--out", "m.safetensors"),
    "weights import, text": ("weights", "import", "text.json", "--out", "m.safetensors"),
    "weights import, cut short": ("weights", "import", "cut.pth", "--out", "m.safetensors"),
    "weights import, a pickle that runs code": ("weights", "import", "weights.pth", "--out", "m.safetensors"),
    "weights import, a net that is no VGG": ("weights", "import", "no-vgg.pth", "--out", "m.safetensors"),
    "weights import, a wrong shape": ("weights", "import", "shape.pth", "--out", "m.safetensors"),
    "weights import, not a number": ("weights", "import", "nan.pth", "--out", "m.safetensors"),
    "weights import, a cut Keras file": ("weights", "import", "cut.keras", "--out", "m.safetensors"),
    "weights import, a cut HDF5 file": ("weights", "import", "cut.h5", "--out", "m.safetensors"),
    "weights import, a cut caffemodel": ("weights", "import", "cut.caffemodel", "--out", "m.safetensors"),
    "weights import, a cut mat file": ("weights", "import", "cut.mat", "--out", "m.safetensors"),
    "weights import, a cut onnx file": ("weights", "import", "cut.onnx", "--out", "m.safetensors"),
    "weights import, our own file": ("weights", "import", "a.safetensors", "--out", "m.safetensors"),
    "weights import, out of another ending": ("weights", "import", "good.pth", "--out", "m.pth"),
    "weights import, another crop": ("weights", "import", "keras.h5", "--out", "m.safetensors", "--crop", 64),
    "weights import, classes too few": (
        "weights", "import", "good.pth", "--out", "m.safetensors", "--classes", "two.txt",
    ),
    "weights import, mean in words": ("weights", "import", "good.pth", "--out", "m.safetensors", "--mean", "a,b,c"),
    "weights import, unknown precision": (
        "weights", "import", "good.pth", "--out", "m.safetensors", "--precision", "int8",
    ),
    "weights export, unknown program": ("weights", "export", "a.safetensors", "--to", "mxnet", "--out", "x.pth"),
    "weights export, another width": ("weights", "export", "a.safetensors", "--to", "torchvision", "--out", "x.pth"),
    "weights export, an architecture it has not": (
        "weights", "export", "c.safetensors", "--to", "timm", "--out", "x.safetensors",
    ),
    # the program
    "unknown verb": ("tarin", "photos"),
    "unknown option": ("--verbose",),
}  # fmt: skip


def record() -> dict[str, Any]:
    """Answers of this subject."""
    _make_models()
    _make_data()
    _make_runs()
    _make_weights()
    found = {}
    for title, arguments in _COMMANDS.items():
        answer = command(*arguments)
        found[title] = {"status": answer.status, "error": answer.complaint()}
        if answer.out:
            found[title]["output"] = answer.out.splitlines()[0]
    return found | {f"Python: {title}": message(call) for title, call in _calls()}


def _calls() -> Iterator[tuple[str, Callable[[], object]]]:
    import numpy as np
    import torch

    import verydeep

    net, images = make_net("A-bn"), torch.full((1, 3, 40, 40), 100.0)
    yield "VeryDeep, unknown architecture", lambda: verydeep.VeryDeep("Z")
    yield "VeryDeep, unknown initialisation", lambda: verydeep.VeryDeep("A", crop=32, width=0.01, initialisation="he")
    yield "VeryDeep, crop", lambda: verydeep.VeryDeep("A", crop=100)
    yield "VeryDeep, width", lambda: verydeep.VeryDeep("A", width=-1)
    yield "net, an array", lambda: net(np.zeros((1, 3, 40, 40)))
    yield "net, one image without its batch", lambda: net(images[0])
    yield "net, one channel", lambda: net(images[:, :1])
    yield "net, images below the crop", lambda: net(images[..., :20])
    yield "Classifier, an image in 0..1", lambda: verydeep.Classifier(net).predict(images[0] / 255)
    yield "Classifier, a normalised image", lambda: verydeep.Classifier(net).predict((images[0] - 200) / 60)
    yield "score_map, images below the crop", lambda: net.score_map(images[..., :20])
    yield "head, a wrong map", lambda: net.head(torch.zeros(1, 3, 2, 2))
    yield "activations, no such layer", lambda: net.activations(images, ["relu9_1"])
    yield "as_torchvision, another width", lambda: net.as_torchvision()
    yield "as_torchvision, C", lambda: make_net("C").as_torchvision()
    yield "convolutions alone, scores", lambda: verydeep.load("features.safetensors")(images)
    yield "load, missing", lambda: verydeep.load("none.safetensors")
    yield "load, unknown precision", lambda: verydeep.load("a.safetensors", precision="int4")
    yield "save, into no folder", lambda: verydeep.save(net, "none/a.safetensors")
    yield "save, unknown precision", lambda: verydeep.save(net, "x.safetensors", precision="int4")
    yield "open_data, missing", lambda: verydeep.open_data("nowhere")
    yield "open_data, no split", lambda: verydeep.open_data("no-test").split("test")
    yield "evaluate, unknown protocol", lambda: verydeep.evaluate(net, "photos", protocol="all")
    yield "evaluate, scale", lambda: verydeep.evaluate(net, "photos", test_scales=[16])
    yield "evaluate, other data", lambda: verydeep.evaluate(net, "other-classes")
    yield "evaluate, no data", lambda: verydeep.evaluate(net)
    yield "posterior, unknown protocol", lambda: verydeep.posterior(net, "pictures/wide.jpg", protocol="all")
    yield "posterior, no scales", lambda: verydeep.posterior(net, "pictures/wide.jpg", test_scales=[])
    yield "posterior, missing image", lambda: verydeep.posterior(net, "none.jpg")
    yield "posterior, damaged image", lambda: verydeep.posterior(net, "damaged-text/dark/text.jpg")
    yield "accelerate, unknown precision", lambda: verydeep.accelerate(net, precision="int4")
    yield "fit, unknown recipe", lambda: verydeep.fit(net, "photos", recipe="fast", out="new")
    yield "fit, other classes", lambda: verydeep.fit(net, "other-classes", recipe="quick", out="new")
    yield "resume, nothing", lambda: verydeep.resume("nowhere")
    yield "Classifier, missing", lambda: verydeep.Classifier("nothing")
    yield (
        "Classifier, damaged image",
        lambda: verydeep.Classifier("a.safetensors").predict("damaged-text/dark/text.jpg"),
    )
    yield "fetch_weights, unknown", lambda: verydeep.fetch_weights("imagenet-Z")


def _make_models() -> None:
    import torch
    from safetensors.torch import save_file

    import verydeep

    save_net("A-bn", "a.safetensors")
    save_net("C", "c.safetensors")
    save_net("A-bn-narrow", "ten.safetensors", classes=tuple(map(str, range(10))))
    save_net("A-wide", "wide.safetensors")
    bad = make_net("A-bn-narrow")
    with torch.no_grad():
        bad.fc7.bias[:2] = torch.nan
    verydeep.save(bad, "not-finite.safetensors")
    verydeep.save(verydeep.VeryDeep("A", crop=32, width=0.01, features_only=True), "features.safetensors")
    save_file({"a": torch.zeros(3)}, "other.safetensors")
    _cut("a.safetensors", "half-a-model.safetensors")
    _cut("posteriors.safetensors", "half-posteriors.safetensors")
    command("evaluate", "finished", "photos", "--split", "train", "--save", "train-posteriors.safetensors")


def _cut(file: str, into: str) -> None:
    content = Path(file).read_bytes()
    Path(into).write_bytes(content[: len(content) // 2])


def _make_data() -> None:
    from PIL import Image

    for name, classes in {
        "one-class": {"dark": "dark"},
        "two-classes": {"dark": "dark", "grey": "grey"},
        "other-classes": {"dark": "dark", "grey": "grey", "pink": "bright"},
        "class-in-val/train": {"dark": "dark", "grey": "grey"},
        "class-in-val/val": {"dark": "dark", "bright": "bright"},
        "two-vals/train": {"dark": "dark", "grey": "grey"},
        "two-vals/val": {"dark": "dark", "grey": "grey"},
        "two-vals/valid": {"dark": "dark", "grey": "grey"},
        "no-train/val": {"dark": "dark", "grey": "grey"},
        "no-test/train": {"bright": "bright", "dark": "dark", "grey": "grey"},
        "damaged-text": {"bright": "bright", "dark": "dark", "grey": "grey"},
        "damaged-cut": {"bright": "bright", "dark": "dark", "grey": "grey"},
        "damaged-empty": {"bright": "bright", "dark": "dark", "grey": "grey"},
        "empty-class": {"bright": "bright", "dark": "dark"},
        "long": {"bright": "bright", "dark": "dark", "grey": "grey"},
    }.items():
        for label, source in classes.items():
            shutil.copytree(f"photos/{source}", f"{name}/{label}")
    Path("empty-class/none").mkdir()
    Path("damaged-text/dark/text.jpg").write_text("no image")
    _cut("pictures/wide.jpg", "damaged-cut/dark/cut.jpg")
    Path("damaged-empty/dark/none.png").touch()
    Path("hollow").mkdir()
    Image.new("RGB", (1, 10_000)).save("long/dark/long.png")
    Path("two.txt").write_text("one\ntwo\n")
    Path("text.json").write_text("no: json")
    Path("part.json").write_text('{"name": "mine", "epochs": 3}')


def _make_runs() -> None:
    for name in ("run-of-other-data", "run-of-another-recipe", "run-damaged"):
        shutil.copytree("interrupted", name)
    _replace("run-of-other-data/run.json", '"data": "photos"', '"data": "two-classes"')
    _replace("run-of-another-recipe/run.json", '"momentum": 0.9', '"momentum": 0.8')
    _cut("run-damaged/run.json", "run-damaged/run.json")


def _replace(file: str, old: str, new: str) -> None:
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new))


class _Payload:
    def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
        return os._exit, (99,)


def _make_weights() -> None:
    import torch

    def unpack(name: str, into: str) -> None:
        Path(into).write_bytes(lzma.decompress((FORMATS / f"{name}.xz").read_bytes()))

    unpack("torchvision-D.pth", "good.pth")
    unpack("keras-D.h5", "keras.h5")
    for name, ending in {
        "torchvision-D.pth": "pth", "keras-D.keras": "keras", "keras-D-legacy.h5": "h5",
        "caffe-D-v1.caffemodel": "caffemodel", "matconvnet-D-new.mat": "mat", "onnx-D-export.onnx": "onnx",
    }.items():  # fmt: skip
        unpack(name, f"whole.{ending}")
        _cut(f"whole.{ending}", f"cut.{ending}")
    state = torch.load("good.pth", weights_only=True)
    torch.save(state | {"features.0.weight": _Payload()}, "weights.pth")
    torch.save(state | {"features.0.weight": torch.zeros(8, 3, 7, 7)}, "no-vgg.pth")
    torch.save(state | {"features.5.bias": torch.zeros(9)}, "shape.pth")
    torch.save(state | {"features.5.bias": torch.full((8,), torch.nan)}, "nan.pth")
