"""What reaches the terminal: nothing that steers it, and one line whatever ends a command."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.table import Table

import verydeep
from conftest import picture
from small_nets import make_net
from verydeep.cli.output import ProgressBar, print_table
from verydeep.images.jpeg import corruption
from verydeep.nets.model_card import make_card
from verydeep.nets.model_file import save

ESCAPE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch, process_as_it_is):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hostile(tmp_path):
    """A model and images with names that steer terminals."""
    net = make_net("A", num_classes=2)
    net.classes = ("da\x1b[31mrk\u202e", "bri\0ght")
    save(net, tmp_path / "m.safetensors", card=make_card(net))
    for name in ("da\x1b[31mrk\u202e", "bright"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for index in range(6):
            picture(index, 40, 40).save(tmp_path / "d" / name / f"{index}\x1b[5m.png")
    (tmp_path / "d/bright/\x1b]0;x\x07.png").write_bytes(b"zz")
    return "m.safetensors"


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "MODEL", "d"),
        ("inspect", "MODEL"),
        ("doctor", "d"),
        ("evaluate", "MODEL", "d"),
        ("search", "MODEL", "d", "d/bright/0\x1b[5m.png"),
        ("features", "MODEL", "d", "--out", "f\x1b[5m.npz"),
        ("train", "d", "--recipe", "quick", "--crop", "32", "--width", "0.01", "--epochs", "1", "--workers", "0"),
        ("train", "d\x1b[5m"),
        ("runs", "d"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]).replace("\x1b", ""),
)
def test_no_name_steers_the_terminal(arguments, hostile, verydeep):
    _, out, err = verydeep(*(hostile if one == "MODEL" else one for one in arguments))
    assert not ESCAPE.search(out + err), (out, err)


def test_tables_and_notes_have_no_control_characters(capsys):
    table = Table("he\x1bad", title="ti\x1btle")
    table.add_row("ce\x1bll")
    print_table(table)
    bar = ProgressBar()
    bar.note("no\x1bte")
    captured = capsys.readouterr()
    assert not ESCAPE.search(captured.out + captured.err)
    assert all(word in captured.out for word in ("he\ufffdad", "ti\ufffdtle", "ce\ufffdll"))


def test_every_verb_prints_by_the_one_print():
    """Python's own hands on whatever a name holds."""
    for file in (Path(verydeep.__file__).parent / "cli").glob("*.py"):
        source = file.read_text()
        if re.search(r"(?<![\w.])print\(", source) and file.name not in ("main.py", "plain.py"):
            assert re.search(r"from verydeep.cli.plain import .*\bprint\b", source), file.name


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: 99 bytes"),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_too_little_memory_is_one_line(error, verydeep, monkeypatch):
    def fail(_):
        raise error

    monkeypatch.setattr("verydeep.cli.main._run", fail)
    status, out, err = verydeep("predict", "m", "x")
    assert (status, out) == (1, "")
    assert re.fullmatch(r"verydeep: there is not enough memory: free some, .*\n", err)


@pytest.mark.skipif(sys.platform != "linux", reason="a working folder cannot be removed elsewhere")
def test_a_working_folder_that_is_gone_is_one_line(verydeep, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert verydeep("inspect", "A") == (
        1,
        "",
        "verydeep: the folder that this command was started in is gone: cd to another\n",
    )


_WAITS = """
import sys, time
from verydeep.cli import main
from verydeep.files import atomic_write
from pathlib import Path

def wait(arguments):
    with atomic_write(Path("half.txt")) as temporary:
        temporary.write_text("half")
        print("ready", flush=True)
        time.sleep(60)

main._run = wait
main.main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_ends_a_command_in_one_line_and_leaves_nothing_half(name, tmp_path):
    code = [sys.executable, "-c", _WAITS]
    with subprocess.Popen(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, name))
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (
        1,
        "verydeep: interrupted\n" if name == "SIGINT" else f"verydeep: ended by {name}\n",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_what_nohup_started_goes_on(tmp_path):
    code = _WAITS.replace("time.sleep(60)", "time.sleep(0.2)")
    command = [sys.executable, "-c", f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{code}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.communicate(timeout=60)[1] == ""
    assert (tmp_path / "half.txt").read_text() == "half"


@pytest.mark.parametrize("option", [["--max-pixels", "1599"], ["--max-pixels=1_599"]])
def test_max_pixels_refuses_one_file_and_not_the_folder(option, verydeep, tmp_path, monkeypatch):
    monkeypatch.setenv("VERYDEEP_MAX_PIXELS", "5")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    net = make_net("A", num_classes=2)
    save(net, tmp_path / "m.safetensors", card=make_card(net))
    picture(1, 40, 40).save("large.png")
    picture(1, 39, 39).save("small.png")
    status, out, err = verydeep("predict", "m.safetensors", *option, "large.png", "small.png")
    assert (status, err) == (
        1,
        "verydeep: large.png cannot be read as an image: its 40x40 pixels are more than the 1,599 that are decoded: "
        "shrink it, or give --max-pixels 1600\n",
    )
    assert "small.png" in out


@pytest.mark.parametrize("value", ["many", "0", "-1", ""])
def test_max_pixels_is_a_number(value, verydeep, monkeypatch):
    monkeypatch.setenv("VERYDEEP_MAX_PIXELS", "")
    status, _, err = verydeep("doctor", "d", f"--max-pixels={value}")
    assert status == 2
    assert re.fullmatch(f"verydeep: --max-pixels ?{value}: give a number of pixels, such as 200000000\n", err)


@pytest.mark.parametrize("verb", ["train", "predict", "evaluate", "localise train", "tables", "doctor"])
def test_help_says_where_the_limit_of_pixels_is_set(verb, verydeep):
    assert "--max-pixels INT" in verydeep(*verb.split(), "--help")[1]


def test_other_verbs_have_no_such_option(verydeep):
    assert "--max-pixels" not in verydeep("inspect", "--help")[1]
    status, _, err = verydeep("inspect", "A", "--max-pixels", "9")
    assert (status, "Unknown option: --max-pixels" in err) == (2, True)


@pytest.mark.parametrize("how", ["predict", "evaluate", "features", "search", "transfer", "saved"])
def test_weights_that_are_not_finite_are_one_line(how, verydeep, tmp_path, make_folder):
    make_folder("d", {"bright": 6, "dark": 6})
    net = make_net("A", num_classes=2)
    net.classes = ("bright", "dark")
    with torch.no_grad():
        net.conv1_1.weight[0, 0, 0, 0] = float("nan")
    save(net, tmp_path / "m.safetensors", card=make_card(net))
    image = "d/dark/0.png"
    more = {
        "predict": [image, "--json"],
        "evaluate": ["d"],
        "features": ["d", "--out", "f.npz"],
        "search": ["d", image],
        "transfer": ["d"],
        "saved": [],
    }[how]
    if how == "saved":
        from safetensors import safe_open
        from safetensors.numpy import load_file, save_file

        whole = make_net("A", num_classes=2)
        whole.classes = ("bright", "dark")
        save(whole, tmp_path / "w.safetensors", card=make_card(whole))
        assert verydeep("evaluate", "w.safetensors", "d", "--save", "p.safetensors")[0] == 0
        with safe_open("p.safetensors", "np") as opened:
            metadata = opened.metadata()
        tensors = load_file("p.safetensors")
        tensors["posteriors"] = tensors["posteriors"] * np.float32("nan")
        save_file(tensors, "p.safetensors", metadata)
        status, out, err = verydeep("evaluate", "p.safetensors")
        assert (status, out) == (1, "")
        assert err == "verydeep: p.safetensors is damaged: a posterior is NaN or infinite: evaluate again\n"
        return
    status, out, err = verydeep(how, "m.safetensors", *more)
    assert (status, out) == (1, '{\n  "images": []\n}\n' if how == "predict" else "")
    assert "are not finite: a weight is NaN or infinite, or too large for the precision" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not Path("f.npz").exists()


@pytest.mark.filterwarnings("default")
def test_a_corrupt_jpeg_is_a_line_with_its_name(verydeep, tmp_path):
    net = make_net("A", num_classes=2)
    save(net, tmp_path / "m.safetensors", card=make_card(net))
    picture(1, 64, 64).save("c.jpg", quality=95, subsampling=0)
    data = Path("c.jpg").read_bytes()
    for place in range(len(data) // 2, len(data) - 2):
        Path("c.jpg").write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        if corruption(Path("c.jpg").read_bytes()):
            break
    status, _, err = verydeep("predict", "m.safetensors", "c.jpg")
    assert status == 0
    assert re.fullmatch(r"verydeep: c.jpg is corrupt \(.+\): its pixels are read as far as they go, save it .*\n", err)
