"""The options of a training: one declaration for the command line, Python, run.json and chains."""

import ast
import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import verydeep
from verydeep.errors import UsageError, UserError
from verydeep.runs import options as module
from verydeep.runs.options import COMPUTE_FIELDS, ComputeOptions, TrainOptions, read_keywords


def test_every_option_has_its_help_under_it():
    (body,) = (
        node.body
        for node in ast.parse(Path(module.__file__).read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "TrainOptions"
    )
    helped = [
        before.target.id
        for before, after in itertools.pairwise(body)
        if isinstance(before, ast.AnnAssign)
        and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    ]
    assert helped == [field.name for field in dataclasses.fields(TrainOptions)]
    assert set(COMPUTE_FIELDS) < set(helped)


def test_the_keywords_of_the_first_version_mean_what_they_did():
    execution = verydeep.ComputeOptions(device="cpu", precision="fp32", checkpoint_seconds=90.0, micro_batch=3)
    old = read_keywords({"execution": execution, "hold_out": False, "skip_damaged": True, "go_on": True, "out": "x"})
    assert old == TrainOptions(
        device="cpu", precision="fp32", checkpoint_minutes=1.5, micro_batch=3, no_validation=True, damaged="skip",
        resume=True, out=Path("x"),
    )  # fmt: skip
    assert old.checkpoint_seconds == 90
    assert read_keywords({"execution": None, "changes": None, "hold_out": True}) == TrainOptions()


def test_fields_of_the_recipe_are_keywords_too():
    found = read_keywords({"learning_rate": 0.1, "changes": {"dropout": 0}, "epochs": 3, "patience": 4})
    assert found == TrainOptions(changes={"dropout": 0, "learning_rate": 0.1}, epochs=3, patience=4)
    assert read_keywords({"hold_out": False, "label_smoothing": 0.2}).changes == {"label_smoothing": 0.2}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lr", "do you mean learning_rate[?]"),
        ("class_weight", "do you mean balance=loss[?]"),
        ("Oversample", "do you mean balance=sampling[?]"),
        ("label_smooth", "do you mean label_smoothing[?]"),
        ("archtecture", "do you mean architecture[?]"),
        ("speed_of_light", "there are architecture, balance"),
        ("name", "no option 'name'"),
    ],
)
def test_a_keyword_that_there_is_not_gets_a_guess(name, message):
    with pytest.raises(UsageError, match=message) as raised:
        read_keywords({name: 9})
    assert "\n" not in str(raised.value)


def test_an_option_of_its_own_wins_over_a_change_of_the_recipe():
    options = TrainOptions(recipe="quick", changes={"epochs": 9, "dropout": 0}, epochs=3, train_scale=(32, 40))
    recipe = options.find_recipe()
    assert (recipe.epochs, recipe.dropout, recipe.train_scale, recipe.batch_size) == (3, 0, (32, 40), 64)


def test_a_record_gives_the_same_options_again():
    options = TrainOptions(architecture="B", changes={"dropout": 0}, train_scale=(32, 40), init_from=Path("runs/a"))
    record = json.loads(json.dumps(options.as_record()))
    assert TrainOptions.from_record(record) == dataclasses.replace(options, init_from=str(Path("runs/a")))
    assert "out" not in record
    assert TrainOptions.from_record(record | {"an option of later": 1}).architecture == "B"


@pytest.mark.parametrize(
    ("options", "data", "given", "message"),
    [
        ({"resume": True}, None, (), "give the run folder with --out"),
        ({}, None, (), "which data"),
        ({"resume": True, "out": Path("x")}, None, ("--epochs",), "--epochs cannot change"),
        ({"resume": True, "out": Path("x"), "plan": True}, None, (), "--plan: give the data"),
        ({"recipe": "slow"}, "digits", (), "unknown recipe 'slow'.*paper-chain"),
        ({"recipe": "paper-chain", "epochs": 0}, "digits", (), "epochs 0"),
        ({"workers": -1}, "digits", (), "-1 workers"),
        ({"micro_batch": 0}, "digits", (), "a micro-batch of 0"),
        ({"checkpoint_minutes": float("nan")}, "digits", (), "must be above 0"),
        ({"precision": "fp8"}, "digits", (), "unknown precision"),
    ],
)
def test_what_cannot_be_right_is_refused_before_anything_is_read(options, data, given, message):
    with pytest.raises(UsageError, match=message):
        TrainOptions(**options).check(data, given)


def test_the_run_has_the_options_it_began_with(make_folder, tmp_path):
    photos = make_folder("photos", {"dark": 6, "bright": 6})
    compute = ComputeOptions(device="cpu", precision="fp32")
    trained = verydeep.train(
        photos, recipe="quick", crop=32, width=0.05, epochs=1, out=tmp_path / "run", execution=compute
    )
    settings = json.loads((tmp_path / "run/run.json").read_text())
    assert trained.finished
    assert TrainOptions.from_record(settings["options"]) == TrainOptions(
        architecture="A",
        batch_norm=False,
        recipe="quick",
        crop=32,
        width=0.05,
        epochs=1,
        device="cpu",
        precision="fp32",
    )
    assert settings["recipe"]["epochs"] == 1


def test_fit_refuses_what_it_would_not_heed(make_folder, tmp_path):
    photos = make_folder("photos", {"dark": 6, "bright": 6})
    net = verydeep.VeryDeep("A", num_classes=2, crop=32, width=0.05)
    with pytest.raises(UsageError, match="architecture chooses the net, and fit is given one"):
        verydeep.fit(net, photos, architecture="B", out=tmp_path / "run")
    with pytest.raises(UsageError, match="epochs is a field of the recipe"):
        verydeep.fit(net, photos, recipe=verydeep.RECIPES["quick"], epochs=3, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, "which data"),
        (
            ("vgg16-features", "photos"),
            {},
            r"of type str: give verydeep.load\('vgg16-features'\), or fit",
        ),
        ((7, "photos"), {}, "of type int: give a VeryDeep"),
        (("photos",), {"recipe": "fine-tune"}, "fine-tune continues a trained net: give one, fit"),
        (("photos",), {"recipe": verydeep.RECIPES["quick"]}, "a Recipe trains a net that is given"),
        (("photos",), {"recipe": "quick", "learning_rat": 1}, "do you mean learning_rate"),
        (("photos",), {"recipe": "quick"}, "no data 'photos'"),
    ],
)
def test_fit_says_what_it_lacks(arguments, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        verydeep.fit(*arguments, **options)


def test_fit_without_data_for_its_net():
    with pytest.raises(UsageError, match=r"fit\(net, data\)"):
        verydeep.fit(verydeep.VeryDeep("A", num_classes=2, crop=32, width=0.05))


def test_fit_takes_data_alone_and_fields_of_the_recipe(tmp_path):
    pairs = [(np.full((32, 32, 3), 40 + 160 * (index % 2), np.uint8), "ab"[index % 2]) for index in range(30)]
    options = {"recipe": "quick", "epochs": 1, "learning_rate": 0.01, "label_smoothing": 0.1, "seed": 3}
    trained = verydeep.fit(pairs, out=tmp_path / "alone", crop=32, width=0.05, **options)
    recipe = json.loads((tmp_path / "alone/run.json").read_text())["recipe"]
    assert (recipe["learning_rate"], recipe["label_smoothing"], recipe["epochs"]) == (0.01, 0.1, 1)
    assert trained.net.classes == ("a", "b")
    net = verydeep.VeryDeep(
        "A", num_classes=2, crop=32, width=0.05, generator=torch.Generator().manual_seed(3), initialisation="centred"
    )
    given = verydeep.fit(net, pairs, out=tmp_path / "given", **options)
    assert torch.equal(given.net.fc8.weight, trained.net.fc8.weight)
    assert repr(trained).startswith("TrainedRun(")
    assert "top1_error=" in repr(trained)
    assert "conv1_1" not in repr(trained)
