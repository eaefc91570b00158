"""The page of a training that runs: from the first minute, renewed, and never claiming to run for ever."""

import re

import pytest

import verydeep
from conftest import StopAfter
from small_nets import fit_small
from verydeep.machine import now
from verydeep.runs import live_report
from verydeep.runs.live_report import LiveReport

pytestmark = pytest.mark.usefixtures("every_update")
RELOADS = 'http-equiv="refresh"'


@pytest.fixture
def photos(make_folder):
    return make_folder("photos", {"dark": 24, "bright": 24})


class Reader(verydeep.Callback):
    """Reads the page as a browser would."""

    def __init__(self, file):
        self.file, self.pages = file, []

    def after_update(self, state):
        self.pages.append(self.file.read_text())

    def after_epoch(self, state):
        self.pages.append(self.file.read_text())


def test_it_is_there_while_it_runs_and_gives_way_to_the_report(photos, tmp_path, monkeypatch):
    clock = iter(range(0, 10**9, 30))
    monkeypatch.setattr(live_report.time, "monotonic", lambda: next(clock))
    file = tmp_path / "run/report.html"
    reader = Reader(file)
    assert fit_small(photos, tmp_path / "run", epochs=2, callbacks=[reader]).finished
    assert all(
        RELOADS in page and "As of " in page and "is renewed about every 20 seconds" in page for page in reader.pages
    )
    first, last = reader.pages[0], reader.pages[-1]
    assert "epoch 1: update 1 of" in first
    assert "expected end" in first
    assert "Learning curves" not in first
    assert "The recipe" in first
    assert "Learning curves" in last
    assert re.search(r"of \d+ images, 95% interval", last)
    final = file.read_text()
    assert RELOADS not in final
    assert "As of " not in final
    assert "Errors by class" in final
    assert "data:image" not in first + last  # no pictures while it runs
    assert all("<script" not in page for page in reader.pages)


def test_a_training_that_was_stopped_says_so_and_resuming_renews_the_page(photos, tmp_path):
    run = tmp_path / "run"
    assert not fit_small(photos, run, epochs=2, reporter=StopAfter(4)).finished
    page = (run / "report.html").read_text()
    assert "stopped in epoch 2; resume with verydeep train --resume --out" in page
    assert RELOADS not in page
    reader = Reader(run / "report.html")
    assert verydeep.resume(run, callbacks=[reader]).finished
    assert RELOADS in reader.pages[0]
    assert "stopped in epoch" not in reader.pages[0]
    assert "Learning curves" in reader.pages[0]  # of the epoch before
    assert "Errors by class" in (run / "report.html").read_text()


def test_it_is_written_from_plain_data_before_there_is_a_net(tmp_path):
    live = LiveReport(tmp_path, "auto on <photos>", {"The data": {"images": 258}}, ["start vgg16-features: few images"])
    live.note("size 128 & no more: 10 minutes")
    live.doing("describing images")
    page = (tmp_path / "report.html").read_text()
    assert RELOADS in page
    for text in (
        "auto on &lt;photos&gt;",
        "size 128 &amp; no more",
        "start vgg16-features",
        "describing images.",
        "258",
    ):
        assert text in page
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]  # written whole, nothing left beside it


def test_it_is_written_seldom_and_a_full_disk_does_not_stop_the_training(photos, tmp_path, monkeypatch):
    written = []

    def full(file, page):
        written.append(now())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(live_report, "write_page", full)
    monkeypatch.setattr(live_report.time, "monotonic", lambda: 100.0)  # no time passes
    assert fit_small(photos, tmp_path / "run", epochs=2).finished
    assert len(written) == 2  # when it begins and when it ends
    assert "Errors by class" in (tmp_path / "run/report.html").read_text()
