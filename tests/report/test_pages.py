"""The report: its figures against scikit-learn, and its page in a browser where there is one."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image
from sklearn.metrics import confusion_matrix, recall_score

from browser import chromium, opened
from conftest import StopAfter, scene
from verydeep.data.open import open_data
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.report.pages import page_text, write_page
from verydeep.runs.evaluation_report import errors_of, page_of_result
from verydeep.runs.fit import train
from verydeep.runs.resume import resume
from verydeep.testing.evaluate import evaluate
from verydeep.testing.metrics import confusion_counts, errors_by_class
from verydeep.testing.result import Member, Result
from verydeep.training.health import Finding

HOSTILE = "<script>alert('red')</script> & co"


def made_up(num_images, num_classes):
    """A test of random posteriors."""
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(num_images, num_classes))
    labels = generator.integers(0, num_classes, num_images)
    scores[range(num_images), labels] += 2
    posteriors = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return Result(
        posteriors=posteriors.astype(np.float32),
        labels=labels,
        names=[f"{index}.png" for index in range(num_images)],
        classes=tuple(f"class {index}" for index in range(num_classes)),
        members=(Member(model="", architecture="A", protocol="single", test_scales=(64,)),),
        split="test",
        seconds=1.0,
    )


class NoImages:
    """Images of which nothing can be seen."""

    def __init__(self, result):
        self.result = result

    def __len__(self):
        return len(self.result.labels)

    def read(self, index):
        return Image.new("RGB", (40, 30))


def page(result, title="t", selected_on=None, images=None, net=None, log=(), commands=(), facts=None):
    errors = errors_of(result, images or NoImages(result), net)
    return page_of_result(title, result, errors, selected_on=selected_on, log=log, commands=commands, facts=facts or {})


def text_of(result, **options):
    return page_text(page(result, **options))


def worst_of(result, images, net=None):
    return errors_of(result, images, net).worst


def log(epochs, **findings):
    lines = [
        {"epoch": n + 1, "loss": 2 / (n + 1), "train_error": 0.9 / (n + 1), "val_top1_error": 0.8 / (n + 1)}
        for n in range(epochs)
    ]
    for epoch, found in findings.items():
        lines[int(epoch[1:]) - 1]["findings"] = [found.as_record()]
    return lines


@pytest.fixture
def photos(tmp_path):
    """A folder of scenes in two classes, one of which has a name that tries to break the page."""
    name = HOSTILE.replace("/", "\N{FRACTION SLASH}")
    for number, folder in enumerate((name, "green")):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for index in range(30):
            scene(100 * number + index, 90, 60 + index % 3).save(tmp_path / "photos" / folder / f"{index}.png")
    return tmp_path / "photos"


@pytest.fixture
def model(tmp_path, photos):
    net = VeryDeep("A", num_classes=2, crop=32, width=0.125, batch_norm=True).eval()
    net.classes = open_data(photos).classes
    save(net, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_errors_by_class_and_confusion_equal_scikit_learns():
    result = made_up(400, 7)
    said = result.posteriors.argmax(1)
    counts = confusion_counts(result.posteriors, result.labels, range(7))
    np.testing.assert_array_equal(counts[:, :-1], confusion_matrix(result.labels, said))
    assert not counts[:, -1].any()
    few = confusion_counts(result.posteriors, result.labels, [5, 2])
    whole = confusion_matrix(result.labels, said)
    np.testing.assert_array_equal(few[:, :2], whole[np.ix_([5, 2], [5, 2])])
    np.testing.assert_array_equal(few.sum(1), whole[[5, 2]].sum(1))
    recalls = recall_score(result.labels, said, average=None)
    errors = errors_by_class(result.posteriors, result.labels, result.classes)
    assert [each.error for each in errors] == sorted((each.error for each in errors), reverse=True)
    for each in errors:
        assert each.error == pytest.approx(1 - recalls[each.index])
        assert each.interval[0] <= each.error <= each.interval[1]
        others = np.delete(whole[each.index], each.index)
        assert each.times == others.max()
        assert whole[each.index, result.classes.index(each.taken_for)] == each.times


def test_a_class_without_images_or_mistakes():
    result = made_up(3, 4)
    result.posteriors[:] = 0.01
    result.labels[:] = [0, 0, 2]
    result.posteriors[range(3), [0, 0, 3]] = 0.9
    worst, best = errors_by_class(result.posteriors, result.labels, result.classes)
    assert (worst.name, worst.taken_for, worst.times, worst.error) == ("class 2", "class 3", 1, 1.0)
    assert (best.name, best.taken_for, best.times, best.error) == ("class 0", None, 0, 0.0)
    assert "class 1" not in text_of(result)


def test_the_worst_errors_are_those_of_most_confidence(photos, model):
    images = open_data(photos).split("test")
    result = evaluate(model, images)
    wrong = np.flatnonzero(result.posteriors.argmax(1) != result.labels)
    assert len(wrong)
    found = worst_of(result, images)
    confidences = sorted(result.posteriors[wrong].max(1), reverse=True)[:12]
    assert [each.posterior for each in found] == pytest.approx([float(confidence) for confidence in confidences])
    for each in found:
        index = result.names.index(each.name)
        assert result.classes[result.labels[index]] == each.true != each.taken_for
        with Image.open(io.BytesIO(base64.b64decode(each.picture.partition(",")[2]))) as picture:
            assert picture.format == "JPEG"
            whole = images.read(index)
            assert picture.width / picture.height == pytest.approx(whole.width / whole.height, rel=0.02)
    assert len(found) == min(12, len(wrong))


def test_a_net_without_errors_shows_none(photos, model):
    images = open_data(photos).split("test")
    result = evaluate(model, images)
    result.labels[:] = result.posteriors.argmax(1)
    assert worst_of(result, images) == []
    assert "worst errors" not in text_of(result, images=images)


def test_a_thousand_classes_stay_a_page():
    result = made_up(3000, 1000)
    text = text_of(result, title="many")
    assert len(text) < 400_000
    assert "The worst 30 of 9" in text  # some of the 1000 have no image
    assert text.count("<tr><td>") == 30
    assert "any other class" in text
    assert re.search(r"top-5 error.*?interval", text)


def test_findings_are_told_once_and_escaped():
    stuck = Finding("stuck", "the loss has been <2.303>", "too deep", "take batch norm (--batch-norm)")
    text = text_of(made_up(9, 3), selected_on="val", log=log(6, e2=stuck, e4=stuck, e6=stuck))
    assert text.count("The loss has been &lt;2.303&gt;.") == 1
    assert "3 times, epochs 2 to 6" in text
    assert "What the training ran into" not in text_of(made_up(9, 3), log=log(2))


def test_what_the_figures_were_selected_on_is_said():
    result = made_up(9, 3)
    assert "Measured on test images, which the net did not learn from. The weights were selected on val" in text_of(
        result, selected_on="val"
    )
    assert "selected" not in text_of(result)
    object.__setattr__(result, "split", "val")
    assert "expect a higher error" in text_of(result, selected_on="val")
    assert "Nothing was selected on them" in text_of(result)


@pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_opens_in_a_browser_without_a_network(photos, model, tmp_path, width):
    images = open_data(photos).split("test")
    result = evaluate(model, images)
    made = page(
        result,
        title=f"A on {HOSTILE}",
        selected_on="val",
        images=images,
        net=VeryDeep("A", num_classes=2, crop=32, width=0.125),
        log=log(5, e3=Finding("stuck", HOSTILE, "it means", "it helps")),
        commands=[f"verydeep train '{HOSTILE}'"],
        facts={"The data": {"contents": HOSTILE, "width": 0.5, "scales": [256, 512], "mirror": True, "none": None}},
    )
    file = write_page(tmp_path / "report.html", made)
    number = int((result.posteriors.argmax(1) != result.labels).sum())
    dark = opened(file, viewport={"width": width, "height": 800}, color_scheme="dark")
    messages, requests, widths, seen = opened(file, viewport={"width": width, "height": 800}, color_scheme="light")
    assert messages == dark[0] == []
    assert [url for url in requests if not url.startswith("data:")] == [file.absolute().as_uri()]
    assert len(widths) == 2 * min(12, number) > 0
    assert min(widths) > 50
    assert seen["title"] == f"A on {HOSTILE}"
    assert seen["scripts"] == 0
    assert seen["svgs"] >= 2 + 1 + len(result.classes)
    assert seen["overflow"] <= 0
    assert seen["dangling"] == 0
    assert HOSTILE in seen["text"]
    assert "256, 512" in seen["text"]
    assert dark[3]["background"] != seen["background"]


def test_evaluate_writes_a_report(verydeep, photos, model, tmp_path):
    file = tmp_path / "page.html"
    status, out, err = verydeep("evaluate", model, photos, "--report", file, "--json")
    assert status == 0
    assert f"{file} shows" in err.replace("\n", "")
    text = file.read_text()
    assert f"{100 * json.loads(out)['top1_error']:.2f}%" in text
    assert "data:image/jpeg;base64," in text
    assert f"verydeep evaluate {model}" in text
    assert "://" not in text
    assert "<script" not in text
    assert "Learning curves" not in text  # no log lies beside this model


@pytest.mark.parametrize(
    ("file", "status", "message"), [("nowhere/x.html", 2, "there is no folder nowhere"), (".", 2, "is a folder")]
)
def test_a_report_that_cannot_be_written_is_told_before_the_test(
    verydeep, photos, model, monkeypatch, tmp_path, file, status, message
):
    monkeypatch.chdir(tmp_path)
    before = sorted(Path().iterdir())
    code, out, err = verydeep("evaluate", model, photos, "--report", file)
    assert (code, out) == (status, "")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(Path().iterdir()) == before


def test_damaged_images_and_very_long_ones_do_not_stop_a_report(verydeep, photos, model, tmp_path):
    images = open_data(photos).split("test")
    (photos / images.names[0]).write_bytes(b"no image")
    result = evaluate(model, images, skip_damaged=True)
    assert (result.posteriors.argmax(1) != result.labels).any()
    for name in result.names:
        Image.new("RGB", (1, 10_000)).save(photos / name)  # a centre crop of it can be tested, no map made
    file = tmp_path / "page.html"
    status, out, _ = verydeep(
        "evaluate", model, photos, "--report", file, "--damaged", "skip", "--protocol", "centre", "--json"
    )
    assert status == 0
    record = json.loads(out)
    text = file.read_text()
    assert record["top1_error"] > 0
    assert "Score map" not in text
    assert "data:image/jpeg" in text
    assert record["skipped"] == [images.names[0]]
    assert "1 damaged image was left out" in text


def test_a_report_without_pictures_names_the_worst_errors(verydeep, photos, model, tmp_path):
    file = tmp_path / "page.html"
    status, _, err = verydeep("evaluate", model, photos, "--report", file, "--no-pictures")
    assert status == 0
    assert "in pictures" not in err
    text = file.read_text()
    assert "data:image" not in text
    assert "The worst errors" in text
    images = open_data(photos).split("test")
    net = VeryDeep("A", num_classes=2, crop=32, width=0.125)
    worst = errors_of(evaluate(model, images), images, net, pictures=False).worst
    assert worst
    for each in worst:
        assert each.picture is each.map is None
        assert f"<td>{escape(each.name)}</td>" in text
    status, _, err = verydeep("evaluate", model, photos, "--no-pictures")
    assert (status, "give --report with it" in err) == (2, True)


def test_a_training_of_private_photographs_keeps_to_it_when_resumed(photos, tmp_path, monkeypatch):
    clock = iter(range(10**9))
    monkeypatch.setattr("verydeep.training.loop.time.perf_counter", lambda: float(next(clock)))  # report every update
    options = {"out": tmp_path / "run", "architecture": "A", "width": 0.125, "crop": 32, "epochs": 2}
    begun = train(photos, **options, recipe="quick", batch_size=16, no_pictures=True, reporter=StopAfter(4))
    assert not begun.finished
    assert json.loads((tmp_path / "run/run.json").read_text())["options"]["no_pictures"] is True
    assert resume(tmp_path / "run").finished
    text = (tmp_path / "run/report.html").read_text()
    assert "Errors by class" in text
    assert "data:image" not in text
