"""A run folder belongs to one training: claimed, locked, and nothing removed that is not its own."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from small_nets import fit_small
from verydeep.errors import UsageError, UserError
from verydeep.files import free_name
from verydeep.training import run_lock
from verydeep.training.run_folder import SETTINGS_FILE, Run, check_free, claimed
from verydeep.training.run_lock import is_locked, locked
from verydeep.training.state import Callback, Position

OLD_RUN = Path(__file__).parents[1] / "golden/made_by_0_1_0/interrupted"


def test_trainings_that_begin_together_get_folders_of_their_own(tmp_path):
    together, all_claimed = threading.Barrier(8, timeout=60), threading.Barrier(8, timeout=60)

    def name():
        return tmp_path / "runs" / free_name("base-A", lambda name: (tmp_path / "runs" / name).exists())

    def begin(_):
        together.wait()
        with claimed(None, name) as folder:
            all_claimed.wait()
            (folder / SETTINGS_FILE).write_text("{}")
            return folder.name

    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(begin, range(8)))
    assert names == {"base-A", *(f"base-A-{number}" for number in range(2, 9))}
    assert {folder.name for folder in (tmp_path / "runs").iterdir()} == names


def test_a_folder_that_is_made_while_it_is_looked_at_is_no_file(tmp_path, monkeypatch):
    is_dir, made = Path.is_dir, []

    def late(path):
        if made:
            return is_dir(path)
        made.append(path)
        path.mkdir()
        return False

    monkeypatch.setattr(Path, "is_dir", late)
    check_free(tmp_path / "a")
    assert made == [tmp_path / "a"]


def test_a_name_that_another_training_has_just_taken_is_passed_over(tmp_path):
    (tmp_path / "a").mkdir()
    names = iter([tmp_path / "a", tmp_path / "b"])
    with claimed(None, lambda: next(names)) as folder:
        assert folder == tmp_path / "b"


def test_an_out_that_another_training_has_claimed_is_refused_before_it_has_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "_SECONDS_TO_WAIT", 0.1)

    def second():
        with claimed(tmp_path / "a", Path):
            raise AssertionError

    with claimed(tmp_path / "a", Path), ThreadPoolExecutor(1) as pool:
        with pytest.raises(UserError, match=r"another process \(\d+ on .*\) trains .*give another --out"):
            pool.submit(second).result()
        assert is_locked(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_nothing_is_removed_that_the_training_has_not_made(tmp_path):
    (tmp_path / "before").mkdir()
    with claimed(tmp_path / "before", Path):  # nothing is trained in it
        pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "before"]
    with claimed(tmp_path / "runs/a", Path):
        pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "before"]
    with claimed(tmp_path / "new", Path) as folder:
        (folder / "notes.txt").touch()
    assert (tmp_path / "new/notes.txt").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / SETTINGS_FILE).touch()
    with pytest.raises(UsageError, match="holds a run already"), claimed(tmp_path / "run", Path):
        pass
    assert (tmp_path / "run" / SETTINGS_FILE).exists()


def test_a_lock_may_be_taken_again_by_its_holder(tmp_path):
    with locked(tmp_path):
        with locked(tmp_path):
            assert is_locked(tmp_path)
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_a_training_whose_run_json_is_gone_is_not_trained_over(make_folder, tmp_path, verydeep):
    """Its checkpoints are hours of work."""
    photos = make_folder("photos", {"a": 8, "b": 8})
    trained = fit_small(photos, tmp_path / "run", epochs=1)
    (trained.run / "run.json").unlink()
    (trained.run / "model.safetensors").unlink()
    before = {file.name: file.read_bytes() for file in trained.run.iterdir() if file.is_file()}
    with pytest.raises(UsageError, match=r"run holds a training whose run.json is gone: restore that to resume it"):
        fit_small(photos, trained.run, epochs=1)
    assert {file.name: file.read_bytes() for file in trained.run.iterdir() if file.is_file()} == before


def test_a_run_json_that_is_removed_while_it_trains_is_written_again(make_folder, tmp_path):
    class Remove(Callback):
        def after_update(self, state):
            (tmp_path / "run/run.json").unlink(missing_ok=True)

    trained = fit_small(make_folder("photos", {"a": 8, "b": 8}), tmp_path / "run", epochs=1, callbacks=[Remove()])
    assert Run.open(trained.run).settings["recipe"]["epochs"] == 1


def test_a_run_folder_that_is_removed_while_it_trains_is_said_to_be_gone(make_folder, tmp_path):
    class Remove(Callback):
        def after_update(self, state):
            shutil.rmtree(tmp_path / "run")

    with pytest.raises(UserError, match=r"run is gone: somebody has removed it while it was trained into: train again"):
        fit_small(make_folder("photos", {"a": 8, "b": 8}), tmp_path / "run", epochs=1, callbacks=[Remove()])


@pytest.mark.parametrize(
    "damage",
    [
        {"epoch": "one"}, {"epoch": -1}, {"iteration": None}, {"plateau": 3}, {"plateau": {"best": "x"}}, {"what": 1},
        {"window": [1]}, {"findings": 4}, {"was_stuck": 1}, {"loss": True},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_position_is_one_line(damage):
    record = json.loads(json.dumps(Position(epoch=2, best_error=0.5).as_record() | damage))
    with pytest.raises(UserError, match="what a checkpoint says of the progress of its training is damaged"):
        Position.from_record(record)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("recipe", None, r"lacks what a run has \(recipe\)"),
        ("choice.device", 3, r"lacks what a run has \(choice.device\)"),
        ("seed", True, r"lacks what a run has \(seed\)"),
        ("skipped", "a", r"lacks what a run has \(skipped\)"),
        ("recipe.epochs", "many", r"run.json is damaged \(.*epochs"),
        ("choice.what", 1, r"run.json is damaged \("),
        ("options", 3, r"run.json is not that of a run"),
        ("plan", 3, r"run.json is not that of a run"),
    ],
    ids=str,
)
def test_a_damaged_run_json_is_one_line(path, value, complaint, tmp_path):
    """It is a file that people copy, mend and send each other."""
    settings = json.loads((OLD_RUN / "run.json").read_text())
    place = settings
    *parents, last = path.split(".")
    for key in parents:
        place = place[key]
    place[last] = value
    (tmp_path / "run.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=complaint) as refused:
        Run.open(tmp_path).check_resumable()
    assert "\n" not in str(refused.value)


def test_a_run_of_0_1_0_can_be_resumed():
    Run.open(OLD_RUN).check_resumable()
