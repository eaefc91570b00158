"""Trains localisers of drawn images: both ways, resumed to the same weights, stopped, refused."""

import json
from pathlib import Path

import pytest
import torch

from boxed_sets import boxed_set
from conftest import StopAfter
from small_nets import make_net
from verydeep import Localiser, UserError, load, save
from verydeep.errors import UsageError
from verydeep.localisation import start
from verydeep.localisation.options import LocaliseOptions
from verydeep.localisation.start import hidden_for, resume, train, views_for
from verydeep.nets.stored_net import read_progress
from verydeep.runs.listing import summarise
from verydeep.runs.resume import resume as resume_classifier
from verydeep.training.run_folder import CLASSIFIER_FILE
from verydeep.weights.resolve import read_card


def convolutions(folder: Path, crop: int = 32) -> Path:
    net = make_net("A", crop=crop, features_only=True, width=0.25)
    net.set_input((60.0, 60.0, 60.0), (60.0, 60.0, 60.0))
    save(net, folder / "convolutions.safetensors")
    return folder / "convolutions.safetensors"


def classifier(folder: Path, classes: tuple[str, ...] = ("disc", "square")) -> Path:
    net = make_net("A", crop=32, num_classes=len(classes), width=0.125, initialisation="centred")
    net.set_input((60.0, 60.0, 60.0), (60.0, 60.0, 60.0))
    net.classes = classes
    net.train_scale = (36, 36)
    save(net, folder / "classifier.safetensors")
    return folder / "classifier.safetensors"


def on_maps(folder: Path, **options) -> LocaliseOptions:
    begin = options.pop("init_from", None) or convolutions(folder)
    given = {"init_from": begin, "views": 3, "epochs": 4, "device": "cpu"} | options
    return LocaliseOptions(**{"out": folder / "run"} | given)


def on_images(folder: Path, **options) -> LocaliseOptions:
    given = {"init_from": classifier(folder), "epochs": 3, "batch_size": 16, "device": "cpu"} | options
    return LocaliseOptions(**{"out": folder / "run"} | given)


WAYS = pytest.mark.parametrize("way", [on_maps, on_images])


def weights(model: Path) -> dict[str, torch.Tensor]:
    return load(model).state_dict()


@WAYS
def test_a_localiser_is_a_model_file_that_says_what_it_is(way, tmp_path):
    trained = train(boxed_set(), way(tmp_path))
    assert trained.finished
    card = read_card(tmp_path / "run")
    assert card.boxes is not None
    assert (card.boxes.regression, card.boxes.classes, card.num_classes) == ("pcr", ("disc", "square"), 8)
    assert card.errors == {
        "split": "val",
        "protocol": "centre",
        "num_images": 12,
        "localisation_error": trained.localisation_error,
    }
    localiser = Localiser.load(tmp_path / "run")
    assert localiser.classes == ("disc", "square")
    summary = summarise(tmp_path / "run")
    assert (summary.state, summary.top1_error) == ("finished", trained.localisation_error)
    assert "localisation error" in (tmp_path / "run" / "report.html").read_text()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["run"] == str(tmp_path / "run")


@WAYS
def test_a_run_that_was_interrupted_ends_with_the_same_weights(way, tmp_path, monkeypatch):
    monkeypatch.setattr("verydeep.training.loop.SECONDS_BETWEEN_REPORTS", 0)  # callbacks see every update
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = train(boxed_set(), way(tmp_path / "a"))
    stopped = train(boxed_set(), way(tmp_path / "b"), callbacks=[StopAfter(1)])
    assert not stopped.finished
    assert stopped.localisation_error is None
    progress = read_progress(stopped.run / "checkpoint.safetensors")
    assert progress["iteration"] > 0  # in the middle of an epoch
    resumed = resume(stopped.run, data=boxed_set())
    assert resumed.finished
    assert resumed.localisation_error == whole.localisation_error
    ours, theirs = weights(whole.model), weights(resumed.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_on_stored_maps_the_convolutions_stay_and_boxes_are_learnt(tmp_path):
    start = convolutions(tmp_path, crop=96)
    trained = train(boxed_set(96, num_classes=1), on_maps(tmp_path, epochs=30, views=6, init_from=start))
    begun, ended = weights(tmp_path / "convolutions.safetensors"), weights(trained.model)
    assert all(torch.equal(tensor, ended[name]) for name, tensor in begun.items())
    log = [json.loads(line) for line in (trained.run / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    assert read_card(trained.model).boxes.classifier is None  # one class needs none


def test_all_layers_of_a_classifier_learn_or_the_fully_connected_ones(tmp_path):
    begun = weights(classifier(tmp_path))
    for finetune, trained_ones in (("all", True), ("fc", False)):
        run = train(boxed_set(), on_images(tmp_path, finetune=finetune, epochs=1, out=tmp_path / finetune))
        ended = weights(run.model)
        assert torch.equal(begun["conv1_1.weight"], ended["conv1_1.weight"]) != trained_ones
        assert not torch.equal(begun["fc6.weight"], ended["fc6.weight"])
        assert load(run.model).train_scale == (36, 36)
        assert read_card(run.model).boxes.classifier == str((tmp_path / "classifier.safetensors").resolve())


def test_without_a_classifier_a_linear_one_is_fitted_first(tmp_path):
    run = train(boxed_set(), on_maps(tmp_path)).run
    boxes = read_card(run).boxes
    assert boxes.classifier == CLASSIFIER_FILE
    card = read_card(run / CLASSIFIER_FILE)
    assert (card.classes, card.head) == (("disc", "square"), "linear")
    assert card.errors["top1_error"] < 0.5
    assert Localiser(run).classifier == str(run / CLASSIFIER_FILE)  # found beside the model file


def test_one_box_for_all_classes_has_four_outputs(tmp_path):
    trained = train(boxed_set(), on_maps(tmp_path, regression="scr"))
    assert load(trained.model).geometry.num_classes == 4


def test_widths_and_views_follow_the_number_of_images():
    assert [hidden_for(count, 1, 7) for count in (200, 1000, 20_000, 10**6)] == [256, 512, 1024, 4096]
    assert hidden_for(200, 6, 7) == 544  # maps of 11 functions at 49 positions
    assert hidden_for(200, 1000, 7) == 256
    assert [views_for(count) for count in (50, 200, 1000, 10**6)] == [20, 20, 4, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 3}, "--views is of new layers"),
        ({"hidden": 64}, "--hidden is of new layers"),
        ({"changes": {"trainable": "fc"}}, "give --finetune"),
        ({"train_scale": 20}, "below the crop of 32"),
    ],
)
def test_options_that_contradict_are_refused(options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        train(boxed_set(), on_images(tmp_path, **options))
    assert not (tmp_path / "run").exists()


def test_verbs_refuse_each_others_runs_and_models(tmp_path):
    run = train(boxed_set(), on_maps(tmp_path, epochs=1)).run
    with pytest.raises(UserError, match="is a run of localise train: verydeep localise train --resume --out"):
        resume_classifier(run)
    with pytest.raises(UsageError, match="is a localiser of other classes, or not scr: give the classifier"):
        train(boxed_set(), LocaliseOptions(init_from=run, regression="scr", out=tmp_path / "other"))
    with pytest.raises(UserError, match="is no localiser: verydeep localise train DATA --init-from"):
        Localiser(classifier(tmp_path))
    with pytest.raises(UsageError, match="began with epochs"):
        train(boxed_set(), on_maps(tmp_path, epochs=2, resume=True))


def test_a_rate_that_is_too_high_is_said_in_a_line(tmp_path):
    options = on_maps(tmp_path, changes={"learning_rate": 1e20, "most_gradient": 0})
    with pytest.raises(UserError, match=r"the loss is (nan|inf).*--set learning_rate"):
        train(boxed_set(), options)


def test_data_are_opened_with_their_boxes(tmp_path, monkeypatch):
    asked = []

    def open_boxed(data, **options):
        asked.append((data, options["skip_damaged"]))
        return boxed_set()

    monkeypatch.setattr(start, "open_boxed", open_boxed)
    stopped = train("pictures", on_maps(tmp_path, damaged="skip"), callbacks=[StopAfter(2)])
    resume(stopped.run)
    assert asked == [("pictures", True)] * 2


def test_all_layers_of_a_localiser_may_learn_after_its_new_ones(tmp_path):
    first = train(boxed_set(), on_maps(tmp_path))
    options = on_images(
        tmp_path, init_from=first.run, out=tmp_path / "second", epochs=1, changes={"learning_rate": 1e-9}
    )
    second = train(boxed_set(), options)
    begun, ended = weights(first.model), weights(second.model)
    assert all(torch.allclose(begun[name], ended[name], atol=1e-4) for name in begun)  # fc8 too
    assert second.localisation_error == pytest.approx(first.localisation_error, abs=0.1)
    assert Localiser(second.run).classifier == str(first.run / CLASSIFIER_FILE)
