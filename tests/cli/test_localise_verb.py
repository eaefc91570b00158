"""``localise`` on the command line: a localiser is trained, measured, tuned and used; what cannot be is one line."""

import json

import numpy as np
import pytest
from PIL import Image

from boxed_sets import boxed_set
from small_nets import make_net
from verydeep import Localiser, save


@pytest.fixture
def data(monkeypatch, tmp_path):
    """Drawn images with boxes stand where ``open_boxed`` is asked for ``drawn``; the test images are files too."""
    monkeypatch.chdir(tmp_path)
    opened = boxed_set(24)

    def open_boxed(data, **_):
        assert data == "drawn"
        return opened

    monkeypatch.setattr("verydeep.data.boxes.open.open_boxed", open_boxed)
    monkeypatch.setattr("verydeep.localisation.start.open_boxed", open_boxed)
    (tmp_path / "photos").mkdir()
    for index in range(3):
        Image.fromarray(opened.test.images.pixels(index)).save(tmp_path / "photos" / f"00{index}.png")
    net = make_net("A", crop=32, features_only=True, width=0.25)
    net.set_input((60.0, 60.0, 60.0), (60.0, 60.0, 60.0))
    save(net, "convolutions.safetensors")
    return opened


@pytest.fixture
def trained(data, verydeep):
    options = ["--init-from", "convolutions.safetensors", "--views", 3, "--device", "cpu"]
    status, out, err = verydeep("localise", "train", "drawn", *options, "--epochs", 4, "--out", "boxes", "--json")
    assert status == 0, err
    return json.loads(out)


def test_it_trains_and_resumes(trained, verydeep):
    assert trained["run"] == "boxes"
    assert trained["finished"]
    status, out, _ = verydeep("localise", "train", "--resume", "--out", "boxes")
    assert status == 0
    assert "localisation error" in out
    assert "verydeep localise evaluate boxes DATA" in out
    status, _, err = verydeep("localise", "train", "drawn", "--out", "boxes")
    assert status == 2
    assert "add --resume" in err


def test_it_measures_by_both_protocols(trained, data, verydeep):
    status, out, err = verydeep("localise", "evaluate", "boxes", "drawn", "--split", "val", "--json")
    assert status == 0, err
    record = json.loads(out)
    assert record["localisation_error"] == pytest.approx(trained["localisation_error"])
    assert (record["num_images"], record["split"], record["protocol"]) == (12, "val", "centre")
    status, out, err = verydeep("localise", "evaluate", "boxes", "drawn", "--protocol", "full", "--json")
    assert status == 0, err
    record = json.loads(out)
    assert 0 <= record["localisation_error"] <= record["top1_localisation_error"] <= 1
    assert record["split"] == "test"
    status, out, _ = verydeep("localise", "evaluate", "boxes", "drawn")
    assert "localisation error" in out


def test_what_is_tuned_is_kept_beside_the_model(trained, verydeep):
    status, out, err = verydeep("localise", "evaluate", "boxes", "drawn", "--protocol", "full", "--tune", "--json")
    assert status == 0, err
    assert "12 validation images" in err
    assert json.loads(out)["merge_threshold"] == Localiser("boxes").merge_threshold


def test_it_predicts_boxes_of_files(trained, data, verydeep, tmp_path):
    out_options = ["--out", "overlays", "--coco", "boxes.json"]
    status, out, err = verydeep("localise", "predict", "boxes", "photos", *out_options, "--json")
    assert status == 0, err
    images = json.loads(out)["images"]
    assert [image["file"] for image in images] == [f"photos/00{index}.png" for index in range(3)]
    for index, image in enumerate(images):
        scores = [found["score"] for found in image["objects"]]
        assert sorted(scores, reverse=True) == scores
        assert sum(scores) == pytest.approx(1, abs=1e-4)
        height, width = data.test.images.pixels(index).shape[:2]
        for found in image["objects"]:
            left, top, right, bottom = found["box"]
            assert 0 <= left <= right <= width
            assert 0 <= top <= bottom <= height
        with Image.open(image["picture"]) as drawn:
            assert drawn.size == (width, height)
            assert (np.asarray(drawn) != data.test.images.pixels(index)).any()
    rows = json.loads((tmp_path / "boxes.json").read_text())
    assert {row["image_id"] for row in rows} == {0, 1, 2}
    first = images[0]["objects"][0]
    left, top, right, bottom = first["box"]
    assert rows[0] == {
        "image_id": 0,
        "category_id": first["index"] + 1,
        "bbox": [left, top, right - left, bottom - top],
        "score": first["score"],
    }
    (found, *_) = Localiser("boxes").predict("photos/000.png", top=1)
    assert (found.name, list(found.box)) == (first["name"], first["box"])
    status, out, _ = verydeep("localise", "predict", "boxes", "photos", "--top", 1)
    assert out.count("photos/") == 3


def test_one_line_for_what_cannot_be(trained, verydeep, tmp_path):
    net = make_net("A", num_classes=3)
    net.classes = ("disc", "square", "star")
    save(net, "stars.safetensors")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for arguments, status, message in (
        (["evaluate", "stars.safetensors", "drawn"], 1, "is no localiser: verydeep localise train DATA --init-from"),
        (["evaluate", "boxes", "drawn", "--protocol", "full", "--classifier", "stars.safetensors"], 1, "'star'"),
        (["evaluate", "drawn"], 2, "give a model and then the data"),
        (["predict", "boxes", "photos", "--top", 0], 2, "--top 0: name at least one class"),
        (["predict", "boxes", "photos", "--out", "photos"], 2, "--out photos lies in photos"),
        (["predict", "boxes", "photos", "--coco", "boxes.csv"], 2, "give a name that ends in .json"),
        (["predict", "boxes", "broken.png"], 1, "broken.png"),
        (["train"], 2, "which data?"),
        (["train", "drawn", "--init-from", "boxes", "--regression", "scr"], 2, "is a localiser of other classes"),
    ):
        found, _, err = verydeep("localise", *arguments)
        assert found == status, (arguments, err)
        assert message in err
        assert err.count("\n") == 1, err
