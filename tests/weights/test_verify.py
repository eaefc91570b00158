"""Pictures on which two programs are compared."""

import pytest

from conftest import scene
from verydeep.cli.weights import photographs
from verydeep.errors import UserError
from verydeep.weights.verify import drawn_pictures


def test_photographs_are_the_first_of_the_folder(tmp_path):
    for number in range(20):
        scene(number).save(tmp_path / f"{number}.png")
    assert [picture.tobytes() for picture in photographs(tmp_path)] == [scene(n).tobytes() for n in range(16)]
    with pytest.raises(UserError):
        photographs(tmp_path / "missing")


def test_the_drawn_pictures_are_always_the_same_and_differ():
    first, second = drawn_pictures(), drawn_pictures()
    assert [picture.tobytes() for picture in first] == [picture.tobytes() for picture in second]
    assert len({picture.tobytes() for picture in first}) == len(first)
