"""How many threads compute, what a forked process does, and how threads wait: each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from small_nets import make_net
from verydeep import machine
from verydeep.cli.options import prepare_process
from verydeep.nets.model_file import save
from verydeep.nets.stored_net import ModelFile, StoredNet
from verydeep.speed.kernel_backend import KernelBackend
from verydeep.speed.library import Kernel, find_kernel, has_kernel
from verydeep.speed.waiting import SETTINGS

needs_kernel = pytest.mark.skipif(not has_kernel(), reason="no kernel was built")


def printed(code: str, *arguments: str, **environment: str) -> str:
    """What a new process prints, whose environment says nothing of threads but what is given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=inherited | environment, timeout=120
    ).stdout.strip()


WAIT = """
import os
import verydeep
before = dict(os.environ)
import verydeep.speed.waiting, verydeep.speed.library, verydeep.testing.classifier
assert dict(os.environ) == before
print(verydeep.wait_politely(), *(os.environ.get(name) for name in verydeep.speed.waiting.SETTINGS))
"""


def test_a_call_sets_how_threads_wait_and_an_import_does_not():
    assert printed(WAIT) == " ".join(["True", *SETTINGS.values()])


def test_what_the_user_has_set_stays():
    assert printed(WAIT, OMP_WAIT_POLICY="active") == "True active None None"


@needs_kernel
def test_a_call_after_openmp_was_loaded_says_so():
    load = "from verydeep.speed.library import find_kernel\nfind_kernel()\n"
    assert printed(f"import verydeep\n{load}print(verydeep.wait_politely())") == "False"


COMMAND = """
import os, sys
from verydeep.cli.options import prepare_process
prepare_process()
assert "torch" not in sys.modules
print(os.environ["OMP_WAIT_POLICY"])
"""


def test_the_command_line_makes_the_call():
    assert printed(COMMAND) == "passive"


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"OMP_NUM_THREADS": "3"}, "3")])
def test_the_command_line_tells_torch_of_a_quota(given, expected, monkeypatch, process_as_it_is):
    monkeypatch.delenv("OMP_NUM_THREADS")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine, "_affinity", lambda: range(8))
    monkeypatch.setattr(machine, "_quotas", lambda _: iter([0.5]))
    prepare_process()
    assert os.environ["OMP_NUM_THREADS"] == expected


THREADS = "from verydeep.device import num_threads\nprint(num_threads())"


def test_one_core_by_affinity_is_one_thread():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    first = min(os.sched_getaffinity(0))
    assert printed(f"import os\nos.sched_setaffinity(0, {{{first}}})\n" + THREADS) == "1"


def test_the_number_that_the_user_has_set_is_kept():
    assert printed(THREADS, OMP_NUM_THREADS="5") == "5"
    assert printed(THREADS, OMP_NUM_THREADS="3,2") == "3"
    assert int(printed(THREADS, OMP_NUM_THREADS="many")) >= 1


@pytest.fixture
def cores(monkeypatch):
    """Lets the process have some cores by affinity."""
    monkeypatch.delenv("OMP_NUM_THREADS")

    def have(count: int) -> None:
        monkeypatch.setattr(machine, "_affinity", lambda: range(count))

    return have


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


UNIFIED = {"proc/self/cgroup": "0::/user/job"}


def older(folder: str, quota: str) -> dict[str, str]:
    """The files of the first version of control groups."""
    files = {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": "100000"}
    groups = {"proc/self/cgroup": "3:cpu,cpuacct:/job\n1:memory:/job"}
    return groups | {f"sys/fs/cgroup/cpu{name}": text for name, text in files.items()}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        (UNIFIED | {"sys/fs/cgroup/user/job/cpu.max": "50000 100000"}, 1),
        (UNIFIED | {"sys/fs/cgroup/user/job/cpu.max": "max 100000"}, 8),
        (UNIFIED | {"sys/fs/cgroup/user/job/cpu.max": "max 100000", "sys/fs/cgroup/user/cpu.max": "150000 100000"}, 2),
        (UNIFIED | {"sys/fs/cgroup/cpu.max": "300000 100000"}, 3),
        (older("/job", "50000"), 1),
        (older("", "-1"), 8),
        (UNIFIED | {"sys/fs/cgroup/cpu.max": "nonsense"}, 8),
    ],
)  # fmt: skip
def test_a_control_group_limits_the_threads(cores, tmp_path, files, expected):
    cores(8)
    root = write(tmp_path, files)
    assert machine.num_cores(root) == machine.num_threads(root) == expected
    assert machine.has_quota(root) == (expected < 8)


def test_two_hardware_threads_of_a_core_are_one_thread(cores, tmp_path):
    cores(4)
    siblings = {
        f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{cpu % 2},{cpu % 2 + 2}" for cpu in range(4)
    }
    root = write(tmp_path, siblings)
    assert (machine.num_cores(root), machine.num_threads(root)) == (4, 2)


@needs_kernel
@pytest.mark.parametrize("name", ["A-LRN", "vgg16_bn"])
def test_scores_do_not_depend_on_the_number_of_threads(name, tmp_path, monkeypatch):
    file = tmp_path / "net.safetensors"
    save(make_net(name, width=0.25, crop=64), file)
    images = np.random.default_rng(0).integers(0, 256, (3, 97, 130, 3), np.uint8)
    found = []
    for count in (1, 2, 3, 7):
        monkeypatch.setattr(Kernel, "threads", lambda _, count=count: count)
        found.append(KernelBackend(StoredNet(ModelFile(file)), find_kernel()).maps(images).tobytes())
    assert len(set(found)) == 1


FORK = """
import os, signal, sys
import numpy as np
from verydeep.nets.stored_net import ModelFile, StoredNet
from verydeep.speed.kernel_backend import KernelBackend
from verydeep.speed.library import find_kernel
from pathlib import Path
images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
backend = KernelBackend(StoredNet(ModelFile(Path(sys.argv[1]))), find_kernel())
expected = backend.maps(images)
child = os.fork()
if child == 0:
    signal.alarm(60)
    again = KernelBackend(StoredNet(ModelFile(Path(sys.argv[1]))), find_kernel())
    same = all(np.array_equal(each.maps(images), expected) for each in (backend, again))
    os._exit(0 if same and find_kernel().threads() == 1 else 1)
print(os.waitpid(child, 0)[1], find_kernel().threads())
"""


@needs_kernel
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_process_forked_after_several_threads_have_computed_computes_the_same(tmp_path):
    file = tmp_path / "net.safetensors"
    save(make_net(), file)
    assert printed(FORK, str(file), OMP_NUM_THREADS="2") == "0 2"
