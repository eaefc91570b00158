"""Names, places and terminals that people have: the command line works there, or says in one line what to do."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from conftest import picture
from peer_nets import torchvision_net
from small_nets import fit_small, make_net
from strange_files import DEEP, tiff
from verydeep.data.doctor import examine_quickly
from verydeep.data.folder import find_images
from verydeep.data.open import open_data
from verydeep.errors import UserError
from verydeep.nets.model_card import make_card
from verydeep.nets.model_file import save
from verydeep.training.run_folder import Run
from verydeep.training.state import Callback, Position

QUICK = ["--recipe", "quick", "--crop", "32", "--width", "0.125", "--epochs", "1", "--workers", "0"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch, process_as_it_is):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path):
    net = make_net("A", num_classes=2)
    net.classes = ("dark", "bright")
    save(net, tmp_path / "model.safetensors", card=make_card(net))
    return "model.safetensors"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are text")
def test_names_that_are_no_utf8_and_data_that_were_moved(verydeep, make_folder, tmp_path):
    data, new, out = os.fsdecode(b"caf\xe9"), os.fsdecode(b"n\xe9w"), "runs/one"
    make_folder("photos", {"dark": 8, "bright": 8}).rename(tmp_path / data)
    status, _, err = verydeep("train", data, *QUICK, "--out", os.fsdecode(b"runs/o\xe9"))
    assert (status, err.splitlines()[-1]) == (
        2,
        "verydeep: --out runs/o\ufffd: the name is no UTF-8, which model files need: give another",
    )
    status, said, err = verydeep("train", data, *QUICK, "--out", out, "--json")
    assert (status, json.loads(said)["epochs"]) == (0, 1), err
    assert (Path(out) / "report.html").exists()
    assert verydeep("evaluate", out, data)[0] == 0
    assert verydeep("runs", "--json")[0] == 0
    Path(data).rename(new)
    status, _, err = verydeep("train", "--resume", "--out", out)
    assert status == 1
    assert "if the data were moved: verydeep train NEW --resume --out runs/one" in err
    assert verydeep("train", new, "--resume", "--out", out)[0] == 0


@pytest.mark.parametrize("closed", [("stdout",), ("stdout", "stderr")])
@pytest.mark.parametrize(("arguments", "status"), [(["inspect", "A"], 0), (["--help"], 0), (["nothing"], 2)])
def test_without_a_console_nothing_is_printed(closed, arguments, status, monkeypatch):
    from verydeep.cli import main as cli

    for stream in closed:
        monkeypatch.setattr(sys, stream, None)
    monkeypatch.setattr(sys, "argv", ["verydeep", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    for stream in closed:
        getattr(sys, stream).close()
    assert ended.value.code == status


def test_a_closed_output_is_no_error():
    done = subprocess.run(["sh", "-c", f"{sys.executable} -m verydeep --version >&-"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def of_all_kinds(tmp_path):
    """Images of two classes, 14 of each, under names that were listed by one verb and not by another."""
    for number, name in enumerate(("dark", "bright")):
        root, seed = tmp_path / "photos" / name, 20 * number
        (root / "folder.jpg").mkdir(parents=True)
        picture(seed, 40, 40).save(root / "a.png")
        picture(seed + 1, 40, 40).save(root / "b.jfif", "JPEG")
        picture(seed + 2, 40, 40).save(root / "no ending", "PNG")
        picture(seed + 3, 40, 40).save(root / "folder.jpg/c.pnm", "PPM")
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
        for index in range(10):
            picture(seed + 4 + index, 40, 40).save(tmp_path / "elsewhere" / name / f"{index}.webp")
        (root / "linked").symlink_to(tmp_path / "elsewhere" / name)
        (tmp_path / "elsewhere" / name / "drawing.svg").write_text("<svg/>")
    return "photos"


COUNTED_BY = {
    "predict": (["MODEL", "photos"], lambda record: len(record["images"])),
    "evaluate": (["MODEL", "photos", "--split", "all"], lambda record: record["num_images"]),
    "search": (
        ["MODEL", "photos", "photos/dark/a.png", "--top", 99],
        lambda record: len(record["images"][0]["similar"]),
    ),
    "doctor": (["photos"], lambda record: record["num_images"]),
    "features": (["MODEL", "photos", "--out", "f.npz"], lambda record: record["num_images"]),
    "features without classes": (
        ["MODEL", "elsewhere/dark", "--out", "f.npz"],
        lambda record: record["num_images"] + 18,  # the other class, and what lies beside the link
    ),
    "shards": (["photos", "shards"], lambda record: record["num_images"]),
    "transfer": (["MODEL", "photos", "--out", "new"], None),  # whose record has the tested images alone
}


@pytest.mark.parametrize("verb", COUNTED_BY)
def test_every_verb_lists_the_same_images_and_says_what_it_passes_over(verb, verydeep, model, of_all_kinds):
    arguments, count = COUNTED_BY[verb]
    status, out, err = verydeep(verb.split()[0], *(model if one == "MODEL" else one for one in arguments), "--json")
    assert status == 0, err
    assert count is None or count(json.loads(out)) == 28
    assert re.search(r"[12] (images?|files) of (a format|formats) that (is|are) not read", out + err)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are text")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["features", "MODEL", "good", "--out", "o\udce9.safetensors"],
            "o\ufffd.safetensors: the name is no UTF-8.*give an",
        ),
        (
            ["features", "MODEL", "good", "--out", "o\udce9.parquet"],
            "o\ufffd.parquet: the name is no UTF-8.*give another",
        ),
        (["evaluate", "MODEL", "good", "--save", "o\udce9.safetensors"], "the name is no UTF-8.*give another"),
        (["shards", "bad", "new"], "a/\ufffd.png: the name is no UTF-8, which its format needs: rename it"),
        (
            ["weights", "import", "w\udce9.pth", "--out", "o.safetensors"],
            "w\ufffd.pth: the name is no UTF-8.*rename it",
        ),
        (["weights", "import", "w.pth", "--out", "o\udce9.safetensors"], "o\ufffd.safetensors: .*give another"),
        (["inspect", "m\udce9.safetensors"], "m\ufffd.safetensors: the name is no UTF-8.*rename it"),
        (["shards", "g\udce9", "new"], None),
        (
            ["weights", "export", "MODEL", "--to", "hub", "--out", "hub\udce9"],
            "hub\ufffd/.*: the name is no UTF-8.*give an",
        ),
        (["predict", "MODEL", "bad", "--csv", "o\udce9.csv", "--json"], None),
    ],
)
def test_a_name_that_is_no_utf8_is_written_or_refused_in_one_line(
    arguments, says, verydeep, model, make_folder, tmp_path
):
    make_folder("good", {"dark": 8, "bright": 8})
    shutil.copytree(tmp_path / "good", tmp_path / "g\udce9")
    (make_folder("bad", {"a": 8, "b": 8}) / "a/0.png").rename(tmp_path / "bad/a/\udce9.png")
    torch.save(torchvision_net("A", num_classes=2).state_dict(), tmp_path / "w.pth")
    shutil.copy(tmp_path / "w.pth", tmp_path / "w\udce9.pth")
    shutil.copy(model, tmp_path / "m\udce9.safetensors")
    status, _, err = verydeep(*(model if one == "MODEL" else one for one in arguments))
    assert status == (0 if says is None else 1), err
    assert says is None or re.search(f"^verydeep: .*{says}", err.splitlines()[-1]), err


def test_a_training_claims_its_folder_before_it_reads_the_images(make_folder, tmp_path, in_fp32):
    """A second one, without --out as the first, begins while the first reads."""
    photos, runs = make_folder("photos", {"dark": 9, "bright": 9}), []

    class Second(Callback):
        def progress(self, *_):
            if not runs:
                runs.append(None)
                runs[0] = fit_small(photos, None, epochs=1)

    first = fit_small(photos, None, epochs=1, reporter=Second())
    assert first.run != runs[0].run
    assert {first.run.parent, runs[0].run.parent} == {Path("runs")}
    assert all((run.run / "model.safetensors").exists() for run in (first, *runs))


def test_a_class_that_val_lacks_is_told_as_such(make_folder):
    make_folder("photos/train", {"a": 9, "b": 9})
    root = make_folder("photos/val", {"a": 3}).parent
    assert [finding.message for finding in examine_quickly(open_data(root))] == [
        "the classes differ between the splits: val/ lacks b"
    ]
    few = open_data(make_folder("few", {"a": 9, "b": 1}))
    assert "too few images to set one aside for val: b" in [finding.message for finding in examine_quickly(few)]


@pytest.mark.parametrize(
    ("position", "then"), [(None, "train again"), (Position(), "train again"), (Position(epoch=1), "resume")]
)
def test_a_full_disk_says_what_can_be_done_then(position, then, tmp_path, monkeypatch):
    net, run = make_net("A", num_classes=2), Run(tmp_path, {})
    if position is not None:
        run.save_checkpoint(net, make_card(net), {}, position)

    def full(*_, **__):
        raise UserError("checkpoint-next.safetensors cannot be written: No space left on device")

    monkeypatch.setattr("verydeep.nets.model_file.save", full)
    with pytest.raises(UserError, match=f"free some space, then {then}"):
        run.save_checkpoint(net, make_card(net), {}, Position(epoch=2))


def test_an_address_keeps_its_slashes():
    with pytest.raises(UserError, match=r"^https://example\.org/a\.jpg is an address: download"):
        find_images(["https://example.org/a.jpg"])


def test_a_pattern_in_a_folder_without_permission_says_so(tmp_path, monkeypatch):
    (tmp_path / "secret").mkdir()

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PermissionError, match="secret"):
        find_images([f"{tmp_path}/secret/*.jpg"])


def test_too_many_workers_are_refused(verydeep, make_folder):
    most = max(16, 4 * (os.cpu_count() or 1))
    status, _, err = verydeep("train", make_folder("photos", {"a": 9, "b": 9}), *QUICK[:-1], most + 184)
    assert (status, err.count("\n")) == (2, 1)
    assert f"--workers {most + 184}: this machine has" in err


def test_predict_warns_of_many_bits_and_never_of_a_file_without_its_name(verydeep, model, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow warns from there on, and names no file
    picture(0, 40, 40).save(tmp_path / "large.png")
    Image.fromarray(DEEP).resize((32, 32)).save(tmp_path / "deep.png")
    (tmp_path / "twelve.tif").write_bytes(tiff(bytes(24), bits=12)())
    status, _, err = verydeep("predict", model, "large.png", "deep.png", "twelve.tif", "--json")
    assert (status, err) == (
        0,
        "2 of the images have more than 8 bits a channel, scaled down by 257: with fewer bits in use they come out "
        "dark; convert them to 8 bits\n",
    )
