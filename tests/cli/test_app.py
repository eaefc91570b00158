"""How the command line reads its arguments, and what help says."""

import importlib
import json
import subprocess
import sys

import pytest

from conftest import picture
from verydeep.cli.app import app
from verydeep.cli.main import VERBS
from verydeep.cli.options import options_given, read_changes
from verydeep.tables.grid import TablesOptions


def arguments_of(*verb):
    found = app
    for name in verb:
        found = found[name]
    return found.assemble_argument_collection(parse_docstring=True)


def test_help_of_train_has_the_words_that_people_search_for(verydeep):
    _, out, _ = verydeep("train", "--help")
    words = " ".join(out.split())
    assert "balance=loss (class weights)" in words
    assert "balance=sampling (oversampling)" in words


@pytest.mark.parametrize(
    "verb",
    [
        *((verb,) for verb in VERBS),
        *(("weights", one) for one in ("list", "fetch", "import", "export")),
        *(("localise", one) for one in ("train", "evaluate", "predict")),
    ],
)
def test_help_fits_80_columns_and_shows_an_example(verb, verydeep, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = verydeep(*verb, "--help")
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[0].startswith(f"Usage: verydeep {' '.join(verb)}")
    assert max(map(len, lines)) <= 80
    assert verb in (("weights",), ("localise",)) or f"  Example: verydeep {' '.join(verb)}" in out
    assert verb in (("weights",), ("localise",)) or "--json  " in out
    assert "--no-validation" in out or "--no-" not in out.replace("--no-pictures", "")


def test_the_first_help_says_of_each_verb_what_its_own_help_does(verydeep, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    _, out, _ = verydeep("--help")
    for verb, text in VERBS.items():
        assert app[verb].help.split("\n\n")[0] == text
        assert f"  {verb:8}  {text}\n" in out


def test_every_option_has_a_text():
    for verb in VERBS:
        if verb not in ("localise", "weights"):
            for argument in arguments_of(verb):
                assert argument.parameter.help or not argument.show, (verb, argument.name)


def test_options_may_stand_anywhere_and_repeat(verydeep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture(0, 40, 40).save("a.png")
    status, out, _ = verydeep("predict", "verydeep-cifar10", "--top", "1", "a.png", "--json", "a.png")
    assert status == 0
    assert [len(image["classes"]) for image in json.loads(out)["images"]] == [1, 1]
    _, bound, _ = app.parse_args(["train", "--set", "dropout=0", "x", "--set", "freeze=1,2", "--train-scale", "9,99"])
    assert bound.args == ("x",)
    assert read_changes(bound.kwargs["set"]) == {"dropout": 0, "freeze": [1, 2]}
    assert bound.kwargs["train_scale"] == "9,99"
    _, bound, _ = app.parse_args(["train", "x", "--epochs", "1", "--plan", "--epochs", "2", "--plan"])
    assert (bound.kwargs["options"].epochs, bound.kwargs["options"].plan) == (2, True)  # the last one counts
    _, bound, _ = app.parse_args(["shards", "digits", "--out", "new"])
    assert str(bound.arguments["out"]) == "new"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["train", "x", "--epochs", "1.5"], '--epochs: unable to convert "1.5" into int (see verydeep train --help)'),
        (["train", "x", "--epochs"], "--epochs needs a value (see verydeep train --help)"),
        (["train", "x", "--no-batch-norm"], "Unknown option: --no-batch-norm. Did you mean --batch-norm?"),
        (["train", "x", "--set.dropout=0"], "Unknown option: --set.dropout (see verydeep train --help)"),
        (["train", "x", "y"], "y is one argument too many (see verydeep train --help)"),
        (["train", "x", "-j"], "Unknown option: -j"),
        (["--verbose"], "Unknown option: --verbose (see verydeep --help)"),
        (["evaluate"], "MODEL... DATA is missing (see verydeep evaluate --help)"),
        (["predict", "m"], "IMAGE is missing (see verydeep predict --help)"),
        (["weights", "import", "x"], "--out is missing (see verydeep weights import --help)"),
        (["weights", "exprt"], 'Unknown command "exprt". Did you mean "export"? (see verydeep weights --help)'),
        (["evaluate", "m", "x", "--test-scales", "big"], "--test-scales big: give pixels, such as 256 or 256,512"),
    ],
)
def test_what_the_parser_refuses_is_one_line_with_the_verb(arguments, complaint, verydeep):
    status, out, err = verydeep(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("verydeep: ")
    assert complaint in err


def test_options_given_are_those_that_differ_from_their_defaults():
    assert options_given(TablesOptions()) == []
    options = TablesOptions(width=0.5, changes={"dropout": 0}, seeds=1, split="val")
    assert options_given(options, besides=("split",)) == ["--width", "--set"]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("localise", "weights")])
def test_help_of_a_verb_imports_neither_torch_nor_numpy(verb):
    code = (
        f"import sys; sys.argv = ['verydeep', '{verb}', '--help']\n"
        "from verydeep.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'PIL', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_pipe_that_closes_ends_quietly():
    command = f"{sys.executable} -m verydeep weights list --json | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{", "")


def test_every_verb_is_where_the_app_looks():
    for verb in VERBS:
        module = "data" if verb in ("fetch", "shards", "doctor") else verb
        assert callable(getattr(importlib.import_module(f"verydeep.cli.{module}"), verb))
