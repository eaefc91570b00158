"""The loop: it learns, it resumes as if nothing had happened, it stops when asked, and it leaves nothing half done."""

import json
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from conftest import StopAfter
from verydeep.data.open import open_data
from verydeep.device import Compute
from verydeep.errors import UsageError, UserError
from verydeep.nets.grow import grow
from verydeep.nets.net import VeryDeep
from verydeep.runs.fit import fit, train
from verydeep.runs.options import ComputeOptions
from verydeep.runs.resume import resume
from verydeep.training.loop import make_optimiser
from verydeep.training.recipe import find_recipe
from verydeep.training.run_folder import Run
from verydeep.training.state import Callback
from verydeep.training.update import update
from verydeep.weights.resolve import load, read_card


@pytest.fixture
def photos(make_folder):
    return make_folder("photos", {"dark": 24, "grey": 24, "bright": 24})


def make_net(seed=0, batch_norm=True):
    return VeryDeep(
        "A", num_classes=3, crop=32, width=0.125, batch_norm=batch_norm, generator=torch.Generator().manual_seed(seed)
    )


RECIPE = find_recipe("quick", epochs=3, batch_size=16, learning_rate=0.05, warmup=0.5, colour_shift=True)


pytestmark = pytest.mark.usefixtures("in_fp32")


class Notes(Callback):
    """Keeps what is said."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def tell_every_step(monkeypatch):
    """Makes the loop report each update, not four a second."""
    clock = iter(range(10**9))
    monkeypatch.setattr("verydeep.training.loop.time.perf_counter", lambda: float(next(clock)))


def untimed(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "images_per_second", "time")}
        for line in lines
    ]


@pytest.mark.parametrize(("name", "source"), [("D", "A"), ("A", "A")])
def test_copied_layers_learn_at_the_rate_of_the_others(name, source):
    net, trained = (VeryDeep(one, num_classes=3, crop=32, width=0.125) for one in (name, source))
    copied = grow(net, trained).copied
    recipe = find_recipe("paper")
    rates = {}
    for group in make_optimiser(net, recipe).param_groups:
        rates |= {id(parameter): group["lr"] * group["factor"] for parameter in group["params"]}
    of_copied = {rates[id(parameter)] for name, parameter in net.named_parameters() if name in copied}
    assert of_copied == set(rates.values()) == {recipe.learning_rate}
    assert len(rates) == len(list(net.parameters()))


def test_it_learns_and_writes_a_whole_run(photos, tmp_path):
    recipe = find_recipe("quick", epochs=8, batch_size=8)
    trained = fit(make_net(), photos, recipe=recipe, out=tmp_path / "run")
    assert trained.finished
    assert trained.epochs == 8
    assert trained.split == "val"
    assert trained.top1_error is not None
    assert trained.top1_error < 0.34
    assert {file.name for file in (tmp_path / "run").iterdir()} == {
        "run.json", "log.jsonl", "checkpoint.safetensors", "checkpoint-previous.safetensors", "model.safetensors",
        "report.html", "result.json",
    }  # fmt: skip
    card = read_card(tmp_path / "run")
    assert card.classes == ("bright", "dark", "grey")
    assert card.data is not None
    assert card.data.fingerprint == open_data(photos).fingerprint
    assert card.recipe is not None
    assert card.recipe["epochs"] == 8
    assert card.errors is not None
    assert card.errors["split"] == "val"
    log = untimed(tmp_path / "run")
    assert [line["epoch"] for line in log] == list(range(1, 9))
    assert log[-1]["loss"] < log[0]["loss"]
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.allclose(load(trained.model)(images), trained.net(images), atol=1e-4)


@pytest.mark.parametrize(
    ("split", "size"), [("train", (9_000_000, 1)), ("val", (1, 2000)), ("test", (1, 2000)), ("test", (20_000, 1))]
)
def test_an_image_too_long_is_known_before_the_training(split, size, make_folder, tmp_path):
    for name in ("train", "val", "test"):
        make_folder(f"photos/{name}", {"dark": 8, "bright": 8})
    long = tmp_path / "photos" / split / "dark" / "long.png"
    Image.new("RGB", size).save(long)
    net, recipe = VeryDeep("A", num_classes=2, crop=32, width=0.125), find_recipe("quick", epochs=1, batch_size=16)
    with pytest.raises(UserError, match=f"{long}: an image of {size[0]}x{size[1]} .* is a strip: .* --damaged"):
        fit(net, tmp_path / "photos", recipe=recipe, out=tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    reporter = Notes()
    trained = fit(net, tmp_path / "photos", recipe=recipe, out=tmp_path / "run", skip_damaged=True, reporter=reporter)
    assert trained.finished
    assert any("left out 1 damaged image" in note for note in reporter.notes)


def test_the_mean_and_deviation_of_the_training_images_live_in_the_net(photos, tmp_path):
    fit(make_net(), photos, recipe=RECIPE, out=tmp_path / "run")
    train = open_data(photos).train
    means = np.mean([np.asarray(train.read(index)).mean((0, 1)) for index in range(len(train))], axis=0)
    card = read_card(tmp_path / "run")
    assert card.mean == pytest.approx(means, rel=1e-4)
    assert min(card.divisor) > 20
    plain = find_recipe("quick", epochs=1, input_divisor="one", learning_rate=1e-5)
    fit(make_net(), photos, recipe=plain, out=tmp_path / "one")
    assert read_card(tmp_path / "one").divisor == (1, 1, 1)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("updates", [2, 4, 7])
def test_resuming_is_as_if_nothing_had_happened(updates, batch_norm, photos, tmp_path, tell_every_step):
    fit(make_net(batch_norm=batch_norm), photos, recipe=RECIPE, out=tmp_path / "whole")
    reporter = StopAfter(updates)
    stopped = fit(make_net(batch_norm=batch_norm), photos, recipe=RECIPE, out=tmp_path / "cut", reporter=reporter)
    assert not stopped.finished
    assert stopped.top1_error is None
    assert resume(tmp_path / "cut").finished
    whole, cut = load_file(tmp_path / "whole/model.safetensors"), load_file(tmp_path / "cut/model.safetensors")
    for name, tensor in whole.items():
        assert torch.equal(tensor, cut[name]), name
    assert untimed(tmp_path / "whole") == untimed(tmp_path / "cut")
    assert len(untimed(tmp_path / "cut")) == 3


FROZEN = ("conv1_1", "bn1_1", "fc7")


def frozen_net():
    net = make_net()
    for name in FROZEN:
        net.get_submodule(name).requires_grad_(False)
    net.get_parameter("conv2_1.weight").requires_grad_(False)
    return net


def test_what_is_frozen_stays_as_it_is_through_a_resume_too(photos, tmp_path, tell_every_step):
    before = {name: tensor.clone() for name, tensor in make_net().state_dict().items()}
    whole = frozen_net()
    fit(whole, photos, recipe=RECIPE, out=tmp_path / "whole")
    stopped = fit(frozen_net(), photos, recipe=RECIPE, out=tmp_path / "parts", reporter=StopAfter(7))
    assert not stopped.finished
    resumed = resume(tmp_path / "parts")
    assert resumed.finished
    kept = {name for name in before if name.startswith(FROZEN)} | {"conv2_1.weight", "divisor", "mean"}
    for net in (whole, resumed.net):
        after = net.state_dict()
        moved = {name for name in before if not torch.equal(after[name], before[name])}
        assert moved == before.keys() - kept | {"divisor", "mean"}
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in resumed.net.state_dict().items())
    learns = {name for name, parameter in whole.named_parameters() if parameter.requires_grad}
    assert learns == {name for name, _ in whole.named_parameters()} - kept


def test_a_recipe_freezes_more_for_its_training_only(photos, tmp_path):
    net = frozen_net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    fit(net, photos, recipe=find_recipe("quick", epochs=1, batch_size=16, trainable="fc"), out=tmp_path / "fc")
    moved = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"divisor", "mean", "fc6.weight", "fc6.bias", "fc8.weight", "fc8.bias"}
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    assert frozen == {f"{name}.{kind}" for name in FROZEN for kind in ("weight", "bias")} | {"conv2_1.weight"}


def test_nothing_left_to_train_is_refused(photos, tmp_path):
    net = make_net()
    for name in ("fc6", "fc7", "fc8"):
        net.get_submodule(name).requires_grad_(False)
    with pytest.raises(UserError, match=r"every layer that the recipe trains \(trainable fc\) is frozen"):
        fit(net, photos, recipe=find_recipe("quick", trainable="fc"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_callback_sees_each_epoch_and_may_stop_the_training(photos, tmp_path, tell_every_step):
    class Two(Callback):
        def __init__(self):
            self.updates, self.lines, self.epochs = [], [], 0

        def before_training(self, state):
            self.epochs = state.recipe.epochs

        def after_update(self, state):
            self.updates.append((state.position.epoch, state.position.iteration))

        def after_epoch(self, state):
            self.lines.append(state.record)

        def wants_stop(self):
            return len(self.lines) == 2

    seen = Two()
    stopped = fit(make_net(), photos, recipe=RECIPE, out=tmp_path / "run", reporter=seen)
    assert (stopped.epochs, stopped.finished, seen.epochs) == (2, False, 3)
    assert seen.updates == [(epoch, update + 1) for epoch in range(2) for update in range(4)]
    assert [line["epoch"] for line in seen.lines] == [1, 2]
    assert seen.lines[1]["loss"] == untimed(tmp_path / "run")[1]["loss"]
    assert resume(tmp_path / "run").epochs == 3


def test_stopping_between_epochs(photos, tmp_path, tell_every_step):
    """With one update an epoch there is no middle of an epoch to stop in."""
    recipe = find_recipe("quick", epochs=5, batch_size=64)
    stopped = fit(make_net(), photos, recipe=recipe, out=tmp_path / "run", reporter=StopAfter(2))
    assert (stopped.epochs, stopped.finished) == (2, False)
    assert resume(tmp_path / "run").epochs == 5


def test_a_log_ahead_of_its_checkpoint_is_cut_back(photos, tmp_path, tell_every_step):
    fit(make_net(), photos, recipe=RECIPE, out=tmp_path / "run", reporter=StopAfter(5))
    with (tmp_path / "run/log.jsonl").open("a") as log:
        log.write('{"epoch": 2, "images_per_second": 1}\n{"epoch": 3, "im')
    resume(tmp_path / "run")
    assert [line["epoch"] for line in untimed(tmp_path / "run")] == [1, 2, 3]


def test_resuming_a_finished_run_changes_nothing(photos, tmp_path):
    fit(make_net(), photos, recipe=RECIPE, out=tmp_path / "run")
    before = (tmp_path / "run/model.safetensors").read_bytes()
    assert resume(tmp_path / "run").finished
    assert (tmp_path / "run/model.safetensors").read_bytes() == before


def test_resuming_on_other_data_is_refused(photos, tmp_path, tell_every_step):
    fit(make_net(), photos, recipe=RECIPE, out=tmp_path / "run", reporter=StopAfter(1))
    next((photos / "dark").iterdir()).unlink()
    with pytest.raises(UserError, match="not those the run began with"):
        resume(tmp_path / "run")


def test_a_changed_recipe_is_refused(photos, tmp_path, tell_every_step):
    fit(make_net(), photos, recipe=RECIPE, out=tmp_path / "run", reporter=StopAfter(1))
    settings = tmp_path / "run/run.json"
    settings.write_text(settings.read_text().replace('"epochs": 3', '"epochs": 4'))
    with pytest.raises(UserError, match=r"is not the one that checkpoint\.safetensors was trained by"):
        resume(tmp_path / "run")


def test_a_checkpoint_cut_in_half_gives_way_to_the_one_before_it(photos, tmp_path, tell_every_step):
    fit(make_net(), photos, recipe=RECIPE, out=tmp_path / "whole")
    fit(make_net(), photos, recipe=RECIPE, out=tmp_path / "cut", reporter=StopAfter(7))
    newest = tmp_path / "cut/checkpoint.safetensors"
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    said = Notes()
    assert resume(tmp_path / "cut", reporter=said).finished
    assert any("resuming from the checkpoint before it" in note for note in said.notes)
    whole, cut = load_file(tmp_path / "whole/model.safetensors"), load_file(tmp_path / "cut/model.safetensors")
    assert all(torch.equal(tensor, cut[name]) for name, tensor in whole.items())
    assert untimed(tmp_path / "whole") == untimed(tmp_path / "cut")


def test_checkpoints_by_time_within_an_epoch(photos, tmp_path, tell_every_step, monkeypatch):
    saved = []
    whole = Run._save_checkpoint

    def save(run, net, card, momentum, position):
        saved.append((position.epoch, position.iteration))
        whole(run, net, card, momentum, position)

    monkeypatch.setattr(Run, "_save_checkpoint", save)
    execution = ComputeOptions(checkpoint_seconds=1.5)
    fit(make_net(), photos, recipe=RECIPE, out=tmp_path / "run", execution=execution)
    assert saved[0] == (0, 0)
    assert {(0, 1), (0, 2)} & set(saved)
    assert {(1, 0), (2, 0), (3, 0)} <= set(saved)


def test_a_run_that_was_asked_for_otherwise_is_not_gone_on_with(photos, tmp_path):
    def ask(**changes):
        asked = {"recipe": "quick", "crop": 32, "width": 0.125, "changes": {"epochs": 1}}
        return train(photos, out=tmp_path / "run", go_on=True, **asked | changes)

    assert ask().finished
    assert ask().finished
    with pytest.raises(UsageError, match="began with epochs 1, not 2"):
        ask(changes={"epochs": 2})
    with pytest.raises(UsageError, match="began with seed 0, not 1"):
        ask(seed=1)
    with pytest.raises(UsageError, match="began with net A"):
        ask(architecture="B")


def test_a_large_set_is_not_read_again_when_a_run_goes_on(photos, tmp_path, tell_every_step, monkeypatch):
    (photos / "dark/zero.png").write_bytes(b"no image")
    stopped = {"recipe": RECIPE, "skip_damaged": True}
    fit(make_net(), photos, out=tmp_path / "whole", **stopped)
    fit(make_net(), photos, out=tmp_path / "cut", reporter=StopAfter(2), **stopped)
    monkeypatch.setattr("verydeep.runs.resume.memory_for_images", lambda: 0)
    monkeypatch.setattr("verydeep.data.image_set.ImageSet.checked", None)
    assert resume(tmp_path / "cut").finished
    whole, cut = load_file(tmp_path / "whole/model.safetensors"), load_file(tmp_path / "cut/model.safetensors")
    assert all(torch.equal(tensor, cut[name]) for name, tensor in whole.items())


def test_the_run_says_tensor_by_tensor_where_its_weights_come_from(photos, tmp_path):
    options = {"recipe": "quick", "crop": 32, "width": 0.125, "changes": {"epochs": 1}}
    train(photos, out=tmp_path / "a", **options)
    train(photos, out=tmp_path / "b", architecture="B", init_from=tmp_path / "a", **options)
    origin = json.loads((tmp_path / "b/run.json").read_text())["origin"]
    assert origin["model"] == str(tmp_path / "a")
    assert {"conv3_2.weight", "conv3_2.bias", "fc8.bias"} <= set(origin["copied"])
    assert {"conv1_2.weight", "conv4_1.weight"} <= set(origin["new"])
    assert not set(origin["copied"]) & set(origin["new"])


def test_classes_are_balanced_by_the_loss_when_asked(make_folder, tmp_path):
    uneven = make_folder("uneven", {"rare": 10, "usual": 40})
    weights = {}
    for balance in ("none", "loss", "sampling"):
        changes = {"epochs": 1, "balance": balance}
        trained = train(uneven, recipe="quick", crop=32, width=0.125, changes=changes, out=tmp_path / balance)
        weights[balance] = trained.net.state_dict()["fc8.bias"]
    assert not torch.equal(weights["none"], weights["loss"])
    assert not torch.equal(weights["none"], weights["sampling"])
    assert weights["loss"][0] > weights["none"][0]


def test_resuming_what_is_no_run(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        resume(tmp_path)


def test_a_folder_that_is_taken_is_refused_before_anything_is_read(photos, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        fit(make_net(), photos, recipe=RECIPE, out=tmp_path / "run")
    with pytest.raises(UsageError, match="is a file"):
        fit(make_net(), photos, recipe=RECIPE, out=tmp_path / "run" / "thesis.tex")
    with pytest.raises(UserError, match="cannot be written"):
        fit(make_net(), photos, recipe=RECIPE, out=tmp_path / "run" / "thesis.tex" / "below")
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_a_loss_that_is_not_finite_ends_with_the_remedy_and_leaves_nothing(photos, tmp_path):
    wild = find_recipe("quick", epochs=2, batch_size=16, learning_rate=1e30, warmup=0)
    with pytest.raises(UserError, match="lower rate than 1e\\+30"):
        fit(make_net(batch_norm=False), photos, recipe=wild, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_plateau_rule_drops_the_rate_and_ends(photos, tmp_path, monkeypatch):
    # a net that has not begun to learn would be waited for
    monkeypatch.setattr("verydeep.training.objective.Chance.explains", lambda *_: False)
    still = find_recipe(
        "paper", epochs=30, batch_size=64, learning_rate=1e-9, patience=1, drops=2, initialisation="kaiming"
    )
    trained = fit(make_net(), photos, recipe=still, out=tmp_path / "run")
    log = untimed(tmp_path / "run")
    assert trained.finished
    assert trained.epochs == len(log) < 30
    rates = [line["learning_rate"] for line in log]
    assert rates[0] == pytest.approx(1e-9)
    assert rates[-1] == pytest.approx(1e-11)


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_the_last_step_still_gives_the_report(name, photos, tmp_path):
    class Terminate(Callback):
        def after_epoch(self, state):
            if state.record["epoch"] == state.recipe.epochs:
                signal.raise_signal(name)

    notes = Notes()
    trained = fit(make_net(), photos, recipe=RECIPE, out=tmp_path / "run", reporter=notes, callbacks=[Terminate()])
    assert trained.finished
    assert any("asked to stop: the training has ended, its errors and report follow" in note for note in notes.notes)
    assert (tmp_path / "run/report.html").exists()
    assert f"top1_error={trained.top1_error}" in repr(trained)
    assert "Convolution" not in repr(trained)


def test_dense_testing_that_is_worse_than_the_crop_is_said(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("verydeep.runs.finish._validate", lambda *_: {"top1_error": 0.0, "protocol": "centre"})
    notes = Notes()
    still = find_recipe("quick", epochs=1, batch_size=64, learning_rate=1e-12, warmup=0)
    monkeypatch.setattr("verydeep.testing.result.Result.top1_error", 1.0)
    fit(make_net(), photos, recipe=still, out=tmp_path / "run", reporter=notes)
    (said,) = [note for note in notes.notes if "dense testing" in note]
    assert "the central crop 0.00%: evaluate and predict with --protocol centre do better here" in said


STILL = find_recipe("quick", epochs=9, batch_size=24, learning_rate=1e-12, warmup=0)


@pytest.mark.parametrize("updates", [1, 3, 5, 6])
def test_a_training_ends_when_patience_does_as_if_it_had_never_been_stopped(updates, photos, tmp_path, tell_every_step):
    notes = Notes()
    whole = fit(make_net(batch_norm=False), photos, recipe=STILL, out=tmp_path / "whole", patience=2, reporter=notes)
    assert (whole.finished, whole.epochs) == (True, 3)
    assert "ended after epoch 3 by --patience 2: no validation error below the" in notes.notes[-1]
    assert "% of epoch 1, the last weights are kept, --keep best has its own" in notes.notes[-1]
    assert read_card(whole.model).selected_on == "val"

    options = {"recipe": STILL, "out": tmp_path / "cut", "patience": 2, "reporter": StopAfter(updates)}
    assert not fit(make_net(batch_norm=False), photos, **options).finished
    assert resume(tmp_path / "cut").epochs == 3
    assert untimed(tmp_path / "whole") == untimed(tmp_path / "cut")
    first, second = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "cut"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert Run.open(tmp_path / "cut").finished
    assert resume(tmp_path / "cut").epochs == 3


def test_patience_of_no_epochs_or_without_validation_is_refused(photos, tmp_path):
    with pytest.raises(UsageError, match="--patience 0: give 1 epoch or more"):
        fit(make_net(), photos, recipe=STILL, out=tmp_path / "run", patience=0)
    with pytest.raises(UsageError, match="leave out --no-validation"):
        fit(make_net(), photos, recipe=STILL, out=tmp_path / "run", patience=2, no_validation=True)


def test_the_best_weights_are_kept_when_asked(photos, tmp_path):
    recipe = find_recipe("quick", epochs=4, batch_size=16, keep="best")
    trained = fit(make_net(), photos, recipe=recipe, out=tmp_path / "run")
    errors = [line["val_top1_error"] for line in untimed(tmp_path / "run")]
    card = read_card(trained.model)
    assert card.errors is not None
    assert card.errors["top1_error"] == min(errors)
    assert card.epochs == errors.index(min(errors)) + 1


def test_a_trained_net_keeps_its_own_mean(photos, tmp_path):
    net = make_net()
    net.set_input((1, 2, 3), (4, 5, 6))
    fit(net, photos, recipe=find_recipe("quick", epochs=1), out=tmp_path / "run")
    assert (read_card(tmp_path / "run").mean, read_card(tmp_path / "run").divisor) == ((1, 2, 3), (4, 5, 6))


def test_a_net_for_other_classes_is_refused(photos, tmp_path):
    with pytest.raises(UserError, match="1000 classes and the data 3"):
        fit(VeryDeep("A", crop=32, width=0.125), photos, recipe=RECIPE, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_batch_norm_does_not_decay_and_everything_else_does():
    optimiser = make_optimiser(make_net(), find_recipe("paper"))
    decays = {group["weight_decay"]: len(group["params"]) for group in optimiser.param_groups}
    assert decays == {5e-4: 2 * 11, 0.0: 2 * 8}


def test_an_update_is_the_textbook_one():
    """Against momentum written out: v = mu v + g + lambda w; w = w - lr v."""
    recipe = find_recipe("paper", learning_rate=0.01, dropout=0)
    net = VeryDeep("A", num_classes=3, crop=32, width=0.125, dropout=0, generator=torch.Generator().manual_seed(0))
    net.train()
    choice = Compute(device="cpu", precision="fp32", channels_last=False, threads=1)
    weight = net.get_submodule("fc7").weight
    assert isinstance(weight, torch.nn.Parameter)
    expected, velocity = weight.detach().clone(), torch.zeros_like(weight)
    optimiser = make_optimiser(net, recipe)
    images, labels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8), torch.tensor([0, 1, 2, 0])
    for _ in range(3):
        update(net, optimiser, images, labels, choice)
        assert weight.grad is not None
        velocity = 0.9 * velocity + weight.grad + 5e-4 * expected
        expected = expected - 0.01 * velocity
        assert torch.allclose(weight, expected, atol=1e-6)
