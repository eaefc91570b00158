"""What the tests share: shapes checked while they run, tiny image folders, real images where they are at hand."""

import os
import re
import signal
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from jaxtyping import install_import_hook

os.environ.setdefault("KERAS_BACKEND", "torch")  # without it Keras asks for TensorFlow, and its tests are skipped
# two threads that wait for each other fall to a fortieth of their speed beside another process: here, in the processes
# of the tests and in those that they start
os.environ.setdefault("OMP_NUM_THREADS", "1")

# an int is a float, as PEP 484 has it
_CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
_CHECKED = ("nets", "images", "data", "weights", "speed", "losses", "testing", "report", "transfer", "localisation")
install_import_hook([f"verydeep.{room}" for room in _CHECKED], _CHECKER)

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402

from verydeep.cli import main as cli  # noqa: E402
from verydeep.device import Compute  # noqa: E402
from verydeep.images.geometry import centred, rescaled_size  # noqa: E402
from verydeep.training.state import Callback, TrainState  # noqa: E402

SHARED = Path(__file__).parents[2] / "shared" / "data"

torch.set_num_threads(1)


def gpu_device() -> str:
    """Where the tests marked gpu compute: cuda, unless somebody wants to see them run elsewhere."""
    return os.environ.get("VERYDEEP_GPU_TESTS_ON", "cuda")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips the tests marked gpu where there is none."""
    if item.get_closest_marker("gpu") and gpu_device() == "cuda" and not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")


class StopAfter(Callback):
    """Presses Ctrl-C after some updates."""

    def __init__(self, updates: int) -> None:
        self.left = updates

    def after_update(self, state: TrainState) -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


def picture(seed: int, width: int, height: int) -> Image.Image:
    """A picture of coloured noise, smooth enough to survive JPEG."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)


def scene(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """A picture of rectangles and ellipses, as rich in edges as a photograph."""
    generator = np.random.default_rng(seed)
    image = picture(seed, width, height)
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        left, top = generator.integers(0, width), generator.integers(0, height)
        box = (left, top, left + generator.integers(4, width // 3), top + generator.integers(4, height // 3))
        colour = tuple(generator.integers(0, 256, 3).tolist())
        (draw.rectangle if generator.random() < 0.5 else draw.ellipse)([int(edge) for edge in box], fill=colour)
    return image


def pillow_rescale(image: Image.Image, scale: int) -> Image.Image:
    """Rescales an image isotropically until its shorter side is the scale: the second implementation of ``rescale``."""
    return image.resize(rescaled_size(image.size, scale), Image.Resampling.BILINEAR)


def centre_crop(image: Image.Image, width: int, height: int) -> Image.Image:
    """Cuts the middle out of an image."""
    left, top, _, _ = centred(image.size, width, height)
    return image.crop((left, top, left + width, top + height))


def trim(image: Image.Image, multiple: int) -> Image.Image:
    """Trims both sides to a multiple, about the centre."""
    return centre_crop(image, image.width // multiple * multiple, image.height // multiple * multiple)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of class folders of small pictures: dark ones, bright ones, and so on."""

    def make(where: str, classes: dict[str, int], side: int = 40) -> Path:
        for number, (name, count) in enumerate(classes.items()):
            folder = tmp_path / where / name
            folder.mkdir(parents=True)
            for index in range(count):
                level = int(30 + 200 * number / max(1, len(classes) - 1))
                noise = np.random.default_rng([number, index]).integers(-20, 21, (side, side + index % 3, 3))
                Image.fromarray(np.clip(level + noise, 0, 255).astype(np.uint8)).save(folder / f"{index}.png")
        return tmp_path / where

    return make


def unpacked(name: str, folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> Path:
    """Unpacks an archive of ../shared/data, or the members wanted; skips the test where it is not at hand."""
    archive = SHARED / f"{name}.tar"
    if not archive.exists():
        pytest.skip("the real images of ../shared/data are not on this machine")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, (member for member in tar if wanted(member.name)), filter="data")
    return folder / name


@pytest.fixture(scope="session")
def shared_photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The 66 ImageNet-style photographs of ../shared/data, where that folder is at hand."""
    return sorted(unpacked("photos", tmp_path_factory.mktemp("photos")).glob("*.JPEG"))


class FileServer(ThreadingHTTPServer):
    """Serves a folder over http.

    Args:
        folder: what is served.
        ranges: whether parts of files are given; else always the whole.
        delay: seconds before each answer.
    """

    daemon_threads = True

    def __init__(self, folder: Path, ranges: bool, delay: float) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder, self.ranges, self.delay = folder, ranges, delay
        self.lock, self.busy, self.most_busy = threading.Lock(), 0, 0
        self.requests: list[str] = []
        self.connections: set[int] = set()
        self.failures: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request, client_address) -> None:
        """A client that goes away is no error."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        server, (path, _, _) = self.server, self.path.partition("?")
        server.requests.append(path)
        server.connections.add(self.client_address[1])
        with server.lock:
            server.busy += 1
            server.most_busy = max(server.busy, server.most_busy)
        time.sleep(server.delay)
        with server.lock:
            server.busy -= 1
        failure = server.failures.pop() if server.failures else None
        if failure == "close":
            self.close_connection = True
            return
        file = server.folder / path.lstrip("/")
        status = 503 if failure == "503" else 200 if file.is_file() else 404
        data = file.read_bytes() if status == 200 else b"no"
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        total = len(data)
        tag = f'"{file.stat().st_mtime_ns}"' if file.is_file() else ""
        if asked and server.ranges and status == 200 and self.headers.get("If-Range", tag) == tag:
            first, last = int(asked[1]), min(int(asked[2] or total), total - 1)
            status, data = (206, data[first : last + 1]) if first < total else (416, b"")
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
        self.send_header("Content-Length", str(len(data)))
        if tag:
            self.send_header("ETag", tag)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if failure == "cut" else data)
        self.close_connection |= failure == "cut"


@pytest.fixture
def serve() -> Iterator[Callable[..., FileServer]]:
    """Serves folders over http while a test runs."""
    servers: list[FileServer] = []

    def start(folder: Path, *, ranges: bool = True, delay: float = 0.0) -> FileServer:
        servers.append(FileServer(folder, ranges, delay))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains on one core in float32, whatever the machine would take."""
    choice = Compute(device="cpu", precision="fp32", channels_last=True, threads=1)
    monkeypatch.setattr("verydeep.runs.compute.choose_training", lambda *_, **asked: choice)


@pytest.fixture
def every_update(monkeypatch: pytest.MonkeyPatch, in_fp32: None) -> None:
    """The same, and the loop looks up after each update, as if it had taken a second."""
    clock = iter(range(10**9))
    monkeypatch.setattr("verydeep.training.loop.time.perf_counter", lambda: float(next(clock)))


@pytest.fixture
def process_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the command line from setting allocator, waits, collector and signals of the process that tests it."""
    monkeypatch.setattr("verydeep.speed.allocator.tune_allocator", lambda: None)
    monkeypatch.setattr("verydeep.speed.allocator.use_huge_pages", lambda: None)
    monkeypatch.setattr("verydeep.speed.waiting.wait_politely", lambda: None)
    monkeypatch.setattr(cli, "_spare_the_collector", lambda: None)
    monkeypatch.setattr(cli, "_end_by_signals", lambda: None)


@pytest.fixture
def verydeep(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], process_as_it_is: None
) -> Callable[..., tuple[int | str | None, str, str]]:
    """Runs the command line; gives its exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["verydeep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run
