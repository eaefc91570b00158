"""A transfer from data to a model: what it measures, what it writes, and that the model gives the scores measured."""

import json

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from conftest import picture
from small_nets import make_net
from verydeep.data.open import open_data
from verydeep.errors import UsageError, UserError
from verydeep.nets.model_card import card_facts
from verydeep.nets.model_file import save
from verydeep.paper.tables import TABLE_11
from verydeep.runs.transfer_report import write_transfer_report
from verydeep.testing.classifier import Classifier
from verydeep.testing.descriptors import DescriptorOptions, describe
from verydeep.testing.evaluate import evaluate
from verydeep.testing.transferred import TransferredModel
from verydeep.transfer.labels import DoubtfulLabel
from verydeep.transfer.metrics import mean_average_precision
from verydeep.transfer.options import TransferOptions
from verydeep.transfer.result import paper_rows
from verydeep.transfer.splits import make_splits, open_for_transfer
from verydeep.transfer.transfer import transfer
from verydeep.weights.resolve import load, read_card


@pytest.fixture
def features(tmp_path):
    """The file of a small net of convolutions alone, in half precision as the one that ships."""
    net = make_net("A", features_only=True)
    net.train_scale = (64, 64)
    for layer in net.children():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data = layer.weight.data.half().float()
    save(net, tmp_path / "features.safetensors", precision="fp16")
    return tmp_path / "features.safetensors"


@pytest.fixture
def folder(make_folder):
    return make_folder("photos", {"dark": 20, "grey": 20, "bright": 20})


def test_one_net_at_one_scale_becomes_a_net_with_a_linear_head(features, folder, tmp_path):
    result = transfer(features, folder, TransferOptions(out=tmp_path / "out", mirror="off"))
    assert result.model == str(tmp_path / "out/model.safetensors")
    net = load(tmp_path / "out")
    assert net.geometry.head == "linear"
    assert net.classes == ("bright", "dark", "grey")
    assert (net.train_scale, net.mirror, net.geometry.crop) == ((64, 64), False, 32)
    card = read_card(tmp_path / "out")
    assert card.precision == "fp16"
    assert card.recipe["name"] == "transfer"
    assert card.selected_on == "val"
    assert card.data.validation.startswith("none: the images held out for it are trained on too")
    assert card.data.num_train == result.splits[0].num_train
    for name, tensor in load(features).state_dict().items():  # bit for bit
        assert torch.equal(net.state_dict()[name], tensor), name
    again = evaluate(tmp_path / "out", folder)
    assert again.split == "test"
    assert again.top1_error == result.top1_error
    assert list(again.names) == list(result.names)
    powers = np.exp(result.splits[0].scores)
    np.testing.assert_allclose(again.posteriors, powers / powers.sum(1, keepdims=True), atol=2e-5)
    assert card.results[0]["top1_error"] == result.top1_error
    with torch.no_grad():
        image = torch.from_numpy(open_data(folder).test.pixels(0).copy()).permute(2, 0, 1)[None]
        assert net(image).shape == (1, 3)


def test_the_scores_are_those_of_scikit_learn_on_the_descriptors(features, folder):
    result = transfer(features, folder, TransferOptions(mirror="off"))
    data = open_data(folder)
    options = DescriptorOptions(test_scales=(64,), mirror=False, normalise=False)
    rows = {split: describe([load(features)], images, options) for split, images in data.splits.items()}
    train = np.concatenate([rows["train"], rows["val"]]).astype(np.float64)
    labels = np.concatenate([data.train.labels, data.val.labels])
    one = result.splits[0]
    assert one.num_train == len(train)
    scale = 1 / np.linalg.norm(train, axis=1).mean()
    for index in range(3):
        theirs = LinearSVC(C=one.c, dual=False).fit(train * scale, labels == index)
        expected = theirs.decision_function(rows["test"] * scale) / one.temperature
        np.testing.assert_allclose(one.scores[:, index], expected, atol=0.02 * np.abs(expected).max())
    assert f"top1_error={result.top1_error}, " in repr(result)
    assert len(repr(result)) < 400


def test_several_scales_become_a_folder_that_is_a_model(features, folder, tmp_path):
    options = TransferOptions(out=tmp_path / "out", test_scales=(64, 96))
    result = transfer(str(features), folder, options)
    assert result.model == str(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "classifier.safetensors", "model.json", "nets", "transfer.json",
    ]  # fmt: skip
    features.unlink()  # the folder has a copy
    again = evaluate(tmp_path / "out", folder)
    assert again.top1_error == result.top1_error
    assert (again.protocol, again.test_scales) == ("descriptors", (64, 96))
    assert again.split == "test"
    ranked = Classifier(tmp_path / "out").predict(folder / "dark/0.png", top=3)
    assert sum(one.posterior for one in ranked.classes) == pytest.approx(1)
    assert ranked.score_map is None
    record = json.loads((tmp_path / "out/transfer.json").read_text())
    assert record["top1_error"] == result.top1_error
    assert record["accuracy"] == 1 - result.top1_error
    assert record["test_scales"] == [[64, 96]]
    with pytest.raises(UsageError, match="scales of its own"):
        evaluate(tmp_path / "out", folder, test_scales=[64])
    with pytest.raises(UsageError, match="has its own scales"):
        Classifier(tmp_path / "out", protocol="multi-scale")
    with pytest.raises(UserError, match="this needs one net in one file"):
        load(tmp_path / "out")


def test_two_nets_are_stacked(features, folder, tmp_path):
    other = make_net("B", seed=1, batch_norm=True, crop=64)
    save(other, tmp_path / "other.safetensors")
    options = TransferOptions(out=tmp_path / "out", layer="pool5", test_scales=(64,))
    result = transfer([features, tmp_path / "other.safetensors"], folder, options)
    assert result.architectures == ["A", "B"]
    model = TransferredModel(tmp_path / "out")
    assert model.weight.shape == (3, 128)
    assert evaluate(tmp_path / "out", folder).architecture == "A & B"


def test_a_net_of_its_own_classes_gives_fc7(folder, tmp_path):
    net = make_net("A")
    net.train_scale = (64, 64)
    save(net, tmp_path / "net.safetensors")
    result = transfer(tmp_path / "net.safetensors", folder, TransferOptions(out=tmp_path / "out"))
    assert result.describing["layer"] == ["relu7"]
    assert result.describing["normalise"]
    assert result.model == str(tmp_path / "out")


@pytest.mark.parametrize("kind", ["net", "folder"])
def test_a_damaged_or_changed_model_is_refused(features, folder, tmp_path, kind):
    out = tmp_path / "out"
    transfer(features, folder, TransferOptions(out=out, pool="max"))
    if kind == "net":
        file = next((out / "nets").iterdir())
        file.write_bytes(file.read_bytes()[:-1] + b"\x07")
        complaint = "is another net than .* was fitted with"
    else:
        (out / "classifier.safetensors").write_bytes(b"no")
        complaint = "damaged or cut short"
    with pytest.raises(UserError, match=complaint):
        TransferredModel(out)


def test_files_outside_the_folder_are_not_read(features, folder, tmp_path):
    out = tmp_path / "out"
    transfer(features, folder, TransferOptions(out=out, pool="max"))
    card = json.loads((out / "model.json").read_text())
    card["nets"][0]["file"] = "../features.safetensors"
    (out / "model.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match="copy the whole folder"):
        TransferredModel(out)
    card["nets"][0] = {"name": str(features), "sha256": card["nets"][0]["sha256"]}
    (out / "model.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match="is no published name"):
        TransferredModel(out)
    (out / "model.json").write_text("{}")
    with pytest.raises(UserError, match=r"model\.json cannot be read at classes"):
        TransferredModel(out)


def test_the_papers_splits(features, folder):
    options = TransferOptions(per_class=5, test_per_class=4, splits=3, seed=7)
    data = open_for_transfer(folder, options)
    splits = make_splits(data, options)
    for split in splits:
        assert np.bincount(data.labels[split.train]).tolist() == [5, 5, 5]
        assert np.bincount(data.labels[split.test]).tolist() == [4, 4, 4]
        assert not set(split.train.tolist()) & set(split.test.tolist())
    assert [split.seed for split in splits] == [7, 8, 9]
    assert splits[0].train.tolist() != splits[1].train.tolist()
    assert make_splits(data, options)[0].train.tolist() == splits[0].train.tolist()
    result = transfer(features, folder, options)
    assert result.metric == "recall"
    assert len(result.values) == 3
    assert result.spread == pytest.approx(np.std(result.values, ddof=1))
    assert result.value == pytest.approx(np.mean(result.values))
    assert "3 splits drawn of 60 images (seed 7, 8, 9)" in result.about_split
    record = result.as_record()
    assert record["recall"] == result.value
    assert record["interval95"] is None
    json.dumps(record, allow_nan=False)


def test_validation_is_never_test(features, make_folder):
    make_folder("split/train", {"a": 12, "b": 12})
    root = make_folder("split/val", {"a": 4, "b": 4}).parent
    result = transfer(features, root, TransferOptions(out=root.parent / "out"))
    assert read_card(root.parent / "out").selected_on is None
    assert (result.splits[0].measured_on, result.splits[0].num_train) == ("val", 24)
    assert "fitted on train, measured on val" in result.about_split
    with pytest.raises(UserError, match="validation images are never called test"):
        transfer(features, root, TransferOptions(split="test"))
    low, high = result.interval95()
    assert low < result.value <= high or result.value == 1


def test_val_of_a_set_with_test_images(features, folder):
    result = transfer(features, folder, TransferOptions(split="val", metric="map"))
    data = open_data(folder)
    assert result.splits[0].num_train == len(data.train)
    assert result.splits[0].num_images == len(data.val)
    low, high = result.interval95()
    assert low <= result.value <= high


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"per_class": 20}, "has 20 images, and --per-class 20 leaves none to measure on: give 19 at most"),
        ({"test_per_class": 3}, "give --per-class with it"),
        ({"per_class": 0}, "--per-class 0: give 1 or more"),
        ({"per_class": 3, "split": "val"}, "is of the data's own splits"),
        ({"layer": "relu9_9"}, "relu9_9"),
        ({"test_scales": (16,)}, "test scale 16 is too small"),
    ],
)
def test_what_cannot_be_done(features, folder, options, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        transfer(features, folder, TransferOptions(**options))
    assert "\n" not in str(caught.value)


def test_one_class(features, make_folder):
    make_folder("lonely/train", {"a": 5})
    root = make_folder("lonely/val", {"a": 3}).parent
    with pytest.raises(UserError, match="has one class, 'a': a classifier needs at least two"):
        transfer(features, root)


def test_a_folder_with_other_things_is_not_written_to(features, folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("")
    with pytest.raises(UsageError, match="holds other files: give a new folder"):
        transfer(features, folder, TransferOptions(out=tmp_path / "mine"))


def test_the_papers_rows_stand_beside_the_data_they_are_of():
    assert ("VGG D & E", "92.7 ± 0.5") in paper_rows("caltech101")
    assert ("Wei et al., 2014", "81.7, 90.3 (more classes than ILSVRC)") in paper_rows("voc2012")
    assert len(paper_rows("voc2007")) == len([row for row in TABLE_11 if row.voc2007])
    assert paper_rows("clothing") == []


def test_caltechs_layout_with_the_background_class(tmp_path, make_folder):
    make_folder("caltech/101_ObjectCategories", {"BACKGROUND_Google": 5, "Faces": 5, "accordion": 5})
    for given in (tmp_path / "caltech", tmp_path / "caltech/101_ObjectCategories"):
        data = open_for_transfer(given, TransferOptions())
        assert data.name == "caltech101"
        assert data.classes == ("BACKGROUND_Google", "Faces", "accordion")
    make_folder("caltech256/256_ObjectCategories", {"001.ak47": 5, "257.clutter": 5})
    assert open_for_transfer(tmp_path / "caltech256", TransferOptions()).classes == ("ak47", "clutter")


def test_damaged_images_are_left_out_and_named(features, folder):
    (folder / "dark/3.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"3\.png"):
        transfer(features, folder)
    result = transfer(features, folder, TransferOptions(damaged="skip"))
    assert result.skipped == ["dark/3.png"]
    assert result.splits[0].num_train + result.splits[0].num_images == 59


def test_several_classes_an_image(features, tmp_path):
    """Average precision, sigmoids, a folder; error rates are refused with the way to have others."""
    main = tmp_path / "VOC2007/ImageSets/Main"
    main.mkdir(parents=True)
    (tmp_path / "VOC2007/JPEGImages").mkdir()
    generator = np.random.default_rng(0)
    for split, count, first in (("train", 24, 0), ("val", 8, 24), ("test", 12, 32)):
        targets = generator.choice([-1, 1], (count, 3))
        targets[0] = 0
        for index, name in enumerate(("cat", "dog", "person")):
            lines = [f"{first + n:06d} {targets[n, index]:2d}" for n in range(count)]
            (main / f"{name}_{split}.txt").write_text("\n".join(lines))
        for number in range(count):
            picture(first + number, 70, 64).save(tmp_path / f"VOC2007/JPEGImages/{first + number:06d}.jpg")
    out = tmp_path / "out"
    result = transfer(features, tmp_path / "VOC2007", TransferOptions(out=out))
    one = result.splits[0]
    assert (result.metric, result.top1_error, result.multi_label) == ("map", None, True)
    assert (one.measured_on, one.num_train, one.num_images) == ("test", 32, 12)
    assert result.eleven_points
    assert result.value == mean_average_precision(one.scores, one.targets, "eleven-points")
    low, high = result.interval95()
    assert low <= result.value <= high
    assert dict(result.beside())["VGG D & E"] == "89.7"
    json.dumps(result.as_record(), allow_nan=False)
    posteriors = TransferredModel(out).predict([np.asarray(picture(32, 70, 64))])
    assert ((posteriors > 0) & (posteriors < 1)).all()
    ranked = Classifier(out).predict(tmp_path / "VOC2007/JPEGImages/000032.jpg", top=3).classes
    assert ranked[0].posterior >= ranked[1].posterior >= ranked[2].posterior
    with pytest.raises(UserError, match=r"several classes an image.*verydeep transfer prints its mean average"):
        evaluate(out, make_labelled(tmp_path))
    for options, complaint in (({"metric": "recall"}, "give map"), ({"per_class": 3}, "--per-class is for one")):
        with pytest.raises(UserError, match=complaint):
            transfer(features, tmp_path / "VOC2007", TransferOptions(**options))
    page = write_transfer_report(out, result, "verydeep transfer x VOC2007").read_text()
    for text in ("eleven points", "VGG D &amp; E", "89.7", "person"):
        assert text in page


def make_labelled(tmp_path):
    for name in ("cat", "dog", "person"):
        (tmp_path / "labelled" / name).mkdir(parents=True)
        for number in range(5):
            picture(number, 64, 64).save(tmp_path / "labelled" / name / f"{number}.png")
    return tmp_path / "labelled"


def test_the_verb(features, folder, tmp_path, verydeep):
    out = tmp_path / "out"
    status, printed, err = verydeep("transfer", features, folder, "--out", out, "--test-scales", 64, "--mirror", "off")
    assert status == 0, err
    assert "photos: 3 classes; pool5 of" in printed
    assert "95% interval" in printed
    assert f"{out}/model.safetensors is a MODEL" in printed
    page = (out / "report.html").read_text()
    assert "Errors by class" in page
    assert "--mirror off" in page
    status, printed, _ = verydeep("transfer", features, folder, "--per-class", 5, "--splits", 2, "--json")
    record = json.loads(printed)
    assert record["metric"] == "recall"
    assert 0 <= record["recall"] <= 1
    assert record["top1_error"] == pytest.approx(1 - record["accuracy"])
    assert len(record["splits"]) == 2
    status, _, err = verydeep("transfer", folder)
    assert (status, err.count("\n")) == (2, 1)
    assert "give a model and then the data" in err
    status, printed, _ = verydeep("predict", out, folder / "dark/1.png", "--json")
    assert json.loads(printed)["images"][0]["classes"][0]["name"] == "dark"
    assert verydeep("transfer", features, folder, "--out", out, "--test-scales", "64,96")[0] == 0
    status, _, err = verydeep("predict", out, folder / "dark/1.png", "--heatmap", tmp_path / "maps")
    assert status == 2
    assert "has no score map: transfer with one net at one scale" in err
    status, printed, _ = verydeep("evaluate", out, folder, "--json")
    assert json.loads(printed)["protocol"] == "descriptors"


def test_labels_that_are_wrong_are_on_the_page(features, make_folder, tmp_path, verydeep, monkeypatch):
    folder = make_folder("photos", {"dark": 20, "grey": 20, "bright": 20})

    def found(scores, labels):
        """The fourth image that was fitted on."""
        given = int(labels[3])
        numbers = {"given_posterior": 0.01, "posterior": 0.97, "doubt": 0.9}
        return [DoubtfulLabel(index=3, given=given, suggested=(given + 1) % 3, **numbers)]

    monkeypatch.setattr("verydeep.transfer.findings.find_doubtful_labels", found)
    out, options = tmp_path / "out", ("--test-scales", 64, "--mirror", "off")
    result = transfer(features, folder, TransferOptions(out=tmp_path / "first", test_scales=(64,), mirror="off"))
    (one,) = result.doubtful
    name, given = result.all_names[one.index], result.classes[one.given]
    assert name not in result.names
    assert name.startswith(given)
    assert result.curve is not None
    status, _, err = verydeep("transfer", features, folder, "--out", out, *options)
    assert status == 0, err
    page = (out / "report.html").read_text()
    assert "Labels to look at" in page
    assert page.count("data:image/jpeg") == 1
    assert "1 label of the " in err
    assert verydeep("transfer", features, folder, "--out", out, *options, "--no-pictures")[0] == 0
    page = (out / "report.html").read_text()
    assert "data:image" not in page
    assert f"<td>{name}</td><td>{given}</td><td>{result.classes[one.suggested]}</td>" in page
    assert transfer(features, folder, TransferOptions(test_scales=(64,), mirror="off")).curve is None


def test_a_model_of_a_drawn_split_says_that_it_knows_the_test_images(features, folder, tmp_path, verydeep):
    for number, scales in enumerate([(64,), (64, 96)]):
        out = tmp_path / f"out{number}"
        transfer(features, folder, TransferOptions(per_class=5, splits=1, out=out, test_scales=scales, mirror="off"))
        status, printed, err = verydeep("evaluate", out, folder)
        assert status == 0, err
        assert "The weights were selected on test: this error is lower than on new images." in printed
    card = read_card(tmp_path / "out0")
    assert card.results[0]["split"] == "held-out"
    assert "which the weights were selected on" not in card_facts(card)["errors"]


def test_square_roots_of_descriptors(features, folder, tmp_path):
    result = transfer(features, folder, TransferOptions(out=tmp_path / "out", root=True))
    assert result.model == str(tmp_path / "out")
    assert result.describing["root"]
    assert evaluate(tmp_path / "out", folder).top1_error == result.top1_error
    images = open_data(folder).val
    options = {"test_scales": (64, 96), "mirror": False}
    plain = describe([load(features)], images, DescriptorOptions(**options))
    rooted = describe([load(features)], images, DescriptorOptions(**options, root=True))
    expected = np.sqrt(plain).reshape(len(images), 2, -1)  # of a ReLU: none is below 0
    expected /= np.linalg.norm(expected, axis=2, keepdims=True) * np.sqrt(2)
    np.testing.assert_allclose(rooted, expected.reshape(len(images), -1), atol=1e-6)
