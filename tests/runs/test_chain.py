"""Chains: each step begins with the weights of the one before it; what is done is not done again."""

import json
import shutil

import pytest
from safetensors.torch import load_file

from conftest import StopAfter
from verydeep.errors import UsageError, UserError
from verydeep.runs.chain import resume_chain, train_chain
from verydeep.runs.options import ComputeOptions, read_keywords
from verydeep.runs.resume import run_to_end
from verydeep.training.recipe import CHAINS
from verydeep.weights.resolve import read_card

ASKED = {
    "crop": 32,
    "width": 0.125,
    "changes": {"epochs": 1, "batch_size": 16},
    "execution": ComputeOptions(device="cpu", precision="fp32"),
}


def train(chain, data, **options):
    return train_chain(data, read_keywords(options | {"recipe": chain}))


@pytest.fixture
def photos(make_folder):
    return str(make_folder("photos", {"dark": 12, "grey": 12, "bright": 12}))


def test_the_paper_from_a_to_jitter(photos, tmp_path):
    out = tmp_path / "chain"
    trained = train("paper-chain-from-a", photos, out=out, architecture="B", **ASKED)
    folders = sorted(folder.name for folder in out.iterdir() if folder.is_dir())
    assert folders == ["1-paper-A", "2-paper", "3-paper-384", "4-paper-jitter"]
    assert trained.run == out / "4-paper-jitter"
    cards = [read_card(out / folder) for folder in folders]
    assert [card.architecture for card in cards] == ["A", "B", "B", "B"]
    assert [card.train_scale for card in cards] == [(37, 37), (37, 37), (55, 55), (37, 73)]
    assert [card.recipe["learning_rate"] for card in cards if card.recipe] == [0.01, 0.01, 0.001, 0.001]
    first = json.loads((out / "2-paper/run.json").read_text())
    assert first["recipe"]["initialisation"] == "gaussian"


def test_nothing_is_grown_into_a_itself_and_only_fc_layers_learn_where_asked(photos, tmp_path):
    out = tmp_path / "chain"
    train("paper-chain-fc", photos, out=out, architecture="A", **ASKED)
    before, after = (load_file(out / f"{step}/model.safetensors") for step in ("2-paper-384", "3-paper-jitter-fc"))
    changed = {name.partition(".")[0] for name in before if not (before[name] == after[name]).all()}
    assert changed == {"fc6", "fc7", "fc8"}
    train("paper-chain-from-a", photos, out=tmp_path / "a", architecture="vgg11", **ASKED)
    assert len(list((tmp_path / "a").glob("*/run.json"))) == 3


def test_going_on_does_what_is_left(photos, tmp_path, monkeypatch):
    out = tmp_path / "chain"
    begun = []

    def stop_at_the_second(run, *arguments, **options):
        begun.append(run.folder.name)
        if begun == ["1-paper", "2-paper-384"]:
            raise KeyboardInterrupt
        return run_to_end(run, *arguments, **options)

    for module in ("start", "resume"):
        monkeypatch.setattr(f"verydeep.runs.{module}.run_to_end", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        train("paper-chain", photos, out=out, architecture="A", **ASKED)
    with pytest.raises(UsageError, match="holds a chain already"):
        train("paper-chain", photos, out=out, architecture="A", **ASKED)
    with pytest.raises(UsageError, match="began with architecture A, not B"):
        train("paper-chain", photos, out=out, architecture="B", go_on=True, **ASKED)
    assert resume_chain(out).finished
    assert begun == ["1-paper", "2-paper-384", "2-paper-384", "3-paper-jitter"]
    assert {file.name for file in out.iterdir()} == {"1-paper", "2-paper-384", "3-paper-jitter"}
    with pytest.raises(UserError, match="holds no chain"):
        resume_chain(tmp_path)


def test_a_chain_that_the_first_version_began_goes_on(photos, tmp_path, monkeypatch):
    out = tmp_path / "chain"
    train("paper-chain", photos, out=out, architecture="A", **ASKED)
    for step in ("2-paper-384", "3-paper-jitter"):
        shutil.rmtree(out / step)
    settings = json.loads((out / "1-paper/run.json").read_text())
    del settings["chain"]
    execution = {"device": "cpu", "precision": "fp32", "workers": None, "checkpoint_seconds": 600.0}
    asked = ASKED | {"chain": "paper-chain", "data": photos, "architecture": "A", "seed": 0, "execution": execution}
    (out / "chain.json").write_text(json.dumps(asked | {"batch_norm": False, "init_from": None, "skip_damaged": False}))
    (out / "1-paper/run.json").write_text(json.dumps(settings))
    assert resume_chain(out).run == out / "3-paper-jitter"


def test_what_a_step_left_that_never_began_is_no_hindrance(photos, tmp_path):
    out = tmp_path / "chain"
    (out / "1-paper").mkdir(parents=True)
    (out / "1-paper/checkpoint.safetensors").write_bytes(b"cut")
    assert train("paper-chain", photos, out=out, architecture="A", **ASKED).finished
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="is not empty"):
        train("paper-chain", photos, out=other, architecture="A", **ASKED)


def test_every_chain_ends_with_the_net_asked_for():
    assert all(steps[-1].architecture is None for steps in CHAINS.values())


def test_a_step_that_was_stopped_is_not_done_by_its_page(photos, tmp_path, monkeypatch):
    out, clock = tmp_path / "chain", iter(range(10**9))
    monkeypatch.setattr("verydeep.training.loop.time.perf_counter", lambda: float(next(clock)))  # report every update
    asked = ASKED | {"changes": {"epochs": 1, "batch_size": 4}}
    options = read_keywords({**asked, "recipe": "paper-chain", "out": out, "architecture": "A"})
    assert not train_chain(photos, options, reporter=StopAfter(1)).finished
    assert (out / "1-paper/report.html").exists()
    assert resume_chain(out).finished
    for folder in ("1-paper", "2-paper-384", "3-paper-jitter"):
        assert read_card(out / folder).epochs == 1
        assert (out / folder / "result.json").exists()


def test_a_chain_of_options_before_no_pictures_is_resumed(photos, tmp_path):
    out = tmp_path / "chain"
    train("paper-chain", photos, out=out, architecture="A", **ASKED)
    for file in out.glob("*/run.json"):
        record = json.loads(file.read_text())
        del record["chain"]["options"]["no_pictures"]
        file.write_text(json.dumps(record))
    assert train("paper-chain", photos, out=out, architecture="A", go_on=True, **ASKED).finished
