"""The command line as a user meets it: what it prints, its exit status, and one line for every mistake."""

import csv
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from conftest import picture, scene
from published import PUBLISHED, closed_address, serving, tiny
from verydeep.data.named import NAMED
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.weights.resolve import load

NAMES = ("bright", "dark", "grey")
QUICK = ["--recipe", "quick", "--crop", "32", "--width", "0.125", "--batch-norm"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch, process_as_it_is, in_fp32):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VERYDEEP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def photos(make_folder):
    return make_folder("photos", {"dark": 24, "grey": 24, "bright": 24})


@pytest.fixture
def model(tmp_path):
    net = VeryDeep("A", num_classes=3, crop=32, width=0.125, batch_norm=True).eval()
    net.classes = NAMES
    save(net, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_train_evaluate_predict_inspect(verydeep, photos, tmp_path):
    status, out, err = verydeep(
        "train", photos, *QUICK, "--epochs", 6, "--batch-size", 8, "--set", "colour_shift=true", "--out", "runs/one"
    )
    assert status == 0
    assert "verydeep evaluate runs/one" in out
    assert "verydeep predict runs/one" in out
    assert "epoch 6/6" in err
    assert json.loads(Path("runs/one/run.json").read_text())["recipe"]["colour_shift"] is True

    status, out, err = verydeep("evaluate", "runs/one", photos, "--json")
    assert status == 0
    record = json.loads(out)
    assert {
        "top1_error", "top5_error", "num_images", "protocol", "test_scales", "architecture", "split", "selected_on",
        "interval95", "seconds",
    } <= record.keys()  # fmt: skip
    assert (record["split"], record["num_images"], record["protocol"], record["top5_error"]) == (
        "test",
        15,
        "single",
        None,
    )
    assert record["top1_error"] < 0.4
    status, out, _ = verydeep("evaluate", "runs/one", photos, "--protocol", "centre", "--split", "val")
    assert status == 0
    assert "centre" in out

    status, out, _ = verydeep("predict", "runs/one", photos / "dark", "--top", 2, "--csv", "answers.csv", "--json")
    assert status == 0
    images = json.loads(out)["images"]
    assert len(images) == 24
    assert {"name", "index", "posterior"} == images[0]["classes"][0].keys()
    with Path("answers.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 48
    assert rows[0] == {
        "file": str(photos / "dark/0.png"), "rank": "1", "class": images[0]["classes"][0]["name"],
        "index": str(images[0]["classes"][0]["index"]), "posterior": rows[0]["posterior"],
    }  # fmt: skip

    status, out, _ = verydeep("inspect", "runs/one", "--json")
    assert status == 0
    assert json.loads(out)["card"]["classes"] == list(NAMES)
    status, out, _ = verydeep("inspect", "runs/one")
    assert status == 0
    assert "photos" in out

    page = Path("runs/one/report.html").read_text()
    assert "<svg" in page
    assert "://" not in page
    assert "verydeep train" in page


def test_shards_are_written_trained_on_and_tested_on(verydeep, photos):
    status, out, _ = verydeep("shards", photos, "out", "--size", "100K")
    assert status == 0
    assert re.search(r"out: 51 train images in \d shards, 6 val images in 1 shard, 15 test .*out/index\.json", out)
    assert "verydeep train out" in out
    assert verydeep("train", "out", *QUICK, "--epochs", 1, "--out", "runs/one")[0] == 0
    status, out, _ = verydeep("train", "out/train-00000{0..1}.tar", *QUICK, "--epochs", 1, "--out", "runs/two")
    assert status == 0
    assert "verydeep evaluate runs/two 'out/train-00000{0..1}.tar'" in out  # as a shell takes it
    results = []
    for data in ("out", "out/index.json", photos):
        status, out, _ = verydeep("evaluate", "runs/one", data, "--json")
        assert status == 0
        results.append({key: value for key, value in json.loads(out).items() if "seconds" not in key})
    assert results[0] == results[1] == results[2]
    (photos / "dark/none.png").touch()
    status, out, err = verydeep("shards", photos, "again", "--damaged", "skip", "--json")
    record = json.loads(out)
    assert status == 0
    assert record["num_images"] == 72
    assert record["skipped"] == ["dark/none.png"]
    assert "left out 1 damaged image: dark/none.png" in err


def test_train_json_is_the_only_output(verydeep, photos):
    status, out, _ = verydeep("train", photos, *QUICK, "--epochs", 1, "--out", "runs/one", "--json")
    assert status == 0
    record = json.loads(out)
    assert {"run", "model", "epochs", "split", "top1_error", "top5_error", "images_per_second"} <= record.keys()
    assert (record["run"], record["epochs"], record["split"]) == ("runs/one", 1, "val")


def test_runs_are_named_when_nobody_names_them(verydeep, photos):
    for name in ("photos-A-bn", "photos-A-bn-2"):
        status, out, _ = verydeep("train", photos, *QUICK, "--epochs", 1)
        assert status == 0
        assert f"runs/{name}/model.safetensors" in out


def test_fine_tuning_is_suggested_and_done(verydeep, photos, make_folder, monkeypatch):
    status, out, err = verydeep("train", photos, *QUICK, "--epochs", 1, "--out", "runs/one")
    assert status == 0
    assert re.search(r"validation error [\d.]+% of only 6 images by centre", err)
    assert re.search(r"on 6 validation images by single, so few that the error may be \d+ to \d+%", out)
    others = make_folder("others", {"black": 20, "white": 20})
    status, _, err = verydeep("train", others, *QUICK, "--epochs", 1, "--out", "runs/few")
    assert status == 0
    assert "hint" not in err  # six images recommend no net
    monkeypatch.setattr("verydeep.runs.start.has_learnt", lambda card: True)
    status, _, err = verydeep("train", others, *QUICK, "--epochs", 1, "--out", "runs/two")
    assert status == 0
    assert "--init-from runs/one --recipe fine-tune" in err
    status, _, err = verydeep(
        "train", others, "--batch-norm", "--width", 0.125, "--recipe", "fine-tune", "--epochs", 1, "--init-from",
        "runs/one", "--out", "runs/three",
    )  # fmt: skip
    assert status == 0
    assert "new fc8" in err
    net, source = load("runs/three"), load("runs/one")
    assert net.geometry.num_classes == 2
    assert net.geometry.crop == 32
    assert torch.equal(net.mean, source.mean)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("A", 132_863_336), ("A-LRN", 132_863_336), ("B", 133_047_848), ("C", 133_638_952), ("D", 138_357_544),
        ("E", 143_667_240), ("B-5x5", 134_503_528), ("vgg16", 138_357_544),
    ],
)  # fmt: skip
def test_inspect_counts(name, parameters, verydeep):
    status, out, _ = verydeep("inspect", name, "--json")
    record = json.loads(out)
    assert status == 0
    assert record["parameters"] == parameters
    assert {"parameters", "weight_layers", "macs", "layers"} <= record.keys()


def test_inspect_says_what_stacking_buys(verydeep):
    _, out, _ = verydeep("inspect", "D")
    assert "D (VGG-16)" in out
    assert "138,357,544" in out
    assert "27C² weights for C channels, where one 7x7 takes 49C² (81% more)" in out


def test_predict_in_a_lower_precision(verydeep, model, tmp_path, monkeypatch):
    monkeypatch.setenv("VERYDEEP_CACHE", str(tmp_path))
    file = tmp_path / "photo.png"
    picture(0, 60, 48).save(file)

    def posteriors(*options: str) -> dict[str, float]:
        status, out, _ = verydeep("predict", model, file, "--json", *options)
        assert status == 0
        return {one["name"]: one["posterior"] for one in json.loads(out)["images"][0]["classes"]}

    exact = posteriors()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a processor without bf16 products is told so
        rounded, chosen = posteriors("--precision", "bf16"), posteriors("--precision", "auto")
    assert exact == pytest.approx(rounded, abs=0.02)
    assert exact != rounded
    assert exact == pytest.approx(chosen, abs=0.02)
    status, _, err = verydeep("predict", model, file, "--precision", "int8")
    assert (status, err) == (2, "verydeep: precision int8: choose one of fp32, bf16, auto\n")


def test_predict_names_a_strip_and_goes_on(verydeep, model, tmp_path):
    picture(0, 1, 20_000).save(tmp_path / "long.png")
    picture(0, 40, 40).save(tmp_path / "square.png")
    status, out, err = verydeep("predict", model, "long.png", "square.png", "--damaged", "skip", "--json")
    assert (status, [one["file"] for one in json.loads(out)["images"]]) == (0, ["square.png"])
    assert err.startswith("verydeep: long.png: an image of 1x20000 pixels is a strip: one side is more than 200 times")


def test_predict_shows_a_table_and_goes_on_after_a_damaged_file(verydeep, model, tmp_path):
    (tmp_path / "in").mkdir()
    picture(0, 90, 40).save(tmp_path / "in/a [wide] one.png")
    (tmp_path / "in/b.jpg").write_text("not an image")
    picture(1, 3, 2).save(tmp_path / "in/c.png")
    status, out, err = verydeep("predict", model, "in", "--top", 1)
    assert status == 1
    assert "a [wide] one.png" in out
    assert "c.png" in out
    assert err.count("\n") == 1
    assert "in/b.jpg cannot be read" in err
    assert verydeep("predict", model, "in/*.png", "in/c.png")[0] == 0


def test_a_verb_alone_shows_the_help(verydeep):
    for arguments in ((), ("weights",)):
        status, out, err = verydeep(*arguments)
        assert (status, out) == (2, "")
        assert err.startswith("Usage: verydeep")
        assert err.count("\n") > 8


def test_any_file_name_stands_in_the_csv(verydeep, model, tmp_path):
    picture(0, 40, 40).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.png"))
    assert verydeep("predict", model, tmp_path, "--top", 1, "--csv", "answers.csv")[0] == 0
    assert r"b\udcff.png" in Path("answers.csv").read_text()


def test_doctor_finds_nothing_in_sound_data(verydeep, tmp_path):
    for number in range(8):
        (tmp_path / f"pets/{number % 2}").mkdir(parents=True, exist_ok=True)
        scene(number).save(tmp_path / f"pets/{number % 2}/{number}.png")
    status, out, err = verydeep("doctor", "pets")
    assert (status, err) == (0, "")
    assert "2 classes" in out
    assert "Nothing was found." in out


def test_doctor_shows_a_table_and_fails_where_something_is_fatal(verydeep, photos):
    (photos / "dark/[bold]cut.jpg").write_text("no image")
    picture(0, 40, 40).convert("L").save(photos / "grey/g.png")
    status, out, _ = verydeep("doctor", photos)
    assert status == 1
    assert "dark/[bold]cut.jpg" in out
    assert out.index("fatal") < out.index("note")
    assert "Remedy: mend or remove them, or train with --damaged skip." in out
    assert "Mend what is fatal" in out

    status, out, _ = verydeep("doctor", photos, "--json")
    record = json.loads(out)
    assert status == 1
    assert {"data", "num_images", "splits", "classes", "findings"} == record.keys()
    for finding in record["findings"]:
        assert {"kind", "severity", "message", "remedy", "num_files", "files"} <= finding.keys()
    assert record["findings"][0]["kind"] == "damaged"
    assert record["findings"][0]["files"] == ["dark/[bold]cut.jpg"]
    (photos / "dark/[bold]cut.jpg").unlink()
    status, out, _ = verydeep("doctor", photos, "--json")
    assert status == 0
    assert [found["kind"] for found in json.loads(out)["findings"]] == ["grey"]


def wrong(kind, root, make_folder, model):
    """The arguments of a call that cannot work, and what its one line must say."""
    good = root / "photos"
    match kind:
        case "missing folder":
            return 1, ["train", "nowhere"], "no data 'nowhere'"
        case "no data":
            return 2, ["train"], "which data"
        case "set not fetched":
            return 1, ["train", "cifar10"], "cifar10 is not in .*: verydeep fetch cifar10 downloads it"
        case "set that nobody may pass on":
            return 1, ["fetch", "imagenet"], "put ILSVRC2012_img_train.tar"
        case "set without a name here":
            return 2, ["fetch", "mnist"], "unknown data set 'mnist': choose one of cifar10"
        case "empty class":
            (good / "empty").mkdir()
            return 1, ["train", good], "class 'empty' has no images"
        case "one class":
            return 1, ["train", make_folder("lone", {"a": 9})], "at least two"
        case "class in val alone":
            make_folder("split/train", {"a": 5, "b": 5})
            make_folder("split/val", {"a": 2, "c": 2})
            return 1, ["train", root / "split"], "class 'c'"
        case "text named jpg":
            (good / "dark/text.jpg").write_text("no image")
            return 1, ["train", good, *QUICK], "text.jpg cannot be read"
        case "truncated jpg":
            picture(0, 300, 300).save(good / "dark/cut.jpg", quality=95)
            (good / "dark/cut.jpg").write_bytes((good / "dark/cut.jpg").read_bytes()[:1000])
            return 1, ["train", good, *QUICK], "cut.jpg cannot be read as an image: .*truncated"
        case "zero bytes":
            (good / "dark/none.png").touch()
            return 1, ["train", good, *QUICK], "none.png cannot be read as an image: it is empty"
        case "out below a file":
            return 1, ["train", good, *QUICK, "--out", model / "run"], "cannot be written"
        case "out in proc":
            return 1, ["train", good, *QUICK, "--out", "/proc/run"], "/proc/run cannot be written"
        case "out is taken":
            (root / "taken").mkdir()
            (root / "taken/run.json").write_text("{}")
            return 2, ["train", good, *QUICK, "--out", "taken"], "holds a run already"
        case "resume nothing":
            return 1, ["train", "--resume", "--out", "nowhere"], "not a run folder"
        case "resume without out":
            return 2, ["train", "--resume"], "--out"
        case "resume with options":
            return 2, ["train", "--resume", "--out", "nowhere", "--epochs", 9], "--epochs cannot change"
        case "crop 33":
            return 2, ["train", good, "--crop", 33], "crop 33 is not a multiple of 32"
        case "batch size 0":
            return 2, ["train", good, "--batch-size", 0], "batch_size 0 should be greater than or equal to 1"
        case "epochs x":
            return 2, ["train", good, "--epochs", "x"], "--epochs.*verydeep train --help"
        case "unknown architecture":
            return 2, ["train", good, "--architecture", "F"], "unknown architecture 'F'"
        case "unknown recipe":
            return 2, ["train", good, "--recipe", "slow"], "unknown recipe 'slow'"
        case "unknown field":
            return 2, ["train", good, "--set", "speed=9"], "no field 'speed'"
        case "set without value":
            return 2, ["train", good, "--set", "dropout"], "key=value"
        case "unknown device":
            return 2, ["train", good, "--device", "tpu"], "unknown device"
        case "unknown precision":
            return 2, ["train", good, *QUICK, "--precision", "fp8"], "unknown precision"
        case "scale below the crop":
            return 2, ["train", good, *QUICK, "--train-scale", "16"], "below the crop"
        case "scale in words":
            return 2, ["train", good, *QUICK, "--train-scale", "big"], "--train-scale big"
        case "negative workers":
            return 2, ["train", good, *QUICK, "--workers", "-1"], "-1 workers"
        case "half a model":
            (root / "half.safetensors").write_bytes(model.read_bytes()[: model.stat().st_size // 2])
            return 1, ["evaluate", "half.safetensors", good], "cut short"
        case "pickle":
            (root / "evil.safetensors").write_bytes(pickle.dumps(Payload()))
            return 1, ["predict", "evil.safetensors", "a.png"], "no model file"
        case "init from a pickle":
            torch.save({"a": Payload()}, root / "evil.pth")
            return 1, ["train", good, *QUICK, "--init-from", "evil.pth"], "no model file"
        case "no model":
            return 1, ["evaluate", "nothing", good], "no model 'nothing'"
        case "other classes":
            return 1, ["evaluate", model, make_folder("two", {"a": 5, "b": 5})], "3 classes and the data 2"
        case "unknown protocol":
            return 2, ["evaluate", model, good, "--protocol", "best"], "unknown protocol"
        case "no such split":
            make_folder("parts/train", dict.fromkeys(NAMES, 9))
            return 1, ["evaluate", model, root / "parts", "--split", "test"], "no split 'test'"
        case "test scale below the crop":
            return 2, ["evaluate", model, good, "--test-scales", 20], "below the net's crop"
        case "no model at all":
            return 2, ["evaluate", good], "give a model and then the data"
        case "tables without data":
            return 2, ["tables"], "which data"
        case "tables of nothing":
            return 1, ["tables", "--from", "nowhere"], "--from nowhere cannot be read"
        case "tables from and data":
            return 2, ["tables", good, "--from", "nowhere"], "give neither data nor models"
        case "tables of no architecture":
            return 2, ["tables", good, "--architectures", "A,,B"], "give names between commas"
        case "tables of an unknown architecture":
            return 2, ["tables", good, "--crop", 32, "--architectures", "A,F"], "unknown architecture 'F'"
        case "tables of a scale in words":
            return 2, ["tables", good, "--train-scale", "37,40,50"], "give S, or Smin,Smax"
        case "tables of no model":
            return 1, ["tables", good, "--models", "nothing"], "no model 'nothing'"
        case "tables in a file":
            return (
                1,
                ["tables", good, "--crop", 32, *QUICK[2:], "--width", 0.125, "--out", model / "x"],
                "cannot be written",
            )
        case "scale given twice":
            return 2, ["evaluate", model, good, "--test-scales", "40,40"], "40 is given twice"
        case "images without labels":
            (root / "loose").mkdir()
            picture(0, 40, 40).save(root / "loose/a.png")
            return 1, ["evaluate", model, "loose"], "without labels.* verydeep predict"
        case "an image as data":
            picture(0, 40, 40).save(root / "a.png")
            return 1, ["evaluate", model, "a.png"], "a.png is an image.* verydeep predict"
        case "class the model has not":
            return (
                1,
                ["evaluate", model, make_folder("new", {"dark": 9, "grey": 9, "blue": 9})],
                "'bright' where .*'blue'",
            )
        case "two models with different classes":
            net = VeryDeep("A", num_classes=2, crop=32, width=0.125)
            save(net, root / "two.safetensors")
            return 1, ["evaluate", model, root / "two.safetensors", good], "has 2 classes and the data 3"
        case "image of 1x10000 pixels":
            picture(0, 1, 10_000).save(good / "dark/long.png")
            return (
                1,
                ["evaluate", model, good, "--test-scales", 100, "--split", "train"],
                "long.png: .* is a strip",
            )
        case "save into no folder":
            return 2, ["evaluate", model, good, "--save", "none/a.safetensors"], "no folder none"
        case "save over a model":
            return 1, ["evaluate", model, good, "--save", model], "holds no posteriors"
        case "compare one":
            return 2, ["evaluate", model, good, "--compare"], "needs two models"
        case "shards without quotes":
            return 2, ["evaluate", model, "x-000.tar", "x-001.tar"], "put a pattern of shards in quotes"
        case "damaged what":
            return 2, ["evaluate", model, good, "--damaged", "ignore"], "fail or skip"
        case "no image":
            return 1, ["predict", model, "none.jpg"], "no such file: none.jpg"
        case "no match":
            return 1, ["predict", model, "*.gif"], "no files match"
        case "empty folder":
            (root / "hollow").mkdir()
            return 1, ["predict", model, "hollow"], "no images in hollow"
        case "csv nowhere":
            picture(0, 40, 40).save(root / "a.png")
            return (
                2,
                ["predict", model, "a.png", "--csv", "none/a.csv"],
                "--csv none/a.csv: there is no folder none: make it first",
            )
        case "csv over an image":
            picture(0, 40, 40).save(root / "a.png")
            return 2, ["predict", model, "a.png", "--csv", "a.png"], "--csv a.png: give a name that ends in .csv"
        case "report over a model":
            return 2, ["evaluate", model, good, "--report", model], "give a name that ends in .html"
        case "heat maps among the images":
            return 2, ["predict", model, good, "--heatmap", good / "maps"], "lies in .*photos, whose images are read"
        case "a run among the images":
            return 2, ["train", good, "--out", good / "run"], "lies in .*photos, whose images are read"
        case "tables among the images":
            return 2, ["tables", good, "--out", good], "lies in .*photos, whose images are read"
        case "shards among the images":
            return 2, ["shards", good, good / "new"], "lies in .*photos, whose images are read"
        case "tables of models and a width":
            return 2, ["tables", good, "--models", model, "--width", 0.5], "--width is of trainings"
        case "a model twice":
            return 2, ["evaluate", model, model, good, "--compare"], "given twice"
        case "an architecture as a model":
            return 1, ["predict", "vgg16", "a.png"], r"vgg16 is an architecture, D \(VGG-16\), and no weights: give"
        case "a seed too large":
            return 2, ["train", good, "--seed", 2**64], "--seed"
        case "no number of minutes":
            return 2, ["train", good, "--checkpoint-minutes", "nan"], "must be above 0"
        case "a class that is no text":
            (good / "dark").rename(os.fsdecode(os.fsencode(good) + b"/d\xff"))
            return 1, ["train", good, *QUICK], r"'d\\udcff' has a name that is no UTF-8: rename it"
        case "top 0":
            return 2, ["predict", model, "a.png", "--top", 0], "--top"
        case "doctor nowhere":
            return 1, ["doctor", "nowhere"], "no data 'nowhere'"
        case "doctor of an empty folder":
            (root / "hollow").mkdir()
            return 1, ["doctor", "hollow"], "no images in hollow"
        case "inspect nothing":
            return 2, ["inspect", "resnet"], "unknown architecture"
        case "inspect a model with a crop":
            return 2, ["inspect", model, "--crop", 64], "its own crop"
        case "shards into a taken folder":
            (root / "taken").mkdir()
            (root / "taken/thesis.tex").touch()
            return 2, ["shards", good, "taken"], "taken is not empty"
        case "shards of no size":
            return 2, ["shards", good, "new", "--size", "big"], "--size big: give bytes, such as 256M"
        case "shards of a damaged image":
            (good / "dark/none.png").touch()
            return 1, ["shards", good, "new"], "none.png cannot be read .*--damaged skip"
        case "shards below a file":
            return 1, ["shards", good, model / "new"], "cannot be written"
        case "pipe":
            return 1, ["train", "pipe:touch harm"], "pipe: is refused"
        case "missing shards":
            return 1, ["evaluate", model, "x-{000..009}.tar"], r"x-000\.tar is missing"
        case "pattern without quotes":
            return 2, ["train", "x-000.tar", "x-001.tar"], "put a pattern of shards in quotes"
        case "unknown verb":
            return 2, ["tarin"], "Unknown command .tarin.. Did you mean .train.. .see verydeep --help."
        case "unknown option":
            return 2, ["train", good, "--epoch", 3], "--epoch. Did you mean --epochs"
    raise AssertionError(kind)


class Payload:
    def __reduce__(self):
        return (os._exit, (99,))


@pytest.mark.parametrize(
    "kind",
    [
        "missing folder", "no data", "set not fetched", "set that nobody may pass on", "set without a name here",
        "empty class", "one class", "class in val alone", "text named jpg",
        "truncated jpg", "zero bytes",
        "out below a file", "out in proc", "out is taken", "resume nothing", "resume without out",
        "resume with options", "crop 33", "batch size 0", "epochs x", "unknown architecture", "unknown recipe",
        "unknown field", "set without value", "unknown device", "unknown precision", "scale below the crop",
        "scale in words", "negative workers", "half a model", "pickle", "init from a pickle", "no model",
        "other classes", "unknown protocol", "no such split", "test scale below the crop", "no model at all",
        "tables without data", "tables of nothing", "tables from and data",
        "tables of no architecture", "tables of an unknown architecture", "tables of a scale in words",
        "tables of no model",
        "tables in a file", "scale given twice", "images without labels", "an image as data", "class the model has not",
        "two models with different classes", "image of 1x10000 pixels", "save into no folder", "save over a model",
        "compare one", "shards without quotes", "damaged what", "no image",
        "no match", "empty folder", "csv nowhere", "csv over an image", "report over a model",
        "heat maps among the images", "a run among the images", "tables among the images", "shards among the images",
        "tables of models and a width", "a model twice", "an architecture as a model", "a seed too large",
        "no number of minutes", "a class that is no text", "top 0", "inspect nothing", "inspect a model with a crop",
        "shards into a taken folder", "shards of no size", "shards of a damaged image", "shards below a file", "pipe",
        "missing shards", "pattern without quotes", "unknown verb", "unknown option",
        "doctor nowhere", "doctor of an empty folder",
    ],
)  # fmt: skip
def test_a_mistake_gets_one_line_and_leaves_nothing(kind, verydeep, photos, tmp_path, make_folder, model):
    expected, arguments, complaint = wrong(kind, tmp_path, make_folder, model)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    status, out, err = verydeep(*arguments)
    lines = [line for line in err.splitlines() if line.startswith("verydeep: ")]
    assert status == expected, err
    assert len(lines) == 1
    assert err.splitlines()[-1] == lines[0]
    assert re.search(complaint, lines[0])
    assert out == ""
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def run_apart(arguments):
    done = subprocess.run([sys.executable, "-m", "verydeep", *map(str, arguments)], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_help_needs_no_torch_and_shows_an_example_that_works():
    code = (
        "import sys; sys.argv = ['verydeep', '--help']\n"
        "from verydeep.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'PIL', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    for verb in ("train", "evaluate", "tables", "predict", "fetch", "shards", "doctor", "inspect"):
        status, out, _ = run_apart([verb, "--help"])
        assert status == 0
        assert "Example: verydeep" in out


def test_the_command_spares_the_collector_and_an_import_does_not():
    code = (
        "import gc, sys; sys.argv = ['verydeep', '--version']\n"
        "before = gc.get_threshold(), gc.get_freeze_count()\n"
        "from verydeep.cli.main import main\n"
        "assert (gc.get_threshold(), gc.get_freeze_count()) == before\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert gc.get_threshold()[0] > before[0][0]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_public_set_is_fetched_then_trained_and_tested_on(verydeep, monkeypatch):
    files = PUBLISHED["cifar10"][0]()
    with serving(files) as server:
        monkeypatch.setitem(NAMED, "cifar10", tiny("cifar10", files, server.address))
        status, out, _ = verydeep("fetch", "CIFAR-10")
    assert status == 0
    assert "cifar10: 3 classes, 54 train, 6 val, 9 test images" in out
    assert "verydeep train cifar10" in out
    recipe = ["--recipe", "quick", "--width", "0.125", "--batch-norm", "--epochs", 1, "--out", "runs/one"]
    assert verydeep("train", "cifar10", *recipe)[0] == 0
    status, out, _ = verydeep("evaluate", "runs/one", "cifar10", "--damaged", "skip", "--json")
    assert status == 0
    assert (json.loads(out)["split"], json.loads(out)["num_images"]) == ("test", 9)
    assert load("runs/one").geometry.crop == 32


def test_fetching_without_a_network(verydeep, monkeypatch, tmp_path):
    monkeypatch.setitem(NAMED, "cifar10", tiny("cifar10", PUBLISHED["cifar10"][0](), closed_address()))
    status, out, err = verydeep("fetch", "cifar10")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "cannot be fetched: Connection refused" in err
    assert not (tmp_path / "data").exists()


def test_listing_the_public_sets_needs_no_torch():
    code = (
        "import sys; sys.argv = ['verydeep', 'fetch']\n"
        "from verydeep.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'torchvision', 'sklearn', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_fetch_lists_the_public_sets(verydeep, tmp_path):
    status, out, _ = verydeep("fetch")
    assert status == 0
    assert all(name in out for name in NAMED)
    assert "https://www.cs.toronto.edu/~kriz/cifar.html" in out
    status, out, _ = verydeep("fetch", "--json")
    record = json.loads(out)
    assert status == 0
    assert record["folder"] == str(tmp_path / "data")
    assert [row["name"] for row in record["sets"]] == list(NAMED)
    assert not any(row["here"] for row in record["sets"])


def test_version(verydeep):
    assert verydeep("--version")[:2] == (0, f"verydeep {version('verydeep')}\n")


def test_two_trainings_at_once_lose_nothing(photos):
    """Real processes: without --out each has a run of its own."""
    begin = [sys.executable, "-m", "verydeep", "train", str(photos), *QUICK, "--epochs", "1", "--precision", "fp32"]
    both = [subprocess.Popen(begin, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    runs = sorted(Path("runs").glob("*/result.json"))
    assert [file.parent.name for file in runs] == ["photos-A-bn", "photos-A-bn-2"]


def test_interrupting_a_training_saves_it(verydeep, photos, tmp_path):
    """A real process, a real Ctrl-C, and a real second process that goes on."""
    arguments = [sys.executable, "-m", "verydeep", "train", photos, *QUICK, "--epochs", "30", "--precision", "fp32"]
    pipe = subprocess.PIPE
    process = subprocess.Popen([*map(str, arguments), "--out", "runs/one"], stdout=pipe, stderr=pipe, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 2/"):
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "verydeep train --resume --out runs/one" in err
    assert "the training in runs/one has not ended: this is its net" in verydeep("evaluate", "runs/one", photos)[2]
    assert "the training in runs/one has not ended" in verydeep("predict", "runs/one", photos / "dark/0.png")[2]
    status, _, said = run_apart(["train", "--resume", "--out", "runs/one"])
    assert re.search(r"resuming runs/one after epoch \d+", said)
    assert status == 0
    assert len(Path("runs/one/log.jsonl").read_text().splitlines()) == 30
