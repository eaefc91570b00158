"""Shards are used like the folder they were made of: the same images, order, crops, splits and weights."""

import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conftest import StopAfter, picture
from verydeep.data.batches import training_batches
from verydeep.data.open import open_data
from verydeep.data.shard_writer import write_shards
from verydeep.data.shards.dataset import is_shards
from verydeep.errors import UserError
from verydeep.images.augment import TrainingView
from verydeep.nets.net import VeryDeep
from verydeep.runs.fit import fit
from verydeep.runs.options import ComputeOptions
from verydeep.runs.resume import resume
from verydeep.testing.evaluate import evaluate
from verydeep.training.recipe import find_recipe

VIEW = TrainingView(crop=32, train_scale=(32, 40), mirror=True)
# the file server of a test runs in a thread of the process that forks the workers
FORKED = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
RECIPE = find_recipe("quick", epochs=2, batch_size=16, learning_rate=0.05, colour_shift=True)


@pytest.fixture
def photos(make_folder):
    """A folder with names that other programs stumble over."""
    root = make_folder("photos", {"dark": 24, "grey": 24, "bright": 24})
    picture(1, 50, 40).save(root / "dark" / "a.b c.d.JPG", "JPEG")
    (root / "grey" / "größer").mkdir()
    picture(2, 40, 50).save(root / "grey" / "größer" / "🙂.jpeg")
    picture(3, 40, 50).save(root / "grey" / f"{'long' * 40}.png")
    return root


@pytest.fixture
def out(photos, tmp_path):
    """The folder as shards of a few images each."""
    write_shards(photos, tmp_path / "shards", size="60K")
    return tmp_path / "shards"


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch, tmp_path, in_fp32):
    """Every use of an image reads it again; two trainings compute alike; lists of shards are kept here alone."""
    for module in ("start", "resume"):
        monkeypatch.setattr(f"verydeep.runs.{module}.memory_for_images", lambda: 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def same(one, other):
    """Whether two data sets are one: names, labels, bytes, splits, fingerprint."""
    assert (one.name, one.classes, one.mirror, one.validation) == (
        other.name,
        other.classes,
        other.mirror,
        other.validation,
    )
    assert one.fingerprint == other.fingerprint
    for split in ("train", "val", "test"):
        ours, theirs = getattr(one, split), getattr(other, split)
        assert (ours is None) == (theirs is None)
        if ours is None:
            continue
        assert ours.split == theirs.split
        assert list(ours.names) == list(theirs.names)
        assert np.array_equal(ours.labels, theirs.labels)
        for name in ours.names:
            assert ours.source.read(name) == theirs.source.read(name)
            assert ours.source.size(name) == theirs.source.size(name)
        assert np.array_equal(np.asarray(ours.read(0)), np.asarray(theirs.read(0)))
    return True


def test_shards_are_the_folder(photos, out):
    assert len(list(out.glob("train-*.tar"))) > 3
    folder, shards = open_data(photos), open_data(out)
    assert same(folder, shards)
    assert same(folder, open_data(out / "index.json"))
    where = shards.train.where(0)
    assert where.endswith(f".tar:{shards.train.names[0]}")
    assert where.startswith(str(out / "train-0"))


@pytest.mark.parametrize("others", [["val"], ["test"], ["validation", "test"]])
def test_folders_of_splits(others, make_folder, tmp_path):
    root = make_folder("set/train", {"b10": 9, "b2": 12, "none": 10}).parent
    for split in others:
        make_folder(f"set/{split}", {"b2": 4, "b10": 5})
    write_shards(root, tmp_path / "shards", size="50K")
    assert same(open_data(root), open_data(tmp_path / "shards"))


def test_pictures_without_files_become_png(tmp_path):
    written = write_shards("digits", tmp_path / "shards")
    assert same(open_data("digits"), open_data(tmp_path / "shards"))
    assert written.num_images == 1797


def test_shards_of_shards_are_the_same(out, tmp_path):
    write_shards(out, tmp_path / "again", size="1M")
    assert same(open_data(out), open_data(tmp_path / "again"))


def test_some_of_the_shards_by_a_pattern(photos, out):
    last = len(list(out.glob("train-*.tar"))) - 1
    every = open_data(f"{out}/{{train-{{000000..{last:06d}}}.tar,val-000000.tar,test-{{000000..000001}}.tar}}")
    assert same(every, open_data(photos))
    train = open_data(f"{out}/train-{{000000..{last:06d}}}.tar")
    folder = open_data(photos)
    assert train.test is None
    assert train.name == "photos"
    assert sorted([*train.train.names, *train.val.names]) == sorted(folder.train.names)
    assert [name for name in folder.train.names if name in set(train.train.names)] == train.train.names
    assert "held out" in train.validation
    assert train.fingerprint != folder.fingerprint


def train(data, run, workers=None, **options):
    net = VeryDeep(
        "A", num_classes=3, crop=32, width=0.125, batch_norm=True, generator=torch.Generator().manual_seed(0)
    )
    return fit(net, data, recipe=RECIPE, out=run, execution=ComputeOptions(workers=workers), **options)


def weights(run):
    return load_file(run / "model.safetensors")


def equal_weights(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name
    return True


@FORKED
@pytest.mark.parametrize("workers", [0, 2])
def test_training_from_shards_gives_the_same_weights(workers, photos, out, serve, tmp_path):
    train(photos, tmp_path / "folder", workers=workers)
    train(out, tmp_path / "disk", workers=workers)
    assert equal_weights(weights(tmp_path / "folder"), weights(tmp_path / "disk"))
    server = serve(out)
    trained = train(f"{server.address}/", tmp_path / "web", workers=workers)
    assert equal_weights(weights(tmp_path / "folder"), weights(tmp_path / "web"))
    assert len(server.requests) > 2 * len(open_data(photos).train)
    by_folder, by_web = evaluate(trained.net, str(photos)), evaluate(trained.net, server.address)
    assert np.array_equal(by_folder.posteriors, by_web.posteriors)
    assert by_web.names == by_folder.names


@pytest.mark.parametrize("updates", [2, 5])
def test_a_run_begun_on_the_folder_goes_on_in_the_middle_of_an_epoch_on_its_shards(
    updates, photos, out, serve, tmp_path, monkeypatch
):
    clock = iter(range(10**9))
    monkeypatch.setattr("verydeep.training.loop.time.perf_counter", lambda: float(next(clock)))
    train(photos, tmp_path / "whole")
    for name, data in (("disk", str(out)), ("web", serve(out).address)):
        assert not train(photos, tmp_path / name, reporter=StopAfter(updates)).finished
        assert resume(tmp_path / name, data=data).finished
        assert equal_weights(weights(tmp_path / "whole"), weights(tmp_path / name))


def test_a_run_does_not_go_on_with_other_shards(photos, out, tmp_path):
    picture(7, 40, 40).save(photos / "dark" / "new.png")
    write_shards(photos, tmp_path / "others")
    train(out, tmp_path / "run", reporter=StopAfter(1))
    with pytest.raises(UserError, match="not those the run began with"):
        resume(tmp_path / "run", data=tmp_path / "others")


@FORKED
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_over_http_are_those_of_the_folder(workers, photos, out, serve):
    ours = training_batches(open_data(photos).train, VIEW, batch_size=10, seed=3, epoch=1, first=2)
    web = open_data(serve(out).address).train
    theirs = training_batches(web, VIEW, batch_size=10, seed=3, epoch=1, first=2, workers=workers)
    for (images, labels, uses), (again, same_labels, same_uses) in zip(ours, theirs, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, same_labels)
        assert torch.equal(uses, same_uses)


@FORKED
@pytest.mark.parametrize("workers", [0, 2])
def test_many_requests_are_under_way_at_the_same_time(workers, out, serve):
    server = serve(out, delay=0.05)
    web = open_data(server.address).train
    server.most_busy = 0
    batches = training_batches(web, VIEW, batch_size=20, seed=3, epoch=1, workers=workers)
    assert sum(len(images) for images, _, _ in batches) == len(web)
    assert server.most_busy > 4
    held = replace(web, decoded={index: np.asarray(picture(0, 40, 40)) for index in range(len(web))})
    assert (web.parallel_reads, held.parallel_reads) == (32, 1)


@FORKED
def test_a_worker_that_fails_says_so_in_one_line(out):
    data = open_data(out)
    store = data.train.source
    for file in out.glob("train-*.tar"):
        with file.open("rb+") as shard:
            shard.truncate(2000)
    with pytest.raises(UserError, match=r"^.*\.tar:.* is not there any more: the shard was changed") as caught:
        list(training_batches(data.train, VIEW, batch_size=10, seed=3, epoch=1, workers=2))
    assert "Traceback" not in str(caught.value)
    assert store.size(data.train.names[0]) > 0


def test_stores_can_be_sent_to_other_processes(out, serve):
    for data in (str(out), serve(out).address):
        images = open_data(data).train
        before = images.source.read(images.names[4])
        again = pickle.loads(pickle.dumps(images))
        assert again.source.read(images.names[4]) == before


def spoil(kind, out):
    """What is asked for, after something was done to the shards."""
    index = out / "index.json"
    match kind:
        case "pipe":
            return f"pipe:touch {out}/harm; cat {out}/train-000000.tar"
        case "pipe in braces":
            return f"{{pipe:touch {out}/harm,{out}/train-000000}}.tar"
        case "ftp":
            return "ftp://host/x-{000..009}.tar"
        case "missing shard":
            (out / "train-000001.tar").unlink()
        case "missing in the range":
            index.unlink()
            return f"{out}/val-{{000000..000009}}.tar"
        case "cut shard":
            with (out / "train-000001.tar").open("rb+") as shard:
                shard.truncate(5000)
        case "cut index":
            index.write_bytes(index.read_bytes()[:-100])
        case "later index":
            index.write_text(index.read_text().replace('"version":1', '"version":2'))
        case "index of another program":
            index.write_text('{"__kind__": "wids-shard-index-v1"}')
            return str(index)
        case "no index":
            index.rename(out / "index.json.unfinished")
        case "no index, by a pattern":
            index.rename(out / "index.json.unfinished")
            return f"{out}/train-000000.tar"
        case "unfinished and empty":
            for file in out.iterdir():
                file.unlink()
            (out / "index.json.unfinished").touch()
        case "val alone":
            return f"{out}/val-000000.tar"
        case "braces":
            return f"{out}/train-{{000000..000001.tar"
        case "twice":
            return f"{out}/{{train-000000,train-000000}}.tar"
        case "compressed":
            return f"{out}/train-{{000000..000001}}.tar.gz"
        case "no tar in the pattern":
            return f"{out}/{{index.json,train-000000.tar}}"
        case "two places":
            return f"{{http://127.0.0.1:9/x,{out}/train-000000}}.tar"
        case "too many":
            return f"{out}/{{0000..9999}}-{{0000..9999}}.tar"
    return str(out)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("pipe", "pipe: is refused"),
        ("pipe in braces", "pipe: is refused"),
        ("ftp", "ftp: is refused"),
        ("missing shard", r"train-000001\.tar is missing"),
        ("missing in the range", r"val-00000\d\.tar is missing"),
        ("cut shard", r"train-000001\.tar has 5,000 bytes and its index says"),
        ("cut index", r"index\.json is damaged"),
        ("later index", "later verydeep"),
        ("index of another program", "is no index that verydeep shards wrote"),
        ("no index", "was not written to its end"),
        ("no index, by a pattern", "was not written to its end"),
        ("unfinished and empty", "was not written to its end"),
        ("val alone", "none of train"),
        ("braces", "braces .* do not match"),
        ("twice", r"names train-000000\.tar twice"),
        ("compressed", "unpack it"),
        ("no tar in the pattern", r"is no \.tar"),
        ("two places", "addresses and paths"),
        ("too many", "more than 100,000"),
    ],
)
def test_what_is_refused(kind, complaint, out):
    data = spoil(kind, out)
    with pytest.raises(UserError, match=complaint) as caught:
        open_data(data)
    assert "\n" not in str(caught.value)
    assert not (out / "harm").exists()


def test_what_counts_as_shards(photos, out, tmp_path):
    assert is_shards(str(out))
    assert is_shards(f"{out}/x-{{000..009}}.tar")
    assert is_shards("https://example.org/shards/")
    assert not is_shards("digits")
    assert not is_shards(str(tmp_path / "nothing"))
    # a folder of class folders stays one, whatever lies beside them
    (photos / "index.json").write_text("{}")
    tarfile.open(photos / "backup.tar", "w").close()
    assert not is_shards(str(photos))
    assert len(open_data(photos).classes) == 3
    (tmp_path / "odd.tar").mkdir()
    assert not is_shards(str(tmp_path / "odd.tar"))
