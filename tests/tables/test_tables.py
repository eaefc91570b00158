"""The tables end to end on tiny data: only what is missing is trained, and everything can be drawn again."""

import dataclasses
import json
import shutil

import pytest

from browser import chromium, on_a_page, opened
from conftest import picture
from verydeep.cli.tables import scale_bounds
from verydeep.errors import UsageError, UserError
from verydeep.paper.tables import FIXED_256, FIXED_384, JITTERED
from verydeep.runs.timing import UpdateTime
from verydeep.tables.given import given_runs, short_names
from verydeep.tables.grid import TablesOptions
from verydeep.tables.layout import lay_out, lay_out_claims
from verydeep.tables.listing import fusions, list_runs
from verydeep.tables.make import Tables
from verydeep.tables.page import write_tables_page
from verydeep.tables.plan import is_trained, plan_tables
from verydeep.tables.rows import read_results
from verydeep.tables.verdicts import check_claims
from verydeep.testing.evaluate import evaluate
from verydeep.testing.result import load_posteriors
from verydeep.training.state import Callback


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The data, and the tables made of it once: tests that change them take a copy."""
    folder = tmp_path_factory.mktemp("tables")
    for number, name in enumerate(("dark", "grey", "bright")):
        (folder / "photos" / name).mkdir(parents=True)
        for count in range(12):
            shade = picture(100 * number + count, 60, 60).point(lambda value, number=number: value // 3 + 80 * number)
            shade.save(folder / "photos" / name / f"{count}.png")
    made(str(folder / "photos"), ask(folder / "out"))
    return folder


@pytest.fixture
def photos(once):
    return str(once / "photos")


@pytest.fixture
def asked(tmp_path):
    return ask(tmp_path / "out")


@pytest.fixture
def done(once, asked):
    """Tables that are done."""
    shutil.copytree(once / "out", asked.out)
    return asked


def ask(out):
    return TablesOptions(
        out=out,
        architectures=("A", "B"),
        train_scale=((37, 37), (64, 70)),
        width=0.125,
        crop=32,
        recipe="quick",
        epochs=1,
        changes={"batch_size": 8},
        device="cpu",
        precision="fp32",
    )


def made(photos, asked):
    tables = Tables(photos, asked, command="verydeep tables photos")
    assert tables.train_and_test()
    tables.fuse_all()
    return tables


def test_the_nets_of_the_paper_in_its_order(tmp_path):
    planned = list_runs(TablesOptions(architectures=("A", "D"), batch_norm=True, seeds=2), crop=64, out=tmp_path)
    assert [one.title for one in planned[:4]] == [
        "A-bn, S = 73, seed 0",
        "D-bn, S = 73, seed 0",
        "D-bn, S = 110, seed 0",
        "D-bn, S = [73;146], seed 0",
    ]
    assert planned[3].model == tmp_path / "nets/D-bn-S73-146-seed0"
    assert len(planned) == 8
    assert [one.net.paper_scale for one in planned[:4]] == [FIXED_256, FIXED_256, FIXED_384, JITTERED]
    with pytest.raises(UsageError, match="asked for twice"):
        list_runs(TablesOptions(architectures=("D", "vgg16")), crop=32, out=tmp_path)
    with pytest.raises(UsageError, match="give 1 or more"):
        TablesOptions(architectures=("D",), seeds=0).check("photos")


def test_what_is_fused_does_not_depend_on_errors(tmp_path):
    options = TablesOptions(architectures=("E", "A", "C", "D"))
    nets = [one.net for one in list_runs(options, crop=224, out=tmp_path)]
    groups = [" + ".join(one.title for one in group) for group in fusions(nets)]
    assert "D, S = [256;512] + E, S = [256;512]" in groups
    assert sum(group.count("+") == 6 for group in groups) == 1  # the submission
    assert fusions(nets[:1]) == []


def test_tables_from_nothing(done, photos):
    asked = done
    results = read_results(asked.out)
    tested = {(row.nets[0].name, row.nets[0].shown_scale, row.protocol) for row in results.rows if len(row.nets) == 1}
    fixed, jittered = ("centre", "single", "multi-scale"), ("multi-crop", "dense+multi-crop")
    assert tested == {
        (name, scale, protocol)
        for name in "AB"
        for scale, protocols in (("37", fixed), ("[64;70]", fixed + jittered))
        for protocol in protocols
    }
    assert {training["seed"] for training in results.trainings} == {0}
    assert len(results.trainings) == 4
    assert results.about["options"] == json.loads(json.dumps(asked.as_record()))
    assert results.about["options"]["train_scale"] == [[37, 37], [64, 70]]
    assert len(results.trainings[0]["log"]) == 1
    again = read_results(asked.out / "results.jsonl")
    assert [row.as_record() for row in again.rows] == [row.as_record() for row in results.rows]
    titles = [laid.title for laid in lay_out(again)]
    assert titles == ["Table 3", "Table 4", "Table 5", "Table 6", "The central crop", "How far the nets are trained"]
    table3 = lay_out(again)[0]
    assert [row[:3] for row in table3.rows] == [
        ("A", "37", "37"),
        ("A", "[64;70]", "67"),
        ("B", "37", "37"),
        ("B", "[64;70]", "67"),
    ]
    assert table3.rows[0][-3:] == ("-", "29.6", "10.4")  # three classes have no top-5 error
    claims = check_claims(again)
    assert {one.claim.name for one in claims} == {"depth", "jitter", "scales", "crops", "both", "fusion"}
    assert {one.verdict for one in claims} == {"untestable here"}  # a single epoch
    table, parts = lay_out_claims(claims)
    assert len(table.rows) == 6
    assert [row[0] for row in parts.rows] == ["both"] * 4 + ["fusion"] * 4

    single = next(row for row in results.rows if row.protocol == "single" and row.nets[0].is_jittered)
    tested = evaluate(asked.out / "nets/A-S64-70-seed0", photos, protocol="single")
    assert single.record["top1_error"] == tested.top1_error
    both = load_posteriors(asked.out / "posteriors/A-S64-70-seed0-dense+multi-crop.safetensors")
    straight = evaluate(asked.out / "nets/A-S64-70-seed0", photos, protocol="dense+multi-crop")
    assert both.posteriors == pytest.approx(straight.posteriors, abs=1e-6)


def test_nothing_is_done_twice_and_more_seeds_go_on(done, photos, monkeypatch):
    asked = done
    trained = []
    from verydeep.tables import make as module

    real = module.start

    def counted(data, options, **others):
        trained.append(options.out.name)
        return real(data, options, **others)

    monkeypatch.setattr(module, "start", counted)
    made(photos, asked)
    assert trained == []
    shutil.rmtree(asked.out / "nets")  # what is tested need not be there any more
    shutil.rmtree(asked.out / "posteriors")
    fields = vars(asked) | {"seeds": 2, "train_scale": ((37, 37),)}
    tables = made(photos, TablesOptions(**fields))
    assert trained == ["A-S37-seed1", "B-S37-seed1"]
    assert {row.seed for row in tables.results.rows} == {0, 1}
    with pytest.raises(UsageError, match=r"began with width 0\.125, not 0\.25"):
        Tables(photos, TablesOptions(**fields | {"width": 0.25}))
    with pytest.raises(UsageError, match="train_scale"):
        Tables(photos, TablesOptions(**fields | {"changes": {"train_scale": 40}}))
    with pytest.raises(UsageError, match="below the crop"):
        Tables(photos, TablesOptions(**fields | {"train_scale": ((16, 16),)}))


def test_what_was_done_before_somebody_stopped_it_is_kept(asked, photos, monkeypatch):
    from verydeep.runs.finish import TrainedRun
    from verydeep.tables import make as module

    real = module.start

    def stopped(data, options, **others):
        trained = real(data, options, **others)
        if options.out.name.startswith("B"):
            return TrainedRun(**{**vars(trained), "finished": False})
        return trained

    monkeypatch.setattr(module, "start", stopped)
    tables = Tables(photos, TablesOptions(**vars(asked) | {"train_scale": ((37, 37),)}))
    assert not tables.train_and_test()
    assert {row.nets[0].name for row in read_results(asked.out).rows} == {"A"}


def test_tables_that_were_stopped_in_their_first_training_go_on(asked, photos, monkeypatch):
    from verydeep.runs.finish import TrainedRun
    from verydeep.tables import make as module

    real = module.start

    def stopped(data, options, **others):
        return TrainedRun(**{**vars(real(data, options, **others)), "finished": False})

    options = TablesOptions(**vars(asked) | {"architectures": ("A",), "train_scale": ((37, 37),)})
    monkeypatch.setattr(module, "start", stopped)
    assert not Tables(photos, options).train_and_test()
    monkeypatch.setattr(module, "start", real)
    assert made(photos, options).results.rows


def test_models_are_tested_and_nothing_is_trained(done, photos, tmp_path):
    asked = done
    models = tuple(str(asked.out / f"nets/{name}-S64-70-seed0") for name in "AB")
    tables = made(photos, TablesOptions(out=tmp_path / "models", models=models))
    assert tables.results.trainings == []
    assert {row.protocol for row in tables.results.rows if len(row.nets) == 2} == {
        "single",
        "multi-scale",
        "multi-crop",
        "dense+multi-crop",
    }
    own = {(row.nets[0].architecture, row.protocol): row for row in tables.results.rows if len(row.nets) == 1}
    for row in read_results(asked.out).rows:
        if len(row.nets) == 1 and row.nets[0].is_jittered:
            assert own[row.nets[0].architecture, row.protocol].record["top1_error"] == row.record["top1_error"]


def test_a_training_is_done_when_its_checkpoint_says_so(done):
    (run, *_) = list_runs(done, crop=32, out=done.out)
    (run.model / "report.html").unlink()
    assert is_trained(run)
    settings = json.loads((run.model / "run.json").read_text())
    settings["recipe"]["epochs"] = 2
    (run.model / "run.json").write_text(json.dumps(settings))
    assert not is_trained(run)
    for file in run.model.glob("checkpoint*"):
        file.unlink()
    assert is_trained(run)  # its model file is there, and nothing to resume from
    shutil.rmtree(run.model)
    assert not is_trained(run)


def test_runs_that_differ_in_their_seed_alone_are_seeds_of_one_net(done):
    folder = done.out / "nets"
    first, other = folder / "A-S37-seed0", folder / "A-S37-seed1"
    shutil.copytree(first, other)
    settings = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps(settings | {"seed": 1}))
    runs = given_runs([str(first), str(folder / "B-S37-seed0"), str(other)])
    assert [(run.net.name, run.seed) for run in runs] == [("A-S37", 0), ("B-S37-seed0", 0), ("A-S37", 1)]
    assert runs[0].net == runs[2].net
    assert len({run.stem for run in runs}) == 3
    (other / "run.json").write_text(json.dumps(settings | {"seed": 1, "recipe": settings["recipe"] | {"epochs": 2}}))
    assert [run.net.name for run in given_runs([str(first), str(other)])] == ["A-S37-seed0", "A-S37-seed1"]


def test_models_are_told_apart_by_short_names():
    assert short_names(["runs/d", "weights/e.safetensors"]) == ["d", "e"]
    assert short_names(["a/d", "b/d"]) == ["a/d", "b/d"]
    with pytest.raises(UsageError, match="given twice"):
        short_names(["a/d", "a/d"])


def test_models_of_other_classes_are_refused_before_any_is_tested(done, photos, tmp_path, make_folder):
    fitting = str(done.out / "nets/A-S37-seed0")
    other = make_folder("other", {"a": 12, "b": 12}, side=60)
    with pytest.raises(UserError, match="3 classes and the data 2"):
        Tables(str(other), TablesOptions(out=tmp_path / "models", models=(fitting,)))
    assert not (tmp_path / "models").exists()


def test_cells_of_imagenet_are_judged(done, tmp_path):
    asked = done
    lines = (asked.out / "results.jsonl").read_text().splitlines()
    about = json.loads(lines[0]) | {"data": "imagenet", "models": ["D"]}
    rows = []
    for line in map(json.loads, lines[1:]):
        if line["kind"] == "row" and line["protocol"] == "single":
            line |= {
                "data": "imagenet",
                "top1_error": 0.2701,
                "top5_error": 0.0883 if line["nets"][0]["name"] == "A" else 0.09,
            }
            line["nets"] = [net | {"architecture": "D"} for net in line["nets"]]
            rows.append(line)
    file = tmp_path / "judged.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in (about, *rows)))
    table = lay_out(read_results(file))[0]
    assert table.columns[-3:] == ("top-1 less paper", "top-5 less paper", "verdict")
    judged = [row for row in table.rows if row[-1]]
    assert [row[-3:] for row in judged] == [("+0.01", "+0.03", "PASS"), ("+0.01", "+0.20", "differs")]


def test_the_plan_counts_what_is_left(once, photos, asked):
    plan = plan_tables(photos, TablesOptions(**vars(asked) | {"architectures": ("A",)}))
    assert len(plan.nets) == 2
    assert all(net.training_seconds > 0 and net.testing_seconds > 0 for net in plan.nets)
    assert plan.seconds == pytest.approx(sum(net.training_seconds + net.testing_seconds for net in plan.nets))
    shutil.copytree(once / "out", asked.out)
    assert {one.claim.name for one in plan.claims} == {"jitter", "scales", "crops", "both"}
    assert not any(one.is_decidable for one in plan.claims)
    assert plan_tables(photos, asked).nets == ()


def test_the_plan_times_one_net_of_each_kind(photos, asked, monkeypatch):
    timed = []

    def time_update(net, recipe, compute, share, progress):
        timed.append(net.geometry.architecture.name)
        return UpdateTime(fixed=0.1, per_image=1.0)

    monkeypatch.setattr("verydeep.tables.plan.time_update", time_update)
    said = []
    reporter = Callback()
    reporter.progress = lambda *progress: said.append(progress)
    options = TablesOptions(**vars(asked) | {"architectures": ("A", "A-LRN", "B", "D")})
    plan = plan_tables(photos, options, reporter=reporter)
    assert timed == ["A", "A-LRN"]
    seconds = {net.name.split(",")[0]: net.training_seconds for net in plan.nets}
    assert seconds["A"] < seconds["B"] < seconds["D"]
    assert said[-1] == ("planning nets", len(plan.nets), len(plan.nets))


def test_results_that_are_none_are_refused(asked, tmp_path):
    for name, text in (("none", None), ("empty", ""), ("other", '{"kind": "about"}\n{"loss": 3}\n'), ("no", "x")):
        file = tmp_path / f"{name}.jsonl"
        if text is not None:
            file.write_text(text)
        with pytest.raises(UserError, match="--from"):
            read_results(file)
    with pytest.raises(UsageError, match="Smin,Smax"):
        scale_bounds((1, 2, 3))


def test_tables_of_private_photographs_have_no_pictures(done, photos):
    assert any(each.picture for each in made(photos, done).errors_of_last().worst)
    tables = made(photos, dataclasses.replace(done, no_pictures=True))
    private = tables.errors_of_last()
    assert private.worst
    assert not any(each.picture or each.map for each in private.worst)
    assert dataclasses.replace(done, no_pictures=True).training(tables.runs[0]).no_pictures


@pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")
def test_the_page_opens_in_a_browser_without_a_network(done, photos):
    tables = made(photos, done)
    file = write_tables_page(
        done.out / "report.html", tables.results, check_claims(tables.results), tables.errors_of_last()
    )
    messages, requests, widths, seen = opened(file, viewport={"width": 1100, "height": 800})
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [file.absolute().as_uri()]
    assert seen["overflow"] <= 0
    assert seen["dangling"] == 0
    assert seen["scripts"] == 0
    assert not widths or min(widths) > 50
    for heading in ("The paper's claims", "Table 3", "Table 6", "Error against depth", "Gain against cost"):
        assert heading in seen["text"]


@pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")
def test_a_telephone_shows_every_interval(done, photos):
    tables = made(photos, done)
    file = write_tables_page(
        done.out / "report.html", tables.results, check_claims(tables.results), tables.errors_of_last()
    )
    cells = (
        "[...document.querySelectorAll('.claims td')].map(cell => [cell.getBoundingClientRect().right, "
        "getComputedStyle(cell, '::before').content])"
    )
    scrolls = (
        "[...document.querySelectorAll('.wide')].map(box => [box.scrollWidth - box.clientWidth, "
        "getComputedStyle(box).overflowX, getComputedStyle(box).backgroundImage])"
    )
    with on_a_page(file, viewport={"width": 390, "height": 800}) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        found = tab.evaluate(cells)
        assert found
        assert max(right for right, _ in found) <= 390
        assert any("interval" in name for _, name in found)
        for over, how, background in tab.evaluate(scrolls):
            assert over <= 0 or (how == "auto" and "gradient" in background)  # what is hidden can be seen to be there
