"""What the readers give is the same picture."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.compare.contender import Options
from benchmarks.compare.inference import version_of
from benchmarks.compare.photographs import find_photographs, of_four_thirds
from benchmarks.compare.pipeline import Pipeline
from conftest import scene
from verydeep.errors import UserError


@pytest.fixture
def folder(tmp_path) -> Path:
    for seed, (width, height) in enumerate([(160, 120), (100, 140), (90, 90)]):
        turned = Image.Exif()
        turned[0x0112] = 6 if seed == 1 else 1  # a camera held on its side
        scene(seed, width, height).save(tmp_path / f"{seed}.jpg", quality=92, exif=turned)
    scene(9, 90, 90).save(tmp_path / "none.bmp")  # is not measured: the peers' decoders know JPEG
    return tmp_path


def test_differences_are_small(folder):
    pipeline = Pipeline(Options(what="pipeline", crop=32, data=folder, photographs=4))
    for case in pipeline.cases():
        # OpenCV is no dependency of the tests
        here = [contender for contender in case.contenders if contender.is_ours or version_of(contender.package)]
        outputs = {contender.name: contender.make()() for contender in here}
        assert len(outputs) >= len(case.contenders) - 1
        assert case.errors is not None
        differences = case.errors(outputs)
        assert set(differences) == set(outputs)
        ours = next(contender.name for contender in case.contenders if contender.is_ours)
        assert differences[ours] < 0.5  # of 255: the same crops as the reference's, whose places are drawn again
        for output in outputs.values():
            batch = output[0] if isinstance(output, tuple) else output
            assert batch.shape == (4, 3, 32, 32)
            assert batch.dtype == torch.uint8
    assert "3 photographs, 4 reads a call, on 1 core" in pipeline.notes[0]


def test_photographs_come_with_a_dependency():
    files = find_photographs(None, 5)
    assert len(files) == 5
    with Image.open(files[0]) as image:
        assert image.format == "JPEG"


def test_photographs_again_and_again(folder):
    assert [file.name for file in find_photographs(folder, 4, (".jpg",))] == ["0.jpg", "1.jpg", "2.jpg", "0.jpg"]
    assert find_photographs(folder / "1.jpg", 1) == [folder / "1.jpg"]
    with pytest.raises(UserError, match=r"no photographs in it \(\.webp\)"):
        find_photographs(folder, 4, suffixes=(".webp",))


def test_no_photographs(tmp_path):
    with pytest.raises(UserError, match="no photographs in it"):
        find_photographs(tmp_path, 1)
    with pytest.raises(UserError, match="there is no such folder"):
        find_photographs(tmp_path / "nowhere", 1)


@pytest.mark.parametrize(("size", "cut"), [((160, 100), (133, 100)), ((100, 160), (100, 133)), ((90, 90), (90, 67))])
def test_four_thirds(tmp_path, size, cut):
    scene(0, *size).save(tmp_path / "a.png")
    assert of_four_thirds(tmp_path / "a.png").size == cut
