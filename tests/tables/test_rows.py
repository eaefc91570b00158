"""Rows survive their line of JSON, and know the paper's cell."""

import json
from pathlib import Path

import numpy as np
import pytest

from verydeep.errors import UserError
from verydeep.tables.grid import TableNet
from verydeep.tables.rows import gather_cells, read_results, read_row, row_of, training_figures, write_results
from verydeep.testing.result import Member, Result


def net(architecture="D", scale=(256, 256), crop=224, name=None):
    return TableNet(
        name=name or architecture, architecture=architecture, batch_norm=False, crop=crop, train_scale=scale
    )


def result(wrong, protocol="single", scales=(256,), architectures=("D",)):
    """A result whose wrong images are those given."""
    wrong = np.asarray(wrong, dtype=bool)
    posteriors = np.zeros((len(wrong), 6), dtype=np.float32)
    posteriors[np.arange(len(wrong)), np.where(wrong, 1, 0)] = 1
    members = tuple(
        Member(model="m", architecture=name, protocol=protocol, test_scales=scales) for name in architectures
    )
    return Result(
        posteriors=posteriors,
        labels=np.zeros(len(wrong), dtype=np.int64),
        names=[f"{number}.png" for number in range(len(wrong))],
        classes=tuple("abcdef"),
        members=members,
        split="test",
        data="made-up",
        seconds=1.0,
    )


def test_a_row_survives_its_line():
    wrong = np.random.default_rng(0).random(77) < 0.3
    row = row_of(result(wrong), [net()], 3)
    again = read_row(json.loads(json.dumps(row.as_record())))
    assert (again.wrong == wrong).all()
    assert (again.nets, again.seed, again.protocol) == (row.nets, 3, "single")
    assert again.as_record() == row.as_record()
    assert row.as_record()["top1_error"] == pytest.approx(wrong.mean())
    assert row.as_record()["train_scale"] == [256, 256]


@pytest.mark.parametrize("change", [{"nets": 3}, {"wrong": "§"}, {"num_images": "x"}, {"nets": [{"name": "D"}]}])
def test_a_line_that_is_no_row_is_refused(change):
    record = row_of(result([0, 1]), [net()], 0).as_record() | change
    with pytest.raises(UserError, match="cannot be read"):
        read_row(record)


def test_cells_gather_seeds_in_the_papers_order():
    nets = [net("E"), net("A"), net("D", (256, 512)), net("D")]
    rows = [row_of(result([seed, 1, 0, 0]), [one], seed) for seed in (1, 0) for one in nets]
    cells = gather_cells(rows)
    assert [one.nets[0].title for one in cells] == ["A, S = 256", "D, S = 256", "D, S = [256;512]", "E, S = 256"]
    assert cells[0].seeds == [0, 1]
    assert cells[0].errors() == [0.25, 0.5]
    assert cells[0].wrong([1]).tolist() == [[True, True, False, False]]


def test_the_papers_cell_of_a_net_of_its_scales_and_of_smaller_ones():
    def paper(*nets, protocol="single", scales=(256,)):
        architectures = [one.architecture for one in nets]
        return gather_cells([row_of(result([0], protocol, scales, architectures), nets, 0)])[0].paper

    assert paper(net()) == (0.27, 0.088)
    assert paper(net(scale=(73, 73), crop=64), scales=(73,)) == (0.27, 0.088)
    assert paper(net(scale=(73, 146), crop=64), protocol="dense+multi-crop", scales=(73, 109, 146)) == (0.244, 0.072)
    assert paper(net(scale=(90, 90), crop=64), scales=(90,)) is None
    jittered = [net(one, (256, 512)) for one in "DE"]
    assert paper(*jittered, protocol="multi-crop", scales=(256, 384, 512)) == (0.239, 0.072)
    assert paper(*reversed(jittered), protocol="multi-scale", scales=(256, 384, 512)) == (0.24, 0.071)
    assert paper(jittered[0], net("E"), protocol="multi-scale") is None


def test_the_training_error_and_its_change_at_the_end():
    def log(*errors):
        return [{"train_error": error} for error in errors]

    figures = training_figures(log(0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.28, 0.27))
    assert figures == {"training_error": 0.27, "training_error_slope": pytest.approx(-0.01)}
    twenty = training_figures(log(*[0.5] * 16, 0.4, 0.38, 0.39, 0.35))  # the last four of twenty
    assert twenty["training_error_slope"] == pytest.approx(np.polyfit(range(4), [0.4, 0.38, 0.39, 0.35], 1)[0])
    assert training_figures(log(0.9)) == {"training_error": 0.9}
    assert training_figures([]) == {}
    assert row_of(result([0, 1]), [net()], 0, log(0.3, 0.2)).record["training_error"] == 0.2


def test_cells_keep_tests_at_other_scales_apart():
    rows = [row_of(result([seed, 1, 0], scales=(scale,)), [net()], seed) for scale in (96, 64) for seed in (0, 1)]
    cells = gather_cells(rows)
    assert [cell.test_scales for cell in cells] == [(64,), (96,)]
    assert [cell.seeds for cell in cells] == [[0, 1], [0, 1]]


def test_rows_before_the_training_error_was_written_take_it_from_their_log(tmp_path):
    source = Path(__file__).parents[2] / "results" / "tables-cifar10.jsonl"
    new = ("training_error", "training_error_slope", "map_positions", "share_seen")
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    file = tmp_path / "old.jsonl"
    old = [{key: value for key, value in line.items() if key not in new} for line in lines]
    file.write_text("".join(json.dumps(line) + "\n" for line in old))
    rows = read_results(file).rows
    first = next(row for row in rows if row.nets[0].name == "A" and row.seed == 0)
    assert first.record["training_error"] == pytest.approx(0.26747, abs=1e-5)
    assert -0.03 < first.record["training_error_slope"] < 0
    assert all("training_error" in row.record for row in rows if len(row.nets) == 1)
    assert not any("training_error" in row.record for row in rows if len(row.nets) > 1)


@pytest.mark.parametrize("name", ["tables-cifar10", "tables-cifar10-bn", "tables-clothing"])
def test_results_of_0_1_0_are_read_and_written_as_they_were(name, tmp_path):
    file = Path(__file__).parents[2] / "results" / f"{name}.jsonl"
    results = read_results(file)
    assert results.about["environment"]["verydeep"] == "0.1.0"
    assert {net for row in results.rows for net in row.nets if len(row.nets) > 1} <= {
        row.nets[0] for row in results.rows if len(row.nets) == 1
    }
    write_results(results, tmp_path / "again.jsonl")
    lines, again = file.read_text().splitlines(), (tmp_path / "again.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in again] == [json.loads(line) for line in lines]
