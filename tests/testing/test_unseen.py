"""Which images of data are tested: all of those that no model was trained on, and what is left out is said."""

import json
import unicodedata
from pathlib import Path

import pytest

from small_nets import make_net
from verydeep.data.open import open_data
from verydeep.nets.model_card import DataCard, make_card
from verydeep.nets.model_file import save
from verydeep.testing.evaluate import evaluate


@pytest.fixture
def trained(make_folder, tmp_path):
    """A model file that says it was trained on photos/."""
    data = open_data(make_folder("photos", {"a": 10, "b": 10, "c": 10}))
    net = make_net("A", num_classes=3)
    net.classes = data.classes
    card = DataCard(name=data.name, fingerprint=data.fingerprint, num_train=len(data.train), validation="")
    save(net, tmp_path / "net.safetensors", card=make_card(net, data=card))
    return tmp_path / "net.safetensors"


def lines_of(folder):
    return "\n".join(["file,label", *(f"{file},{file.parent.name}" for file in sorted(folder.glob("*/*.png")))])


@pytest.mark.parametrize(
    ("kind", "split", "count"),
    [
        ("class folders", "all", 15),
        ("a table", "all", 15),
        ("a part of the classes", "all", 10),
        ("one class", "all", 5),
        ("only test/", "test", 15),
        ("only val/", "val", 15),
        ("only val/ and test/", "test", 15),
        ("train/ alone", "all", 15),
        ("train/ and test/", "test", 6),
        ("its own data", "test", 6),
        ("its own data, moved", "test", 6),
    ],
)
def test_new_data_are_tested_whole_and_known_data_where_they_were_held_out(kind, split, count, trained, make_folder):
    told, few = [], dict.fromkeys("abc", 5)
    match kind:
        case "class folders":
            data = make_folder("new", few)
        case "a table":
            data = make_folder("new", few).with_suffix(".csv")
            data.write_text(lines_of(data.with_suffix("")))
        case "a part of the classes":
            data = make_folder("new", {"a": 5, "c": 5})
        case "one class":
            data = make_folder("new", {"b": 5})
        case "only test/":
            data = make_folder("new/test", few).parent
        case "only val/":
            data = make_folder("new/val", few).parent
        case "only val/ and test/":
            make_folder("new/val", {"a": 1, "b": 1})
            data = make_folder("new/test", few).parent
        case "train/ alone":
            data = make_folder("new/train", few).parent
        case "train/ and test/":
            make_folder("new/train", few)
            data = make_folder("new/test", dict.fromkeys("abc", 2)).parent
        case "its own data":
            data = trained.parent / "photos"
        case "its own data, moved":
            data = (trained.parent / "photos").rename(trained.parent / "elsewhere")
    result = evaluate(trained, data, protocol="centre", note=told.append)
    assert (result.split, len(result.labels)) == (split, count)
    assert [result.classes[label] for label in result.labels] == [name.split("/")[-2] for name in result.names]
    left_out = [note for note in told if "measured on the 6 images that are held out as test, without the 24" in note]
    assert bool(left_out) == kind.startswith("its own data")


def test_names_of_a_net_are_compared_in_one_unicode_form(make_folder):
    """As a net has them whose names were listed on another system: in another order, or where data have only test/."""
    names = ("b", "é", "고양이")
    net = make_net("A", num_classes=3)
    net.classes = tuple(unicodedata.normalize("NFD", name) for name in names)
    assert net.classes != names

    def posteriors(data, **options):
        found = evaluate(net, data, protocol="centre", **options)
        assert found.classes == names
        return {
            tuple(Path(name).parts[-2:]): row.tolist() for name, row in zip(found.names, found.posteriors, strict=True)
        }

    whole = make_folder("new", dict.fromkeys(names, 5))
    expected = posteriors(whole, split="all")
    assert len(expected) == 15
    assert posteriors(make_folder("held/test", dict.fromkeys(names, 5)).parent) == expected
    net.classes = net.classes[::-1]
    for part in (net.fc8.weight, net.fc8.bias):
        part.data = part.data.flip(0)
    turned = posteriors(whole, split="all")
    assert all(row == pytest.approx(turned[name]) for name, row in expected.items())


def test_split_all_takes_all_and_a_split_that_is_not_there_is_refused(trained, make_folder, verydeep):
    status, out, _ = verydeep("evaluate", trained, trained.parent / "photos", "--split", "all", "--json")
    assert (status, json.loads(out)["num_images"], json.loads(out)["split"]) == (0, 30, "all")
    make_folder("new/test", dict.fromkeys("abc", 2))
    said = verydeep("evaluate", trained, trained.parent / "new", "--split", "val")[2]
    assert said.endswith("new has no val/: it has test/\n")


def test_a_net_that_may_have_been_trained_on_the_data_says_what_is_left_out(trained, make_folder):
    net, told = make_net("A", num_classes=3), []
    net.classes = ("a", "b", "c")
    data = make_folder("new", dict.fromkeys("abc", 5))
    assert len(evaluate(net, data, protocol="centre", note=told.append).labels) == 3
    assert any(
        "3 images that are held out as test, without the 12 others, which the model may" in note for note in told
    )
