"""Published names: fetched from a server that misbehaves, checked, and made a model file once."""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.vgg import make_layers
from torchvision.transforms.functional import normalize

from published import closed_address
from verydeep.download import Digest
from verydeep.errors import UserError
from verydeep.weights.fetch import fetch_weights, pinned_hash
from verydeep.weights.published import PUBLISHED
from verydeep.weights.resolve import find_model_file, load, read_card

CHANNELS = {"A": [8, "M", 8, "M", 16, 16, "M", 32, 32, "M", 32, 32, "M"]}
HIDDEN = 256


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, and no proxy between the tests and their server."""
    monkeypatch.setenv("VERYDEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("VERYDEEP_OFFLINE", raising=False)
    return tmp_path / "cache/weights"


def peer(batch_norm=False, classes=1000):
    """A narrow net A with torchvision's layers and names."""
    torch.manual_seed(0)
    net = nn.Module()
    net.features = make_layers(CHANNELS["A"], batch_norm=batch_norm)
    net.classifier = nn.Sequential(
        nn.Linear(32 * 49, HIDDEN), nn.ReLU(), nn.Dropout(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Dropout(),
        nn.Linear(HIDDEN, classes),
    )  # fmt: skip
    return net.eval()


def pth(net):
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    return buffer.getvalue()


def timm_file(net, file):
    """The same weights as timm stores them."""
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    state = {}
    for name, tensor in net.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if layer in ("classifier.0", "classifier.3") and kind == "weight":
            side = 7 if layer == "classifier.0" else 1
            tensor = tensor.reshape(HIDDEN, -1, side, side)
        state[f"{names.get(layer, layer)}.{kind}"] = tensor.contiguous()
    save_file(state, file)


@pytest.fixture
def publish(serve, tmp_path, monkeypatch):
    """Lets a name stand for a small file on a server; gives the server."""
    folder = tmp_path / "published"
    folder.mkdir()
    server = serve(folder)

    def make(name, content, **changes):
        row = PUBLISHED[name]
        file = row.url.rpartition("/")[2]
        (folder / file).write_bytes(content)
        digest = row.digest and Digest("sha256", hashlib.sha256(content).hexdigest()[:8])
        changes = {"url": f"{server.address}/{file}", "size": len(content), "digest": digest, "sha256": None} | changes
        monkeypatch.setitem(PUBLISHED, name, replace(row, **changes))
        return server

    return make


def left_in(folder):
    hidden = (".lock", ".pins.json")
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(hidden)) if folder.exists() else []


@pytest.mark.parametrize("name", ["imagenet-A", "imagenet-A-bn"])
def test_a_name_stands_where_a_model_does(name, publish, cache):
    theirs = peer(name.endswith("-bn"))
    server = publish(name, pth(theirs))
    net = load(name)
    assert left_in(cache) == [f"{name}.safetensors"]
    assert len(server.requests) == 1
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    with torch.inference_mode():
        scaled = normalize(images / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        expected = theirs.classifier(theirs.features(scaled).flatten(1))
        assert torch.allclose(net(images), expected, rtol=1e-3, atol=1e-4)
    assert net.classes[:2] == ("tench", "goldfish")
    card = read_card(name)
    assert card.licence == PUBLISHED[name].licence
    assert hashlib.sha256(pth(theirs)).hexdigest() in card.source
    assert card.results[0]["top1_error"] == PUBLISHED[name].errors.top1_error
    assert card.train_scale == (256, 256)
    assert find_model_file(name.replace("imagenet", "torchvision")) == cache / f"{name}.safetensors"
    assert len(server.requests) == 1


def test_convolutions_alone(publish):
    theirs = peer()
    with torch.no_grad():
        for parameter in theirs.classifier.parameters():
            parameter.fill_(float("nan"))  # as in torchvision's file
    publish("imagenet-D-features", pth(theirs), architecture="A")
    net = load("imagenet-D-features")
    assert net.features_only
    assert net.mean.tolist() == pytest.approx([255 * 0.48235, 255 * 0.45882, 255 * 0.40784])
    assert net.divisor.tolist() == [1, 1, 1]
    with torch.inference_mode():
        images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
        expected = theirs.features(images - net.mean[:, None, None])
        assert torch.allclose(net.features(images), expected, rtol=1e-3, atol=1e-2)


def test_without_a_published_hash_somebody_must_agree(publish, cache, tmp_path):
    timm_file(peer(), tmp_path / "timm.safetensors")
    content = (tmp_path / "timm.safetensors").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    server = publish("timm-A", content)
    for _ in range(2):
        with pytest.raises(UserError, match=rf"verydeep weights fetch timm-A --accept-hash {sha256}$") as caught:
            load("timm/vgg11.tv_in1k")
        assert "\n" not in str(caught.value)
        assert left_in(cache) == ["timm-A-model.safetensors"]
    with pytest.raises(UserError, match="not the one accepted"):
        fetch_weights("timm-A", accept_hash="0" * 64)
    fetch_weights("timm-A", accept_hash=sha256.upper())
    assert left_in(cache) == ["timm-A.safetensors"]
    assert load("timm-A").geometry.num_classes == 1000
    assert len(server.requests) == 1


def test_a_hash_that_is_given_counts_beside_the_published_one(publish, cache):
    content = pth(peer())
    publish("imagenet-A", content)
    with pytest.raises(UserError, match="not the one accepted"):
        fetch_weights("imagenet-A", accept_hash="f" * 64)
    fetch_weights("imagenet-A", accept_hash=hashlib.sha256(content).hexdigest())
    for other in ("f" * 64, hashlib.sha256(content).hexdigest()[:8], "sha256", ""):
        with pytest.raises(UserError, match="was made of another file"):
            fetch_weights("imagenet-A", accept_hash=other)


@pytest.mark.parametrize(
    ("failure", "complaint"),
    [
        (
            "cut",
            "bytes too early; .*it goes on where it ended, or put it there by hand as .*imagenet-A-vgg11-8a719046.pth",
        ),
        ("503", "503|Unavailable"),
        ("close", "cannot be fetched"),
    ],
)
def test_a_download_that_fails_can_be_tried_again(failure, complaint, publish, cache):
    server = publish("imagenet-A", pth(peer()))
    server.failures = [failure]
    with pytest.raises(UserError, match=complaint) as caught:
        load("imagenet-A")
    assert "\n" not in str(caught.value)
    assert not (cache / "imagenet-A.safetensors").exists()
    load("imagenet-A")
    assert left_in(cache) == ["imagenet-A.safetensors"]


def test_the_wrong_bytes_are_not_kept(publish, cache):
    publish("imagenet-A", pth(peer()), digest=Digest("sha256", "8a719046"))
    with pytest.raises(UserError, match=r"did not give the file that was published: its sha256 is .* 8a719046"):
        load("imagenet-A")
    assert left_in(cache) == []


def test_a_file_that_is_no_weights_is_one_line(publish, cache):
    publish("imagenet-A", b"<html>please log in</html>")
    with pytest.raises(UserError, match=r"imagenet-A-vgg11-8a719046\.pth") as caught:
        load("imagenet-A")
    assert "\n" not in str(caught.value)
    assert not (cache / "imagenet-A.safetensors").exists()


def test_another_net_than_the_one_named(publish, cache):
    publish("imagenet-D", pth(peer()))
    with pytest.raises(UserError, match=r"gave A \(VGG-11\).*that is not imagenet-D; remove"):
        load("imagenet-D")


def test_offline(publish, cache, monkeypatch):
    content = pth(peer())
    server = publish("imagenet-A", content)
    monkeypatch.setenv("VERYDEEP_OFFLINE", "1")
    with pytest.raises(UserError, match=r"VERYDEEP_OFFLINE is set: unset it, or put it there by hand as ") as caught:
        load("imagenet-A")
    assert server.requests == []
    by_hand = str(caught.value).rpartition(" as ")[2]
    (cache / by_hand).write_bytes(content[:-1])
    with pytest.raises(UserError, match="is not the file that was published"):
        load("imagenet-A")
    (cache / by_hand).write_bytes(content)
    load("imagenet-A")
    assert left_in(cache) == ["imagenet-A.safetensors"]
    load("imagenet-A")  # what is here needs no network
    assert server.requests == []


def test_no_network(publish, cache):
    publish("imagenet-A", pth(peer()), url=f"{closed_address()}/vgg11-8a719046.pth")
    with pytest.raises(UserError, match=r"cannot be fetched: Connection refused; try again where there is a network"):
        load("imagenet-A")
    assert left_in(cache) == []


def test_ctrl_c_leaves_no_model_file(publish, cache):
    publish("imagenet-A", pth(peer()))

    def interrupt(what, done, total):
        if what.startswith("making") and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_weights("imagenet-A", progress=interrupt)
    assert left_in(cache) == ["imagenet-A-vgg11-8a719046.pth"]
    assert fetch_weights("imagenet-A").is_file()


def test_processes_that_ask_at_once_fetch_once(publish):
    server = publish("imagenet-A", pth(peer()))
    server.delay = 0.2
    with ThreadPoolExecutor(4) as pool:
        files = set(pool.map(lambda _: fetch_weights("imagenet-A"), range(4)))
    assert len(files) == len(server.requests) == 1


def test_progress_is_told(publish):
    publish("imagenet-A", pth(peer()))
    told = []
    fetch_weights("imagenet-A", progress=lambda *state: told.append(state))
    assert list(dict.fromkeys(what.split()[0] for what, _, _ in told)) == ["downloading", "checking", "making"]
    assert all(0 <= done <= total for _, done, total in told)


def test_a_cache_that_cannot_be_written(publish, cache, monkeypatch, tmp_path):
    publish("imagenet-A", pth(peer()))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VERYDEEP_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written .*VERYDEEP_CACHE"):
        load("imagenet-A")


def test_a_file_of_the_same_name_wins(publish, tmp_path, monkeypatch):
    server = publish("imagenet-A", pth(peer()))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet-A").mkdir()
    with pytest.raises(UserError, match="imagenet-A holds no model"):
        load("imagenet-A")
    assert server.requests == []


def test_a_file_is_pinned_when_it_is_first_fetched(publish, cache, verydeep):
    """The publisher gives eight digits of a hash, which a second file may have."""
    content = pth(peer())
    publish("imagenet-A", content)
    first = hashlib.sha256(content).hexdigest()
    status, _, err = verydeep("weights", "fetch", "imagenet-A")
    assert (status, f"the publisher's file has the sha256 {first}: from now on another is refused" in err) == (0, True)
    (cache / "imagenet-A.safetensors").unlink()
    other = pth(peer(classes=10))
    publish("imagenet-A", other)
    second = hashlib.sha256(other).hexdigest()
    with pytest.raises(
        UserError, match=f"has the sha256 {second}, and not {first}, which it had when it was first fet"
    ):
        fetch_weights("imagenet-A")
    assert not (cache / "imagenet-A.safetensors").exists()
    fetch_weights("imagenet-A", accept_hash=second)
    assert pinned_hash(PUBLISHED["imagenet-A"]) == second
    assert "pins" not in verydeep("cache")[1]


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"imagenet-A": 3}'])
def test_a_damaged_record_of_pins_pins_nothing(damage, publish, cache):
    cache.mkdir(parents=True)
    (cache / ".pins.json").write_text(damage)
    publish("imagenet-A", pth(peer()))
    assert load("imagenet-A").geometry.num_classes == 1000


def test_the_whole_hash_counts_where_it_is_known(publish, cache):
    content = pth(peer())
    publish("imagenet-A", content, sha256="0" * 64)
    with pytest.raises(UserError, match=f"and not {'0' * 64}, which others have measured"):
        load("imagenet-A")


def test_the_whole_hashes_begin_with_those_that_are_published():
    whole = [row for row in PUBLISHED.values() if row.sha256]
    assert whole
    assert all(row.digest and len(row.sha256) == 64 and row.sha256.startswith(row.digest.digits) for row in whole)
