"""``predict``: images sorted by class, and damaged ones left out when asked."""

import csv
import json
from pathlib import Path

import pytest
import torch

from conftest import picture
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch, process_as_it_is):
    monkeypatch.chdir(tmp_path)
    net = VeryDeep("A", num_classes=3, crop=32, width=0.125, generator=torch.Generator().manual_seed(0)).eval()
    net.classes = ("bright", "dark", "grey")
    save(net, Path("net.safetensors"))
    for folder in ("one", "two"):
        Path(folder).mkdir()
        for number in range(3):
            picture(number + 3 * (folder == "two"), 40, 40).save(f"{folder}/{number}.png")


def test_images_are_sorted_and_the_answers_are_written_too(verydeep):
    status, out, err = verydeep(
        "predict", "net.safetensors", "one", "two", "--sort-into", "sorted", "--csv", "answers.csv", "--json"
    )
    assert status == 0
    records = json.loads(out)["images"]
    for record in records:
        target = Path(record["sorted_into"])
        assert target.parent == Path("sorted", record["classes"][0]["name"])
        assert target.read_bytes() == Path(record["file"]).read_bytes()
    assert len({record["sorted_into"] for record in records}) == 6
    assert "sorted: " in err
    with Path("answers.csv").open(newline="") as lines:
        assert {row["file"] for row in csv.DictReader(lines)} == {record["file"] for record in records}

    before = sorted(Path("sorted").rglob("*"))
    assert verydeep("predict", "net.safetensors", "one", "two", "--sort-into", "sorted")[0] == 0
    assert sorted(Path("sorted").rglob("*")) == before
    _, out, _ = verydeep("predict", "net.safetensors", "one", "--sort-into", "other", "--unsure", "1", "--json")
    assert {Path(record["sorted_into"]).parent for record in json.loads(out)["images"]} == {Path("other/unsure")}


def test_damaged_images_fail_or_are_left_out(verydeep):
    Path("one/3.png").write_bytes(b"no image")
    status, out, err = verydeep("predict", "net.safetensors", "one", "--json")
    assert (status, len(json.loads(out)["images"])) == (1, 3)
    status, out, err = verydeep(
        "predict", "net.safetensors", "one", "--json", "--damaged", "skip", "--sort-into", "new"
    )
    assert status == 0
    assert json.loads(out)["skipped"] == ["one/3.png"]
    assert "one/3.png cannot be read as an image" in err
    assert "left out 1 damaged image: one/3.png" in err
    assert len([file for file in Path("new").rglob("*") if file.is_file()]) == 3
    assert verydeep("predict", "net.safetensors", "one", "nowhere.png", "--damaged", "skip")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--unsure", "0.5"], "--unsure is of sorted images: give --sort-into"),
        (["--unsure", "50", "--sort-into", "new"], "--unsure 50: give a posterior"),
        (["--sort-into", "one/sorted"], "--sort-into one/sorted lies in one"),
        (["--sort-into", "net.safetensors"], "--sort-into net.safetensors is a file"),
    ],
)
def test_what_cannot_be_right_is_one_line(arguments, complaint, verydeep):
    status, out, err = verydeep("predict", "net.safetensors", "one", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert complaint in err
