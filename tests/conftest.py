"""What the tests share: shapes checked while they run, tiny image folders, real images where they are at hand."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

from jaxtyping import install_import_hook

# an int is a float, as PEP 484 has it
_CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
install_import_hook(["verydeep.convnets", "verydeep.data", "verydeep.evaluation"], _CHECKER)

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

SHARED = Path(__file__).parents[2] / "shared" / "data"

torch.set_num_threads(1)  # two threads wait for each other where the machine has other work


def gpu_device() -> str:
    """Where the tests marked gpu compute: cuda, unless somebody wants to see them run elsewhere."""
    return os.environ.get("VERYDEEP_GPU_TESTS_ON", "cuda")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips the tests marked gpu where there is none."""
    if item.get_closest_marker("gpu") and gpu_device() == "cuda" and not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")


def picture(seed: int, width: int, height: int) -> Image.Image:
    """A picture of coloured noise, smooth enough to survive JPEG."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)


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


@pytest.fixture(scope="session")
def shared_photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The 66 ImageNet-style photographs of ../shared/data, where that folder is at hand."""
    archive = SHARED / "photos.tar"
    if not archive.exists():
        pytest.skip("the real photographs of ../shared/data are not on this machine")
    folder = tmp_path_factory.mktemp("photos")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return sorted((folder / "photos").glob("*.JPEG"))
