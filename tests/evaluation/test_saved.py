"""Saved posteriors: what is written is what is read, and what is damaged is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from verydeep.errors import UserError
from verydeep.evaluation.cost import Cost
from verydeep.evaluation.result import Member, Result
from verydeep.evaluation.saved import check_writable, is_saved_posteriors, load_posteriors, save_posteriors

CLASSES = ("cat", "dog", "caf\N{LATIN SMALL LETTER E WITH ACUTE}")


def make_result(seed=0, count=7):
    generator = np.random.default_rng(seed)
    scores = generator.random((count, 3)).astype(np.float32)
    return Result(
        posteriors=scores / scores.sum(1, keepdims=True),
        labels=generator.integers(0, 3, count),
        names=[f"cat/{number}.png" for number in range(count - 1)] + ["dog/\udcff.png"],  # no Unicode
        classes=CLASSES,
        members=(
            Member(
                model="runs/one",
                architecture="D",
                protocol="multi-scale",
                test_scales=(64, 73, 82),
                selected_on="val",
                cost=Cost(forward_passes=6, macs=123, seconds_per_image=0.5),
            ),
        ),
        split="test",
        seconds=3.5,
        data="pets",
        fingerprint="abc",
        skipped=["cat/broken.png"],
    )


def test_what_is_written_is_read(tmp_path):
    result, file = make_result(), tmp_path / "one.safetensors"
    save_posteriors(result, file)
    assert is_saved_posteriors(file)
    found = load_posteriors(file)
    assert np.array_equal(found.posteriors, result.posteriors)
    assert np.array_equal(found.labels, result.labels)
    assert list(found.names) == list(result.names)
    assert found.as_record() == result.as_record()
    assert found.members == result.members
    assert (found.classes, found.fingerprint) == (CLASSES, "abc")
    with safe_open(file, framework="np") as opened:
        (text,) = opened.metadata().values()
    assert json.loads(text)["members"][0]["test_scales"] == [64, 73, 82]


@pytest.mark.parametrize("kind", ["shape", "labels", "card", "no names", "text"])
def test_damaged_files_are_refused(kind, tmp_path):
    file = tmp_path / "one.safetensors"
    save_posteriors(make_result(), file)
    with safe_open(file, framework="np") as opened:
        tensors = {name: opened.get_tensor(name) for name in ("posteriors", "labels")}
        ((key, text),) = opened.metadata().items()
    card = json.loads(text)
    match kind:
        case "shape":
            tensors["posteriors"] = tensors["posteriors"][:, :2].copy()
        case "labels":
            tensors["labels"][3] = 3
        case "card":
            del card["split"]
        case "no names":
            card["names"] = card["names"][:-1]
    if kind == "text":
        file.write_text("posteriors")
    else:
        save_file(tensors, file, metadata={key: json.dumps(card)})
    with pytest.raises(UserError, match=r"one\.safetensors"):
        load_posteriors(file)


def test_a_model_file_is_no_posteriors_and_is_not_written_over(tmp_path):
    file = tmp_path / "net.safetensors"
    save_file({"a": np.zeros(3)}, file)
    assert not is_saved_posteriors(file)
    assert not is_saved_posteriors(tmp_path / "none")
    with pytest.raises(UserError, match="holds no posteriors"):
        load_posteriors(file)
    with pytest.raises(UserError, match="give another name"):
        check_writable(file)
    check_writable(tmp_path / "new.safetensors")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "one.safetensors"
    save_posteriors(make_result(), file)
    before = file.read_bytes()

    def fail(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("verydeep.evaluation.saved.save_file", fail)
    with pytest.raises(UserError, match="No space left"):
        save_posteriors(replace(make_result(), split="val"), file)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [before]
