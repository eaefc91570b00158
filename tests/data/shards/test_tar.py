"""Shards of other programs: what is an image, what is its label, and what nobody should open."""

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

from conftest import picture
from verydeep.data.image_set import count_per_class
from verydeep.data.open import open_data
from verydeep.data.shards import tar as tar_listing
from verydeep.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def encoded(seed, form="JPEG"):
    data = io.BytesIO()
    picture(seed, 20, 16).save(data, form)
    return data.getvalue()


def write(file, members, form=tarfile.GNU_FORMAT):
    """Writes a tar file of (name, bytes)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w", format=form) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file


def samples(count, label=lambda index: index % 2, first=0):
    """Members of samples with a .cls."""
    for index in range(first, first + count):
        yield f"{index:04d}.jpg", encoded(index)
        yield f"{index:04d}.cls", str(label(index)).encode()


def test_shards_of_the_webdataset_package(tmp_path, serve):
    with webdataset.ShardWriter(str(tmp_path / "x-%03d.tar"), maxcount=20, verbose=0) as writer:
        for index in range(60):
            writer.write({"__key__": f"a/{index:04d}", "jpg": encoded(index), "cls": index % 3})
    (tmp_path / "classes.txt").write_text("cat\ndog\nemu\n")
    data = open_data(f"{tmp_path}/x-{{000..002}}.tar")
    assert data.name == "x"
    assert data.classes == ("cat", "dog", "emu")
    assert np.sum([count_per_class(data.split(split)) for split in ("train", "val", "test")], 0).tolist() == [20] * 3
    assert (len(data.split("test")), len(data.val)) == (12, 6)
    for split in ("train", "val", "test"):
        images = data.split(split)
        for row, name in enumerate(images.names):
            number = int(Path(name).stem)
            assert images.labels[row] == number % 3
            assert images.source.read(name) == encoded(number)
            assert images.where(row) == f"{tmp_path}/x-{number // 20:03d}.tar:a/{number:04d}.jpg"
    web = open_data(f"{serve(tmp_path).address}/x-{{000..002}}.tar")
    assert web.fingerprint == data.fingerprint
    assert web.train.source.read(web.train.names[5]) == data.train.source.read(data.train.names[5])
    assert open_data(tmp_path).fingerprint == data.fingerprint


def test_splits_are_those_of_the_names(tmp_path):
    for split, count in (("train", 40), ("validation", 10), ("test", 20)):
        write(tmp_path / f"imagenet-{split}-0000.tar", samples(count))
    data = open_data(tmp_path)
    assert [len(data.split(split)) for split in ("train", "val", "test")] == [40, 10, 20]
    assert data.classes == ("0", "1")
    alone = open_data(f"{tmp_path}/imagenet-train-0000.tar")
    assert (len(alone.train), len(alone.val), alone.test) == (36, 4, None)
    assert alone.name == tmp_path.name


def test_labels_that_are_names_and_labels_in_json(tmp_path):
    members = []
    for index in range(20):
        members.append((f"{index}.png", encoded(index, "PNG")))
        label = ("zebra", "ant")[index % 2]
        members.append(
            (f"{index}.cls", f"{label}\n".encode())
            if index < 10
            else (f"{index}.json", json.dumps({"caption": "x", "label": label}).encode())
        )
    data = open_data(write(tmp_path / "x.tar", members))
    assert data.classes == ("ant", "zebra")
    assert {name[6:] for name in data.train.names} <= {f"{index}.png" for index in range(20)}
    assert data.train.labels.tolist() == [1 - int(Path(name).stem) % 2 for name in data.train.names]


def test_numbers_in_natural_order_are_classes(tmp_path):
    data = open_data(write(tmp_path / "x.tar", samples(60, lambda index: f"{(2, 10, 9)[index % 3]:03d}")))
    assert data.classes == ("2", "9", "10")
    assert all(
        data.classes[label] == str((2, 10, 9)[int(Path(name).stem) % 3])
        for name, label in zip(data.train.names, data.train.labels, strict=True)
    )


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_folders_and_members_that_are_no_images(form, tmp_path):
    deep = "/".join(["folder" * 8] * 5)
    members = [("__info__.json", b"{}"), ("notes.txt", b"none"), (".DS_Store", b"\0"), ("._0.jpg", b"\0")]
    for index in range(20):
        key = f"{deep}/größer {index}"
        members += [(f"{key}.JPEG", encoded(index)), (f"{key}.mask.png", encoded(index + 50, "PNG"))]
        members += [(f"{key}.cls", b"ab"[index % 2 : index % 2 + 1]), (f"{key}.txt", b"caption"), (f"{key}.npy", b"")]
    file = write(tmp_path / "x.tar", members, form)
    with tarfile.open(file, "a", format=form) as tar:
        folder = tarfile.TarInfo("empty")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    data = open_data(file)
    assert len(data.train) + len(data.val) + len(data.split("test")) == 20
    name = data.train.names[0]
    assert name.startswith(f"x.tar/{deep}/größer ")
    assert data.train.source.read(name) == encoded(int(name.split()[-1].partition(".")[0]))


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("harm"),))


def spoil(kind, root):
    """Writes a shard that is refused."""
    file, good = root / "x-train.tar", list(samples(20))
    match kind:
        case "pickle":
            write(file, [*good, ("0000.extra.pkl", pickle.dumps(Payload()))])
        case "pickled label":
            write(file, [(name.replace("cls", "pyd"), data) for name, data in good])
        case "torch file":
            write(file, [*good, ("0003.PTH", b"x")])
        case "compressed pickle":
            write(file, [*good, ("0003.pickle.gz", b"x")])
        case "no label":
            write(file, good[:-1])
        case "no image":
            write(file, good[1:])
        case "json without a label":
            write(
                file,
                [(name.replace("cls", "json"), b'{"caption": "a"}' if "cls" in name else data) for name, data in good],
            )
        case "no json":
            write(file, [*good, ("z.jpg", encoded(0)), ("z.json", b"{")])
        case "two images":
            write(file, [*good, ("0003.png", encoded(0, "PNG"))])
        case "same key":
            write(file, [*good, ("0003.jpg", encoded(0))])
        case "not labelled":
            write(file, samples(20, lambda index: -1))
        case "label is binary":
            write(file, [(name, b"\xff\xfe" if "cls" in name else data) for name, data in good])
        case "label is empty":
            write(file, samples(20, lambda index: " "))
        case "one class":
            write(file, samples(20, lambda index: 3))
        case "no images at all":
            write(file, [("readme.txt", b"x")])
        case "empty tar":
            write(file, [])
        case "empty file":
            file.touch()
        case "no tar":
            file.write_bytes(b"not a tar file" * 100)
        case "cut":
            write(file, good)
            with tarfile.open(file) as tar:
                end = tar.getmembers()[12].offset_data + 100
            file.write_bytes(file.read_bytes()[:end])
        case "cut between members":
            write(file, good)
            with tarfile.open(file) as tar:
                end = tar.getmembers()[12].offset
            file.write_bytes(file.read_bytes()[:end])
        case "damaged header":
            write(file, good)
            with tarfile.open(file) as tar:
                place = tar.getmembers()[12].offset
            data = bytearray(file.read_bytes())
            data[place : place + 512] = bytes(range(256)) * 2
            file.write_bytes(data)
        case "gzip":
            import gzip

            write(file, good)
            file.write_bytes(gzip.compress(file.read_bytes()))
        case "link":
            write(file, good)
            with tarfile.open(file, "a") as tar:
                link = tarfile.TarInfo("z.jpg")
                link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(link)
        case "unknown class in val":
            write(file, good)
            write(root / "x-val.tar", samples(10, lambda index: 2))
        case "number beyond the classes":
            write(file, samples(20, lambda index: index))
            (root / "classes.txt").write_text("a\nb\nc")
        case "name beyond the classes":
            write(file, samples(20, lambda index: "ab"[index % 2]))
            (root / "classes.txt").write_text("a\nc")
        case "class twice":
            write(file, good)
            (root / "classes.txt").write_text("a\nb\na\n")
        case "no train":
            write(root / "x-val.tar", good)
        case "some without a split":
            write(file, good)
            write(root / "y.tar", good)
        case "two splits in a name":
            write(root / "train-test-0.tar", good)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("pickle", r"x-train\.tar holds 0000\.extra\.pkl, a pickle"),
        ("pickled label", r"holds 0000\.pyd, a pickle"),
        ("torch file", r"holds 0003\.PTH, a pickle"),
        ("compressed pickle", r"holds 0003\.pickle\.gz, a pickle"),
        ("no label", r"0019\.jpg of .*x-train\.tar has no label: a sample needs 0019\.cls"),
        ("no image", r"sample '0000' of .*x-train\.tar has a label and no image"),
        ("json without a label", r"has no label"),
        ("no json", r"z\.json is no JSON"),
        ("two images", r"holds 0003\.jpg and 0003\.png"),
        ("same key", r"holds 0003\.jpg twice"),
        ("not labelled", r"0000\.cls is -1: the images are not labelled"),
        ("label is binary", r"0000\.cls is no text"),
        ("label is empty", r"0000\.cls is no label"),
        ("one class", "has one class, '3'"),
        ("no images at all", "holds no images"),
        ("empty tar", "holds no images"),
        ("empty file", "is no tar file, or it is damaged"),
        ("no tar", "is no tar file, or it is damaged"),
        ("cut", "is cut short inside"),
        ("cut between members", "no end of a tar file"),
        ("damaged header", "no end of a tar file"),
        ("gzip", "compressed with gzip: unpack it"),
        ("link", r"holds z\.jpg, a link"),
        ("unknown class in val", r"label '2' of .*x-val\.tar:0000\.jpg is none of the 2 classes"),
        ("number beyond the classes", r"label '3' of .*0003\.jpg is none of the 3 classes"),
        ("name beyond the classes", r"label 'b'"),
        ("class twice", r"classes\.txt has 'a' twice"),
        ("no train", "shards of val but none of train"),
        ("some without a split", r"y\.tar is named after no split"),
        ("two splits in a name", "named after train and test"),
    ],
)
@pytest.mark.parametrize("over_http", [False, True])
def test_what_is_refused(kind, complaint, over_http, tmp_path, serve, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "shards"
    root.mkdir()
    spoil(kind, root)
    data = str(root)
    if over_http:
        names = sorted(file.stem for file in root.glob("*.tar"))
        data = f"{serve(root).address}/{names[0] if len(names) == 1 else '{' + ','.join(names) + '}'}.tar"
        complaint = complaint.replace("is no tar file, or it is damaged", "is (no tar file, or it is damaged|empty)")
    with pytest.raises(UserError, match=complaint) as caught:
        open_data(data)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "harm").exists()


def test_a_shard_is_gone_through_once(tmp_path, cache, serve, monkeypatch):
    file = write(tmp_path / "shards/x.tar", samples(20))
    address = f"{serve(file.parent).address}/x.tar"
    first, web = open_data(file), open_data(address)
    assert len(list(cache.rglob("*.json"))) == 2
    walk = tar_listing._walk
    monkeypatch.setattr(tar_listing, "_walk", None)
    assert open_data(file).fingerprint == first.fingerprint
    assert open_data(address).fingerprint == web.fingerprint == first.fingerprint
    monkeypatch.setattr(tar_listing, "_walk", walk)
    write(file, samples(22))
    assert open_data(file).fingerprint != first.fingerprint
    assert open_data(address).fingerprint == open_data(file).fingerprint
    for kept in cache.rglob("*.json"):
        kept.write_text("{")
    assert open_data(address).fingerprint == open_data(file).fingerprint


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(open_data(write(tmp_path / "shards/x.tar", samples(20))).train) == 14


def test_progress_tells_of_every_shard(tmp_path):
    for number in range(5):
        write(tmp_path / f"shards/x-{number}.tar", samples(10))
    told = []
    data = open_data(tmp_path / "shards", lambda *what: told.append(what))
    assert told == [("listing shards", done, 5) for done in range(1, 6)]
    images = data.train
    assert len(set(images.names)) == len(images)  # keys that begin anew in each shard stay apart
    assert np.bincount(images.labels).tolist() == [18, 18]
