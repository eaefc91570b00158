"""A localiser from a net or a file, with what was tuned for it."""

import pytest

from small_nets import make_net
from verydeep import Localiser, UserError, save
from verydeep.localisation.localiser import save_tuned
from verydeep.nets.boxes_card import BoxesCard
from verydeep.weights.resolve import read_card


@pytest.fixture
def net():
    return make_net("A", num_classes=8)


def test_a_net_needs_to_say_what_its_outputs_are(net):
    with pytest.raises(UserError, match="say regression and classes"):
        Localiser(net)
    with pytest.raises(UserError, match="8 outputs, and pcr of 3 classes needs 12"):
        Localiser(net, regression="pcr", classes=("a", "b", "c"))
    assert Localiser(net, regression="pcr", classes=("a", "b")).merge_threshold == 0.5


def test_it_is_saved_and_loaded(net, tmp_path):
    first = Localiser(net, "pcr", ("a", "b"), merge_threshold=0.3, test_scales=(32, 48), classifier="runs/ab")
    first.save(tmp_path / "boxes.safetensors")
    second = Localiser.load(tmp_path / "boxes.safetensors")
    assert second.boxes == first.boxes


def test_what_was_tuned_lies_beside_the_file_and_counts(net, tmp_path):
    file = tmp_path / "boxes.safetensors"
    net.boxes = BoxesCard(regression="pcr", classes=("a", "b"))
    save(net, file)
    before = file.read_bytes()
    save_tuned(file, merge_threshold=0.4, test_scales=(32, 64))
    assert file.read_bytes() == before
    assert read_card(file).boxes.merge_threshold == 0.5
    localiser = Localiser(file)
    assert (localiser.merge_threshold, localiser.test_scales) == (0.4, (32, 64))
    save_tuned(file, merge_threshold=4, test_scales=None)
    with pytest.raises(UserError, match=r"boxes.tuned.json is damaged: remove it"):
        Localiser(file)
