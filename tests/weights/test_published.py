"""The rows of published weights say what their publishers say."""

import re
from urllib.parse import urlsplit

import pytest
from torchvision.models import vgg

from verydeep.errors import UsageError
from verydeep.nets.architecture import find_architecture
from verydeep.paper.tables import TABLE_4
from verydeep.weights.published import PUBLISHED, find_published, known_weights, weights_folder
from verydeep.weights.readers.torch import SSD_MEAN

TORCHVISION = {
    ("imagenet-" + {11: "A", 13: "B", 16: "D", 19: "E"}[layers] + ("-bn" if batch_norm else "")): getattr(
        vgg, f"VGG{layers}{'_BN' if batch_norm else ''}_Weights"
    )
    for layers in (11, 13, 16, 19)
    for batch_norm in (False, True)
}
DIGITS = {"md5": (32,), "sha1": (40,), "sha256": (8, 64)}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_says_the_same(name):
    row, theirs = PUBLISHED[name], TORCHVISION[name].IMAGENET1K_V1
    assert row.url == theirs.url
    assert (row.digest.algorithm, row.digest.digits) == ("sha256", re.search(r"-([0-9a-f]{8})\.pth$", theirs.url)[1])
    accuracy = theirs.meta["_metrics"]["ImageNet-1K"]
    assert row.errors.top1_error == pytest.approx(1 - accuracy["acc@1"] / 100, abs=1e-9)
    assert row.errors.top5_error == pytest.approx(1 - accuracy["acc@5"] / 100, abs=1e-9)
    assert round(row.size / 2**20, 3) == theirs.meta["_file_size"]
    assert row.batch_norm == name.endswith("-bn")


def test_torchvision_says_the_same_of_the_features():
    row, theirs = PUBLISHED["imagenet-D-features"], vgg.VGG16_Weights.IMAGENET1K_FEATURES
    assert row.url == theirs.url
    assert row.digest.digits in row.url
    transforms = theirs.transforms.keywords
    assert transforms["mean"] == SSD_MEAN
    assert [255 * deviation for deviation in transforms["std"]] == [1, 1, 1]
    assert round(row.size / 2**20, 3) == theirs.meta["_file_size"]
    assert row.features_only
    assert row.errors is None


@pytest.mark.parametrize("name", ["authors-D", "authors-E"])
def test_the_paper_says_the_same_of_its_nets(name):
    row = PUBLISHED[name]
    table = next(
        row_ for row_ in TABLE_4 if row_.architecture == row.architecture and row_.train_scale == row.train_scale
    )
    assert (row.errors.top1_error, row.errors.top5_error, row.errors.protocol) == (
        table.top1_error,
        table.top5_error,
        "multi-scale",
    )
    assert "authors give none" in row.digest_source


@pytest.mark.parametrize("row", PUBLISHED.values(), ids=PUBLISHED)
def test_every_row_is_whole(row):
    found, _ = find_architecture(row.architecture)
    assert found.name == row.architecture
    assert urlsplit(row.url).scheme == "https"
    if row.digest is None:
        assert row.digest_source == "none published"
    else:
        assert len(row.digest.digits) in DIGITS[row.digest.algorithm]
        assert re.fullmatch(r"[0-9a-f]+", row.digest.digits)
    assert row.licence
    assert 5e8 < row.size < 6e8
    record = row.as_record()
    assert record["name"] == row.name
    assert record["here"] is False or row.file.is_file()


def test_no_name_means_two_things():
    names = [name.casefold().replace("_", "-") for row in PUBLISHED.values() for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))
    assert len({row.file_name for row in PUBLISHED.values()}) == len(PUBLISHED)
    assert len(PUBLISHED) == 8 + 1 + 2 + 2 + 8


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("imagenet-D", "imagenet-D"),
        ("ImageNet-d_BN", "imagenet-D-bn"),
        ("timm/vgg16.tv_in1k", "timm-D"),
        ("vgg19_bn.tv_in1k", "timm-E-bn"),
        ("keras-vgg19", "keras-E"),
        ("VGG_ILSVRC_16_layers", "authors-D"),
        ("D", None),
        ("vgg16", None),
    ],
)
def test_names_as_people_write_them(written, name):
    row = find_published(written)
    assert (row.name if row else None) == name


def test_an_unknown_name():
    with pytest.raises(UsageError, match=r"unknown weights 'imagenet-C': choose one of imagenet-A, .*timm-E-bn"):
        known_weights("imagenet-C")


def test_where_they_lie(monkeypatch, tmp_path):
    monkeypatch.setenv("VERYDEEP_CACHE", str(tmp_path))
    assert weights_folder() == tmp_path / "weights"
    assert PUBLISHED["imagenet-D"].file == tmp_path / "weights/imagenet-D.safetensors"
