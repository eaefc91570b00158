"""What ``import verydeep`` gives: every name once, those of version 0.1 too, and no heavy library before it is used."""

import subprocess
import sys

import pytest

import verydeep


@pytest.mark.parametrize("name", verydeep.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name):
    value = getattr(verydeep, name)
    assert value.__doc__
    assert name in dir(verydeep)


def test_names_of_the_first_version_are_still_understood():
    old = {"Mistake" + "Error": "UserError", "Execu" + "tion": "ComputeOptions"}
    for before, now in old.items():
        assert getattr(verydeep, before) is getattr(verydeep, now)
    with pytest.raises(AttributeError, match="has no attribute 'Mistakes'"):
        _ = verydeep.Mistakes


def test_importing_it_imports_no_heavy_library():
    code = "import sys, verydeep; print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout.strip() == "[]"
