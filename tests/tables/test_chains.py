"""Chains in the tables: one S after another, and controls that stay at the first."""

import json
import shutil

import pytest

from conftest import picture
from verydeep.errors import UsageError
from verydeep.paper.tables import FIXED_256, FIXED_384, JITTERED
from verydeep.runs.timing import UpdateTime
from verydeep.tables import make
from verydeep.tables.chains import recipe_of, step_of
from verydeep.tables.grid import TablesOptions
from verydeep.tables.listing import fusions, list_runs
from verydeep.tables.make import Tables
from verydeep.tables.plan import plan_tables
from verydeep.tables.rows import read_results
from verydeep.training.run_folder import Run


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain") / "photos"
    for number, name in enumerate(("dark", "grey", "bright")):
        (folder / name).mkdir(parents=True)
        for count in range(10):
            shade = picture(100 * number + count, 60, 60).point(lambda value, number=number: value // 3 + 80 * number)
            shade.save(folder / name / f"{count}.png")
    return str(folder)


@pytest.fixture(scope="module")
def once(photos, tmp_path_factory):
    """A chain of two scales, made once: what changes it takes a copy."""
    out = tmp_path_factory.mktemp("made") / "out"
    run_all(photos, ask(out))
    return out


@pytest.fixture
def trained(monkeypatch):
    """The folders of the trainings that are begun."""
    names, real = [], make.start

    def counted(data, options, **others):
        names.append(options.out.name)
        return real(data, options, **others)

    monkeypatch.setattr(make, "start", counted)
    return names


def ask(out, **others):
    return TablesOptions(
        **{
            "out": out,
            "architectures": ("A",),
            "chain": True,
            "train_scale": ((37, 37), (40, 48)),
            "width": 0.125,
            "crop": 32,
            "recipe": "quick",
            "epochs": 2,
            "chain_epochs": 1,
            "changes": {"batch_size": 8},
            "device": "cpu",
            "precision": "fp32",
        }
        | others
    )


def run_all(photos, asked):
    tables = Tables(photos, asked, command="verydeep tables photos")
    assert tables.train_and_test()
    tables.fuse_all()
    return tables


def test_each_s_begins_from_the_one_before_and_the_control_stays(tmp_path):
    options = TablesOptions(architectures=("D", "E"), recipe="paper-chain", seeds=2)
    runs = list_runs(options, crop=224, out=tmp_path)
    of_d = runs[:5]
    assert [run.title for run in of_d] == [
        "D, S = 256, seed 0",
        "D, S = 256 → 384, seed 0",
        "D, S = 256 → 384 → [256;512], seed 0",
        "D, S = 256 → 256, seed 0",
        "D, S = 256 → 256 → 256, seed 0",
    ]
    small, larger, jitter, control, _ = of_d
    assert [run.start for run in of_d] == [None, small, larger, small, control]
    assert [run.matched for run in of_d] == [None, None, None, larger, jitter]
    assert [run.net.paper_scale for run in of_d] == [FIXED_256, FIXED_384, JITTERED, None, None]
    assert jitter.stem == "D-S256-to-S384-to-S256-512-seed0"
    assert len(runs) == 20
    assert len({run.model for run in runs}) == 20
    assert options.training(jitter).init_from == larger.model
    groups = [[net.path for net in group] for group in fusions([run.net for run in runs[:10]])]
    assert groups == [[net.path] * 2 for net in (small.net, larger.net, jitter.net)]  # no controls


def test_later_trainings_have_a_tenth_of_the_rate_and_a_control_as_many_epochs():
    paper = [recipe_of(step_of("paper-chain", {}, number=number, is_jittered=number == 3)) for number in (1, 2, 3)]
    assert [(one.name, one.drops) for one in paper] == [("paper", 3), ("paper-384", 2), ("paper-jitter", 2)]
    assert [one.learning_rate for one in paper] == pytest.approx([0.01, 0.001, 0.001])
    own = {"learning_rate": 0.02, "batch_size": 32}
    first, later = (
        recipe_of(step_of("small-images", own, epochs=80, chain_epochs=40, number=number)) for number in (1, 2)
    )
    assert (first.learning_rate, first.epochs) == (0.02, 80)
    assert (later.learning_rate, later.epochs, later.batch_size) == (pytest.approx(0.002), 40, 32)
    control = recipe_of(step_of("paper-chain", {"patience": 1}, number=3, is_jittered=True, epochs_of_matched=7))
    assert (control.name, control.epochs) == ("paper-jitter", 7)
    assert control.drops * control.patience >= 7  # the plateau rule does not end it before
    with pytest.raises(UsageError, match="give paper-chain"):
        step_of("paper-chain-from-a", {})


@pytest.mark.parametrize(
    ("others", "complaint"),
    [
        ({"train_scale": ((37, 37),)}, "twice or more"),
        ({"train_scale": ((37, 37), (40, 40), (37, 37))}, "given twice"),
        ({"chain": False}, "give --chain too"),
    ],
)
def test_options_that_are_no_chain(others, complaint, tmp_path):
    with pytest.raises(UsageError, match=complaint):
        ask(tmp_path / "out", **others).check("photos")


def test_weights_are_shared_and_the_control_has_as_many_updates(once, photos):
    results = read_results(once)
    names = sorted(folder.name for folder in (once / "nets").iterdir())
    assert names == ["A-S37-seed0", "A-S37-to-S37-seed0", "A-S37-to-S40-48-seed0"]
    settings = {name: Run.open(once / "nets" / name).settings for name in names}
    first, control, jitter = (settings[name] for name in names)
    assert first["origin"] is None
    for later in (control, jitter):
        assert later["origin"]["model"] == str(once / "nets/A-S37-seed0")
        assert later["origin"]["new"] == []
        assert later["recipe"]["learning_rate"] == pytest.approx(first["recipe"]["learning_rate"] / 10)
        assert len(Run.open(once / "nets" / names[1]).log_records()) == 1
    assert {(row.nets[0].shown_scale, len(row.nets[0].path)) for row in results.rows} == {
        ("37", 1),
        ("37 → 37", 2),
        ("37 → [40;48]", 2),
    }
    assert results.about["recipe"]["chain"]["with jitter"]["learning_rate"] == pytest.approx(0.002)
    lines = [json.loads(line) for line in (once / "results.jsonl").read_text().splitlines()]
    nets = [line["nets"][0] for line in lines if line["kind"] == "row"]
    assert all("before" not in net or net["before"] for net in nets)
    controls = [cell for cell in results.cells if cell.nets[0].is_control]
    assert controls
    assert all(cell.paper is None for cell in controls)


def test_an_interrupted_chain_goes_on_and_does_nothing_twice(once, photos, tmp_path, trained):
    out = tmp_path / "out"
    shutil.copytree(once, out)
    run_all(photos, ask(out))
    assert trained == []
    lines = (out / "results.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if "before" not in line]  # as if it had been stopped after the first training
    (out / "results.jsonl").write_text("".join(kept))
    shutil.rmtree(out / "nets/A-S37-to-S37-seed0")
    run_all(photos, ask(out))
    assert trained == ["A-S37-to-S37-seed0"]
    assert len(read_results(out).trainings) == 3


def test_a_start_whose_weights_are_gone_is_trained_again(once, photos, tmp_path, trained):
    out = tmp_path / "out"
    shutil.copytree(once, out)
    shutil.rmtree(out / "nets")
    lines = (out / "results.jsonl").read_text().splitlines(keepends=True)
    (out / "results.jsonl").write_text("".join(line for line in lines if "[40, 48]" not in line or "about" in line))
    shutil.rmtree(out / "posteriors")
    run_all(photos, ask(out))
    assert trained == ["A-S37-seed0", "A-S37-to-S40-48-seed0"]
    assert len(read_results(out).trainings) == 3


def test_the_plan_has_every_training_of_a_chain(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("verydeep.tables.plan.time_update", lambda *given: UpdateTime(fixed=0.1, per_image=1.0))
    plan = plan_tables(photos, ask(tmp_path / "out", epochs=4))
    assert [net.name for net in plan.nets] == [
        "A, S = 37, seed 0",
        "A, S = 37 → [40;48], seed 0",
        "A, S = 37 → 37, seed 0",
    ]
    first, jitter, control = (net.training_seconds for net in plan.nets)
    assert first == pytest.approx(4 * control, rel=0.2)
    assert jitter == pytest.approx(control, rel=0.2)
