"""Verbs that test and describe compute with the kernel and import no torch: the same answers, bit for bit."""

import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import scene
from small_nets import make_net
from verydeep.nets.model_file import save
from verydeep.speed.library import has_kernel

pytestmark = pytest.mark.skipif(not has_kernel(), reason="no kernel was built")

RUN = """
import json, sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

mode, commands = sys.argv[1], json.loads(sys.argv[2])
if mode == "without":
    sys.meta_path.insert(0, NoTorch())
elif mode == "before":
    import torch
from verydeep.cli.main import main
for command in commands:
    sys.argv = ["verydeep", *command]
    try:
        main()
    except SystemExit as ended:
        print(f"status {ended.code or 0}")
if mode == "without":
    assert "torch" not in sys.modules
    files = {name.partition(".")[0]: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
    print(json.dumps([name for name, file in files.items() if "site-packages" in file]), file=sys.stderr)
"""


def run(mode: str, commands: list[list[str]], folder: Path, **environment: str) -> tuple[str, str]:
    """What a new process prints that runs several verbs."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::UserWarning", "-c", RUN, mode, json.dumps(commands)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "2"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three nets, one of them stored in half the bytes, and photographs of two classes."""
    made = tmp_path_factory.mktemp("torchless")
    for name, options in {"D": {"batch_norm": True}, "A-LRN": {"features_only": True}, "C": {"head": "linear"}}.items():
        net = make_net(name, crop=64, num_classes=2, **options)
        net.classes = None if net.features_only else ("a", "b")
        save(net, made / f"{name}.safetensors", precision="bf16" if name == "C" else "fp32")
    for number, name in enumerate("ab"):
        (made / "photos" / name).mkdir(parents=True)
        for index in range(10):
            scene(10 * number + index, 100 + 20 * (index % 2), 90).save(made / "photos" / name / f"{index}.png")
    return made


def verbs(out: str) -> list[list[str]]:
    photos = "photos/b/1.png"
    protocols = (
        ("single", "dense+multi-crop", "caffe", "adaptive") if out == "torch" else ("single", "multi-scale", "adaptive")
    )
    return [
        *(["predict", "D.safetensors", photos, "photos/a", "--json", "--protocol", name] for name in protocols),
        ["predict", "C.safetensors", photos, "--heatmap", f"{out}-maps", "--json"],
        ["inspect", "C.safetensors", "--check", "--json"],
        ["inspect", "vgg16_bn", "--json"],
        ["doctor", "photos", "--json"],
        ["evaluate", "D.safetensors", "C.safetensors", "photos", "--save", f"{out}.safetensors", "--split", "all"],
        ["features", "A-LRN.safetensors", "D.safetensors", "photos", "--out", f"{out}.npz", "--pool", "max"],
        ["features", "D.safetensors", "photos", "--layer", "relu5_3", "--out", f"{out}-inner.npz"],
    ]


def test_without_torch_and_with_it_the_answers_are_the_same_to_the_last_bit(folder):
    without, imported = run("without", verbs("without"), folder)
    check_listed(json.loads(imported.splitlines()[-1]))
    before, _ = run("before", verbs("before"), folder)
    assert without.count("status 0") == len(verbs(""))
    assert _untimed(without) == _untimed(before)
    ours, theirs = (load_file(folder / f"{name}.safetensors")["posteriors"] for name in ("without", "before"))
    assert ours.tobytes() == theirs.tobytes()
    for name in ("{}.npz", "{}-inner.npz"):
        ours, theirs = (np.load(folder / name.format(mode))["descriptors"] for mode in ("without", "before"))
        assert ours.tobytes() == theirs.tobytes()


def check_listed(modules: list[str]) -> None:
    """Checks that modules are of packages that an environment without torch is made of."""
    of = packages_distributions()
    packages = {name.lower().replace("_", "-") for module in modules for name in of.get(module, [])}
    lines = (Path(__file__).parents[2] / "requirements-without-torch.txt").read_text().splitlines()
    listed = {line.partition("==")[0] for line in lines if not line.startswith("#")}
    assert {"numpy", "pillow", "safetensors"} <= packages <= listed | {"verydeep", "setuptools"}


def _untimed(printed: str) -> list[str]:
    """The lines without the table of ``evaluate``, which says how long an image took; one name for files."""
    lines = printed.replace("before", "without").splitlines()
    return [line for line in lines if not line.startswith(tuple("┏┃┡├│└"))]


def test_the_scores_are_those_of_pytorch(folder):
    protocols = ("single", "ten-crop", "dense+multi-crop", "adaptive")
    commands = [
        ["predict", f"{net}.safetensors", "photos", "--json", "--protocol", name] for net in "CD" for name in protocols
    ]
    ours, theirs = (
        run(mode, commands, folder, VERYDEEP_KERNEL=kernel)[0] for mode, kernel in (("without", ""), ("before", "none"))
    )
    for own, other in zip(ours.split("status 0")[:-1], theirs.split("status 0")[:-1], strict=True):
        for first, second in zip(json.loads(own)["images"], json.loads(other)["images"], strict=True):
            posteriors = [{row["name"]: row["posterior"] for row in image["classes"]} for image in (first, second)]
            assert posteriors[0] == pytest.approx(posteriors[1], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "kernel"), [(["--protocol", "caffe"], ""), ([], "none"), (["--device", "cuda"], "")]
)
def test_where_torch_is_needed_and_missing_one_line_says_so(folder, options, kernel):
    printed, errors = run(
        "without", [["predict", "D.safetensors", "photos/a", *options]], folder, VERYDEEP_KERNEL=kernel
    )
    assert printed == "status 1\n"
    assert errors.splitlines()[0] == "verydeep: this needs PyTorch, which is not installed here: pip install torch"
    assert len(errors.splitlines()) == 2  # and the modules


def test_a_short_command_imports_little(folder):
    heavy = ("asyncio", "ssl", "http.client", "jaxtyping._array_types", "scipy", "sklearn", "jinja2", "filelock")
    code = RUN + f"print([name for name in {heavy} if name in sys.modules])"
    command = [sys.executable, "-c", code, "without", json.dumps([["predict", "D.safetensors", "photos/a/1.png"]])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["status 0", "[]"]
