"""What a model file says of itself, in words: nothing that is unknown is made up, and no split is left out."""

import pytest

from verydeep.errors import UserError
from verydeep.nets.model_card import DataCard, card_facts, error_line, make_card
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.weights.resolve import read_card


@pytest.fixture
def net():
    return VeryDeep("E", num_classes=12, crop=32, width=0.125, batch_norm=True)


def test_what_is_unknown_is_said_to_be(net):
    facts = card_facts(make_card(net))
    assert facts["architecture"] == "E (VGG-19) with batch norm, crop 32, width 0.125"
    assert facts["classes"] == "12, without names"
    for name in ("data", "recipe", "licence", "source"):
        assert facts[name] == "unknown"
    assert facts["errors"] == "none known"
    assert facts["selected on"].startswith("no images")


@pytest.mark.parametrize("figures", [{"top1_error": "0.1"}, {"num_images": "many"}, {"top5_error": True}, {"split": 3}])
def test_figures_of_another_kind_are_refused(figures, net, tmp_path):
    card = make_card(net)
    save(net, tmp_path / "net.safetensors", card=card.model_copy(update={"errors": figures}))
    with pytest.raises(UserError, match="its card is not readable at errors"):
        read_card(tmp_path / "net.safetensors")


def test_nothing_of_a_card_steers_a_terminal(net):
    facts = card_facts(make_card(net, source="\x1b]0;title\x07\x1b[2J a place"))
    assert facts["source"] == "\ufffd]0;title\ufffd\ufffd[2J a place"


def test_what_is_known_is_said(net):
    net.classes = tuple(f"class {number}" for number in range(12))
    net.mirror = False
    facts = card_facts(
        make_card(
            net,
            data=DataCard(name="hands", fingerprint="f" * 64, num_train=1234, validation="the folder val/"),
            recipe={"name": "quick", "schedule": "plateau", "epochs": 9},
            epochs=7,
            errors={"split": "val", "protocol": "centre", "num_images": 1000, "top1_error": 0.125, "top5_error": None},
            results=({"split": "test", "protocol": "single", "top1_error": 0.2, "top5_error": 0.01},),
            licence="MIT",
        )
    )
    assert facts["classes"].endswith("class 9, ...")
    assert facts["data"] == "hands: 1,234 training images; validation: the folder val/; fingerprint ffffffffffff"
    assert facts["recipe"] == 'quick, 7 epochs done: schedule "plateau", epochs 9'
    assert facts["selected on"] == "val"
    assert facts["errors"] == (
        "top-1 error 12.50% on 1,000 val images by centre, which the weights were selected on; "
        "top-1 error 20.00%, top-5 error 1.00% on test images by single"
    )
    assert facts["mirror"] == "a mirrored image may show another class"
    assert (facts["licence"], facts["source"]) == ("MIT", "trained by verydeep")


def test_convolutions_alone_have_no_classes():
    facts = card_facts(make_card(VeryDeep("A", crop=32, width=0.125, features_only=True)))
    assert facts["classes"] == "none: there are no scores"
    assert facts["architecture"].endswith("convolutions only")


def test_published_errors_say_how_they_were_measured():
    line = error_line(
        {"top1_error": 0.25, "split": "val", "data": "imagenet", "protocol": "centre", "measured": "by its publisher"},
        None,
    )
    assert line == "top-1 error 25.00% on val images of imagenet by centre (by its publisher)"
