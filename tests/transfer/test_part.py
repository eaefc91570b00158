"""The unfinished part of a features file: of several processes, in the order of the images, also after a kill."""

from pathlib import Path

import numpy as np
import pytest

from verydeep import UserError
from verydeep.testing.descriptors import Chunk
from verydeep.transfer.part import Part, begin, part_folder


def chunk(number, rows=2, skipped=()):
    return Chunk(number, np.full((rows, 3), number, np.float32), skipped)


def test_chunks_of_several_processes_come_in_the_order_of_the_images(tmp_path):
    begin(tmp_path / "f.npz", {"dimensions": 3}, resume=False)
    folder = part_folder(tmp_path / "f.npz")
    first, second = Part(folder, 3, 0), Part(folder, 3, 1)
    for number in (4, 0, 2):
        first.append(chunk(number))
    for number in (3, 1):
        second.append(chunk(number, rows=1, skipped=(2 * number + 1,)))
    again = Part(folder, 3, 0)  # a single process resumes what two have begun
    assert again.chunks == {0, 1, 2, 3, 4}
    assert again.skipped == [3, 7]
    assert np.concatenate(list(again.rows()))[:, 0].tolist() == [0, 0, 1, 2, 2, 3, 4, 4]


@pytest.mark.parametrize("cut", [1, 12, 30])
def test_rows_that_are_not_whole_do_not_count(tmp_path, cut):
    begin(tmp_path / "f.npz", {"dimensions": 3}, resume=False)
    part = Part(part_folder(tmp_path / "f.npz"), 3, 0)
    for number in range(3):
        part.append(chunk(number))
    rows = part.folder / "0.rows"
    rows.write_bytes(rows.read_bytes()[:-cut])  # a power cut
    again = Part(part.folder, 3, 0)
    kept = 2 if cut <= 24 else 1
    assert again.chunks == set(range(kept))
    assert rows.stat().st_size == kept * 24
    again.append(chunk(2))
    assert np.concatenate(list(again.rows()))[-1].tolist() == [2, 2, 2]


def test_a_damaged_job_is_named_and_an_empty_one_is_begun_anew(tmp_path):
    out = tmp_path / "f.npz"
    begin(out, {"dimensions": 3}, resume=False)
    assert begin(out, {"dimensions": 4}, resume=False) == {"dimensions": 4}  # nothing was kept
    Part(part_folder(out), 4, 0).append(Chunk(0, np.zeros((1, 4), np.float32), ()))
    with pytest.raises(UserError, match="unfinished job"):
        begin(out, {"dimensions": 4}, resume=False)
    for text in ("[]", "{"):
        Path(part_folder(out), "job.json").write_text(text)
        with pytest.raises(UserError, match=r"job\.json"):
            begin(out, {"dimensions": 4}, resume=True)
