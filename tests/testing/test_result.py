"""Fusion by hand, and what may not be fused; files of posteriors, and damaged ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from verydeep.errors import UserError
from verydeep.testing.result import (
    Member,
    Result,
    check_writable,
    fuse,
    is_saved_posteriors,
    load_posteriors,
    save_posteriors,
)

CLASSES = ("cat", "dog", "caf\N{LATIN SMALL LETTER E WITH ACUTE}")


def make_result(seed, **changes):
    generator = np.random.default_rng(seed)
    labels = np.random.default_rng(99).integers(0, 6, 40)
    member = Member(
        model=f"runs/{seed}",
        architecture="D",
        protocol="single",
        test_scales=(256,),
    )
    result = Result(
        posteriors=generator.dirichlet(np.ones(6), 40).astype(np.float32),
        labels=labels,
        names=[f"{number}.png" for number in range(40)],
        classes=tuple("abcdef"),
        members=(member,),
        split="val",
        seconds=10.0,
        data="six",
        fingerprint="f",
    )
    return replace(result, **changes)


def test_fusion_is_the_mean_by_hand():
    results = [make_result(seed) for seed in range(3)]
    fused = fuse(results)
    by_hand = [
        [sum(float(result.posteriors[image, k]) for result in results) / 3 for k in range(6)] for image in range(40)
    ]
    assert np.allclose(fused.posteriors, by_hand, atol=1e-7)
    wrong = sum(int(np.argmax(row)) != label for row, label in zip(by_hand, fused.labels, strict=True))
    assert fused.top1_error == pytest.approx(wrong / 40)
    record = fused.as_record()
    assert record["architecture"] == ["D", "D", "D"]
    assert record["protocol"] == "single"
    assert record["seconds"] == 30
    assert fuse(results[:1]) is results[0]


def test_a_result_shows_its_errors():
    result = make_result(0)
    assert repr(result) == (
        f"Result(top1_error={result.top1_error}, top5_error={result.top5_error}, split='val', protocol='single', "
        "test_scales=(256,), architecture='D', data='six', num_images=40)"
    )


def test_a_net_with_one_answer_is_named():
    certain = np.tile(np.eye(6, dtype=np.float32)[2], (40, 1))
    result = make_result(0, posteriors=certain)
    assert result.only_answer == "c"
    assert result.warning == (
        "the net answers 'c' for every one of the 40 val images: it tells no two classes apart, whatever its error"
    )
    assert make_result(0).warning is None
    assert make_result(0, posteriors=certain, labels=np.full(40, 2)).only_answer is None  # there is one class only
    few = make_result(0, posteriors=certain[:9], labels=result.labels[:9], names=result.names[:9])
    assert few.only_answer is None


def test_a_fusion_says_what_any_of_its_members_was_selected_on():
    selected = make_result(1, members=(replace(make_result(1).members[0], selected_on="val"),))
    assert fuse([make_result(0), selected]).selected_on == "val"
    assert fuse([make_result(0), make_result(2)]).selected_on is None


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"classes": tuple("abcdfe")}, "different classes: 'e' where the other has 'f'"),
        ({"data": "seven"}, "different data, six and seven"),
        ({"split": "test"}, "different splits, val and test"),
        ({"names": [f"{number}.png" for number in range(1, 41)]}, "'0.png' where the other has '1.png'"),
        ({"names": [f"{number}.png" for number in range(39)]}, "40 and 39"),
        ({"fingerprint": "g"}, "files changed"),
        ({"labels": np.zeros(40, dtype=np.int64)}, "different labels, as of"),
    ],
)
def test_other_images_are_refused_by_name(changes, complaint):
    with pytest.raises(UserError, match=complaint):
        fuse([make_result(0), make_result(1, **changes)])


def test_class_errors_add_up():
    result = make_result(0)
    counts = result.class_counts()
    total = sum((error or 0) * counts[name] for name, error in result.class_errors().items())
    assert total / 40 == pytest.approx(result.top1_error)
    assert replace(result, labels=np.zeros(40, dtype=np.int64)).class_errors()["b"] is None


def make_saved(seed=0, count=7):
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
            ),
        ),
        split="test",
        seconds=3.5,
        data="pets",
        fingerprint="abc",
        skipped=["cat/broken.png"],
    )


def test_what_is_written_is_read(tmp_path):
    result, file = make_saved(), tmp_path / "one.safetensors"
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
    save_posteriors(make_saved(), file)
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
    save_posteriors(make_saved(), file)
    before = file.read_bytes()

    def fail(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("verydeep.testing.result.save_file", fail)
    with pytest.raises(UserError, match="No space left"):
        save_posteriors(replace(make_saved(), split="val"), file)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [before]


def test_a_file_of_the_first_version_with_costs_is_read(tmp_path):
    result, file = make_saved(), tmp_path / "one.safetensors"
    save_posteriors(result, file)
    with safe_open(file, framework="np") as opened:
        tensors = {name: opened.get_tensor(name) for name in ("posteriors", "labels")}
        ((key, text),) = opened.metadata().items()
    card = json.loads(text)
    card["members"][0]["cost"] = {"forward_passes": 6, "macs": 123, "seconds_per_image": 0.5}
    save_file(tensors, file, metadata={key: json.dumps(card)})
    assert load_posteriors(file).members == result.members
