"""A run folder belongs to one training: claimed, locked, and nothing removed that is not its own."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from verydeep.errors import UsageError, UserError
from verydeep.files import free_name
from verydeep.training import run_lock
from verydeep.training.run_folder import SETTINGS_FILE, check_free, claimed
from verydeep.training.run_lock import is_locked, locked


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
