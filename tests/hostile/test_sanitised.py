"""The compiled sources under the address and the undefined-behaviour sanitizer, over sizes and windows.

benchmarks/kernel_sanitised.sh runs all tests of them so, in minutes; this is a small driver in C++, without Python.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from verydeep.images.resample import find_library

ROOT = Path(__file__).parents[2]
SOURCES, DRIVER = ROOT / "src/verydeep", Path(__file__).with_name("sanitised.cpp")
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g1"]
FLAGS = ["-std=c++17", "-O1", "-fno-math-errno", '-DVERYDEEP_SOURCE="x"']
VECTORS = {0: [], 1: ["-mavx2", "-mfma"], 2: ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]}

ROWS = {
    "kernel": (["speed/kernel/inference.cpp", "speed/kernel/training.cpp"], ["-DKERNEL", "-fopenmp"], 25),
    "resample": (["images/resample.cpp"], ["-DRESAMPLE"], 400),
    "merge": (["localisation/merging.cpp"], ["-DMERGE", "-ffp-contract=off"], 300),
}
"""What is driven: its sources, flags of its own, and the rounds."""


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    """Where g++ has its sanitizers."""
    work = tmp_path_factory.mktemp("sanitised")
    (work / "a.cpp").write_text("int main() {}")
    command = ["g++", *SANITIZERS, str(work / "a.cpp"), "-o", str(work / "a")]
    if sys.platform != "linux" or shutil.which("g++") is None:
        pytest.skip("there is no g++")
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this g++ has no sanitizers")
    return work


@pytest.mark.parametrize("name", ROWS)
def test_nothing_is_read_or_written_outside(name, compiler):
    sources, flags, rounds = ROWS[name]
    plain = find_library()
    vectors = VECTORS[plain.verydeep_vectors() if plain and name != "merge" else 0]
    built, command = compiler / name, ["g++", *FLAGS, *flags, *vectors, *SANITIZERS]
    files = [DRIVER, *(SOURCES / one for one in sources)]
    objects = [f"{built}-{number}.o" for number in range(len(files))]
    compiling = [
        subprocess.Popen([*command, "-c", str(file), "-o", made]) for file, made in zip(files, objects, strict=True)
    ]
    assert [one.wait() for one in compiling] == [0] * len(compiling)
    subprocess.run([*command, "-o", str(built), *objects], check=True)
    environment = {"OMP_NUM_THREADS": "2", "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    done = subprocess.run([str(built), str(rounds)], capture_output=True, text=True, env=environment, timeout=300)
    assert (done.returncode, done.stdout) == (0, f"{rounds} rounds\n"), done.stderr[-4000:]
