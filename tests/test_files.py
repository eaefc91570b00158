"""Files that are written whole or not at all."""

import os

import pytest

from verydeep.files import atomic_write, format_bytes, format_number, parse_json, read_lines


@pytest.mark.parametrize(
    ("number", "text"),
    [(1420.3, "1,420"), (99.96, "100"), (99.94, "99.9"), (14.24, "14.2"), (0.1424, "0.142"), (0, "0")],
)
def test_numbers_are_never_powers_of_ten(number, text):
    assert format_number(number) == text


def test_sizes():
    assert (format_bytes(999_960), format_bytes(170_300_000), format_bytes(12)) == ("1,000 kB", "170 MB", "12 bytes")


def test_the_new_file_replaces_the_old_one(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with atomic_write(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")

    def fail():
        with atomic_write(file) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_the_file_has_the_usual_permissions(tmp_path):
    """Some writers make files that nobody else may read."""
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_RDWR, 0o600))
    (tmp_path / "b.txt").touch()
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "9" * 5000, "{", b"\xff", ""], ids=["deep", "long", "cut", "bytes", "empty"]
)
def test_whatever_is_wrong_with_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_lines_end_at_what_is_no_record(tmp_path):
    file = tmp_path / "log.jsonl"
    for cut in ("[1]\n", "9" * 5000 + "\n", "\xff\n"):
        file.write_text('{"epoch": 1}\n' + cut + '{"epoch": 2}\n')
        assert read_lines(file) == [{"epoch": 1}]
