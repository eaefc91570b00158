"""JSON lines and the description of the machine."""

from verydeep.records import append_line, environment, read_lines


def test_lines_round_trip_and_a_cut_last_line_does_not_count(tmp_path):
    file = tmp_path / "log.jsonl"
    append_line(file, {"epoch": 1, "loss": 0.5})
    append_line(file, {"epoch": 2, "loss": 0.25})
    with file.open("a") as log:
        log.write('{"epoch": 3, "lo')
    whole = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    assert read_lines(file) == whole
    with file.open("a") as log:
        log.write('{"epoch": 3, "loss": 0.1}\n')
    assert read_lines(file) == whole


def test_environment_names_what_a_figure_depends_on():
    described = environment()
    assert {"verydeep", "torch", "python", "processor", "cores"} <= described.keys()
    assert isinstance(described["cores"], int)
    assert described["cores"] >= 1
