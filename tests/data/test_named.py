"""Public data sets by name: fetched only when asked, checked, and read as torchvision reads them."""

import hashlib
import io
import tarfile
import tomllib
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
import torchvision.datasets.imagenet
from torchvision.datasets.voc import DATASET_YEAR_DICT

from published import (
    IMAGENET_IDS,
    IMAGENET_WNIDS,
    PUBLISHED,
    VALIDATION_TRUTH,
    cifar10,
    cifar100,
    closed_address,
    imagenet,
    put,
    serving,
    tar,
    tiny,
)
from verydeep.data.archives import Archive, data_folder, obtain, unpack_tar, unpack_tar_in_zip
from verydeep.data.folder import CLOTHES, find_images
from verydeep.data.image_set import count_per_class
from verydeep.data.layouts import IMAGENETTE_CLASSES, imagenet_classes
from verydeep.data.named import NAMED, fetch, find_named
from verydeep.data.open import open_data
from verydeep.errors import UsageError, UserError
from verydeep.files import format_bytes

FREE = [name for name, row in NAMED.items() if row.is_free and not row.multi_label]


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    """A data folder of its own, and no proxy between the tests and their server."""
    monkeypatch.setenv("VERYDEEP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.fixture
def publish(monkeypatch):
    """Lets a name stand for tiny archives: at an address, or put into the folder by hand."""

    def make(name, address=None, **changes):
        files = PUBLISHED[name][0]()
        row = replace(tiny(name, files, address), **changes)
        monkeypatch.setitem(NAMED, name, row)
        if address is None:
            put(row, files)
        return row, files

    return make


def fetched(name, publish):
    publish(name)
    return fetch(name)


def left_in(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("name", FREE)
def test_fetching_opens_the_splits_that_were_published(name, publish):
    with serving({}) as server:
        row, server.files = publish(name, server.address)
        data = fetch(name)
        asked = len(server.asked)
        assert sorted(server.asked) == sorted(server.files)
        again = fetch(name)
        assert len(server.asked) == asked
    assert again.fingerprint == open_data(name).fingerprint == data.fingerprint
    splits = [images for images in (data.train, data.val, data.test) if images]
    names = [name for images in splits for name in images.names]
    assert len(set(names)) == len(names) == sum(row.counts.values())
    assert len(data.classes) == row.num_classes
    assert data.mirror
    for split in ("train", "val", "test"):
        whole = row.counts.get(split)
        if split in ("val", "test") and whole is not None:
            assert len(data.split(split)) == whole
    for images in splits:
        assert min(count_per_class(images)) > 0
        assert images.read(len(images) - 1).mode == "RGB"
    made = {archive.becomes or archive.file for archive in row.archives}
    assert set(left_in(row.folder)) == made


def test_validation_is_never_test(publish):
    """What was published for testing stays whole; else a tenth of train, and a fifth for a set without splits."""
    pets, caltech = fetched("oxford-iiit-pet", publish), fetched("caltech101", publish)
    assert [count_per_class(images) for images in (pets.train, pets.val, pets.test)] == [[9, 9], [1, 1], [4, 4]]
    assert [count_per_class(images) for images in (caltech.train, caltech.val, caltech.test)] == [
        [9] * 3,
        [1] * 3,
        [2] * 3,
    ]
    assert "stratified tenth" in pets.validation
    imagenette, flowers = fetched("imagenette", publish), fetched("flowers102", publish)
    assert all(name.startswith("imagenette2/val/") for name in imagenette.test.names)
    assert all(name.startswith("imagenette2/train/") for name in [*imagenette.train.names, *imagenette.val.names])
    assert (len(flowers.train), len(flowers.val), len(flowers.test)) == (3, 3, 4)
    assert "published" in flowers.validation


@pytest.mark.parametrize(("name", "files", "label_bytes"), [("cifar10", cifar10, 1), ("cifar100", cifar100, 2)])
def test_cifar_agrees_with_a_slow_loop_over_the_records(name, files, label_bytes, publish):
    data = fetched(name, publish)
    with tarfile.open(fileobj=io.BytesIO(*files().values())) as archive:
        records = {member.name.rsplit("/")[-1]: archive.extractfile(member).read() for member in archive}
    for images in (data.train, data.val, data.test):
        for index in range(0, len(images), 4):
            stem, number = Path(images.names[index]).parent.name, int(Path(images.names[index]).stem)
            start = number * (label_bytes + 3072)
            record = records[f"{stem}.bin"][start : start + label_bytes + 3072]
            assert images.labels[index] == record[label_bytes - 1]
            pixels = images.read(index).load()
            for x, y in [(0, 0), (31, 0), (0, 31), (7, 19)]:
                place = label_bytes + 32 * y + x
                assert pixels[x, y] == (record[place], record[place + 1024], record[place + 2048])
    assert data.train.read(0).size == (32, 32)
    assert data.classes[:2] == (("airplane", "automobile") if name == "cifar10" else ("apple", "aquarium_fish"))


def pairs(images, base):
    """The images of a split as (file below a folder, label)."""
    return Counter(
        (Path(images.where(index)).resolve().relative_to(base.resolve()).as_posix(), int(label))
        for index, label in enumerate(images.labels)
    )


def both(data):
    """Train and val together: what was published for training."""
    return pairs(data.train, data_folder()) + pairs(data.val, data_folder())


def theirs(files, labels):
    base = data_folder().resolve()
    return Counter(
        (Path(file).resolve().relative_to(base).as_posix(), int(label))
        for file, label in zip(files, labels, strict=True)
    )


def test_pets_as_torchvision_reads_them(publish):
    data = fetched("oxford-iiit-pet", publish)
    train = torchvision.datasets.OxfordIIITPet(data_folder(), "trainval")
    test = torchvision.datasets.OxfordIIITPet(data_folder(), "test")
    assert data.classes == tuple(train.classes) == ("Abyssinian", "Saint Bernard")
    assert both(data) == theirs(train._images, train._labels)
    assert pairs(data.test, data_folder()) == theirs(test._images, test._labels)


def test_flowers_as_torchvision_reads_them(publish, monkeypatch):
    data = fetched("flowers102", publish)
    (data_folder() / "flowers-102").symlink_to(data_folder() / "flowers102")
    hashes = {archive.file: archive.md5 for archive in NAMED["flowers102"].archives}
    monkeypatch.setattr(
        torchvision.datasets.Flowers102,
        "_file_dict",
        {key: (file, hashes[file]) for key, (file, _) in torchvision.datasets.Flowers102._file_dict.items()},
    )
    for split in ("train", "val", "test"):
        reader = torchvision.datasets.Flowers102(data_folder(), split)
        assert pairs(data.split(split), data_folder()) == theirs(reader._image_files, reader._labels)
    assert data.classes == ("pink primrose", "hard-leaved pocket orchid", "canterbury bells")


def test_imagenette_as_torchvision_reads_it(publish):
    data = fetched("imagenette", publish)
    train = torchvision.datasets.Imagenette(data_folder() / "imagenette", "train")
    val = torchvision.datasets.Imagenette(data_folder() / "imagenette", "val")
    assert data.classes == tuple(names[0] for names in train.classes) == ("tench", "parachute")
    assert both(data) == theirs(*zip(*train._samples, strict=True))
    assert pairs(data.test, data_folder()) == theirs(*zip(*val._samples, strict=True))


def test_caltech_as_torchvision_reads_it(publish):
    """With the background class, which torchvision leaves out of the 101 and the paper counts."""
    data = fetched("caltech101", publish)
    reader = torchvision.datasets.Caltech101(data_folder())
    assert data.classes == ("BACKGROUND_Google", *reader.categories) == ("BACKGROUND_Google", "Faces", "accordion")
    found = both(data) + pairs(data.test, data_folder())
    for label, index in zip(reader.y, reader.index, strict=True):
        assert (
            found[f"caltech101/101_ObjectCategories/{reader.categories[label]}/image_{index:04d}.jpg", label + 1] == 1
        )
    assert found.total() == len(reader) + 12
    data = fetched("caltech256", publish)
    reader = torchvision.datasets.Caltech256(data_folder())
    assert data.classes == tuple(name.split(".")[1] for name in reader.categories)
    found = both(data) + pairs(data.test, data_folder())
    for label, index in zip(reader.y, reader.index, strict=True):
        place = f"caltech256/256_ObjectCategories/{reader.categories[label]}/{label + 1:03d}_{index:04d}.jpg"
        assert found[place, label] == 1
    assert found.total() == len(reader)


@pytest.mark.filterwarnings("ignore:.*extract:DeprecationWarning")  # torchvision's, on Python 3.12 and 3.13
def test_imagenet_as_torchvision_reads_it(publish, tmp_path, monkeypatch):
    _, files = publish("imagenet")
    data = fetch("imagenet")
    assert data.classes == IMAGENET_WNIDS
    assert data.test is None
    assert count_per_class(data.train) == [10, 10, 10]
    twin = tmp_path / "twin"
    twin.mkdir()
    for name, content in files.items():  # made anew they would hold another date
        (twin / name).write_bytes(content)
    hashes = {archive.file: archive.md5 for archive in NAMED["imagenet"].archives}
    monkeypatch.setattr(
        torchvision.datasets.imagenet,
        "ARCHIVE_META",
        {key: (file, hashes[file]) for key, (file, _) in torchvision.datasets.imagenet.ARCHIVE_META.items()},
    )
    for split in ("train", "val"):
        reader = torchvision.datasets.ImageNet(twin, split)
        assert tuple(reader.wnids) == IMAGENET_WNIDS
        expected = Counter((Path(file).relative_to(twin).as_posix(), label) for file, label in reader.samples)
        assert pairs(data.split(split), data_folder() / "imagenet") == expected


def test_imagenet_validation_images_get_the_classes_of_the_truth(publish):
    val = fetched("imagenet", publish).val
    for number, truth in enumerate(VALIDATION_TRUTH, start=1):
        label = val.labels[val.names.index(f"val/{IMAGENET_IDS[truth]}/ILSVRC2012_val_{number:08d}.JPEG")]
        assert IMAGENET_WNIDS[label] == IMAGENET_IDS[truth]
    assert left_in(data_folder() / "imagenet") == sorted([*imagenet(), "train", "val"])  # a person's files stay


def test_imagenet_that_was_unpacked_already_needs_no_archives(publish):
    fetched("imagenet", publish)
    for name in imagenet():
        (data_folder() / "imagenet" / name).unlink()
    assert len(open_data("imagenet").train) == 30


def test_imagenet_has_the_names_and_the_order_of_published_nets(shared_photos):
    """The photographs' own names carry both identifier and class: sorted by one, the other must follow the order."""
    names = imagenet_classes(tuple(f"n{number:08d}" for number in range(1000)))
    assert len(set(names)) == 1000
    assert (names[0], names[-1]) == ("tench", "toilet tissue")
    places = [names.index(photo.stem.partition("_")[2].replace("_", " ")) for photo in shared_photos]
    assert places == sorted(places)
    assert len(places) == 66


def test_imagenette_has_the_names_of_imagenet():
    names = imagenet_classes(tuple(f"n{number:08d}" for number in range(1000)))
    places = [names.index(IMAGENETTE_CLASSES[wnid]) for wnid in sorted(IMAGENETTE_CLASSES)]
    assert places == sorted(places)
    assert len(IMAGENETTE_CLASSES) == NAMED["imagenette"].num_classes


def torchvision_hashes():
    """The hashes torchvision has for the same archives."""
    sets = torchvision.datasets
    return (
        {Path(url).name: md5 for url, md5 in sets.Imagenette._ARCHIVES.values()}
        | dict(sets.Flowers102._file_dict.values())
        | {Path(url).name: md5 for url, md5 in sets.OxfordIIITPet._RESOURCES}
        | dict(sets.imagenet.ARCHIVE_META.values())
        | {
            row["filename"]: row["md5"]
            for year, row in DATASET_YEAR_DICT.items()
            if year in ("2007", "2007-test", "2012")
        }
    )


@pytest.mark.parametrize("row", NAMED.values(), ids=NAMED)
def test_the_true_rows(row):
    for archive in row.archives:
        assert (archive.url is None) == (row.name == "imagenet")
        assert archive.url is None or archive.url.startswith("https://")
        assert archive.url is None or archive.url.endswith(f"/{archive.file}")
        assert len(archive.md5) == 32
        assert archive.unpack is None or archive.becomes
        if not row.name.startswith(("cifar", "caltech")):
            assert torchvision_hashes()[archive.file] == archive.md5
    assert set(row.counts) <= {"train", "val", "test"}
    assert row.licence
    assert row.homepage.startswith("https://")


@pytest.mark.parametrize("row", NAMED.values(), ids=NAMED)
def test_the_true_rows_refuse_other_files(row):
    files = {archive.file: b"something else" for archive in row.archives}
    put(row, files)
    with pytest.raises(UserError, match=r"is not the file that was published: its md5 is .* instead of"):
        fetch(row.name)
    assert left_in(row.folder) == sorted(files)


@pytest.mark.parametrize("name", NAMED)
def test_nothing_is_downloaded_unless_asked(name, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the network was used")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(UserError) as caught:
        open_data(name)
    message, row = str(caught.value), NAMED[name]
    assert "\n" not in message
    for part in (str(row.folder), row.homepage, row.licence, f"verydeep fetch {name}"):
        assert part in message
    if row.is_free:
        assert format_bytes(row.size) in message
    else:
        assert all(archive.file in message for archive in row.archives)
        with pytest.raises(UserError, match="cannot be downloaded freely"):
            fetch(name)
    assert not data_folder().exists()


@pytest.mark.parametrize("name", FREE)
def test_without_a_network_one_line_says_so_and_nothing_is_left(name, publish):
    publish(name, closed_address())
    with pytest.raises(UserError, match=r"cannot be fetched: Connection refused; try again .* by hand") as caught:
        fetch(name)
    assert "\n" not in str(caught.value)
    assert not data_folder().exists()


def test_a_server_without_the_file(publish):
    with serving({}) as server:
        publish("cifar10", server.address)
        with pytest.raises(UserError, match="404"):
            fetch("cifar10")
    assert not data_folder().exists()


def test_a_download_that_ends_early_is_not_kept_and_can_be_tried_again(publish):
    with serving({}) as server:
        row, server.files = publish("oxford-iiit-pet", server.address)
        server.cut = True
        with pytest.raises(UserError, match="bytes too early"):
            fetch("oxford-iiit-pet")
        assert left_in(row.folder) == []
        server.cut = False
        assert len(fetch("oxford-iiit-pet").test) == 8


def test_a_download_of_something_else_is_not_kept(publish):
    with serving({}) as server:
        row, files = publish("flowers102", server.address)
        server.files = files | {"setid.mat": b"<html>please log in</html>"}
        with pytest.raises(UserError, match=r"setid.mat did not give the file that was published: its md5"):
            fetch("flowers102")
        assert left_in(row.folder) == ["102flowers.tgz", "imagelabels.mat"]
        server.files, server.asked = files, []
        fetch("flowers102")
        assert server.asked == ["setid.mat"]


def test_unpacking_that_is_interrupted_leaves_no_folder_and_can_be_done_again(publish):
    with serving({}) as server:
        row, server.files = publish("caltech256", server.address)

        def interrupted(archive, into, progress):
            (into / "256_ObjectCategories" / "001.ak47").mkdir(parents=True)
            raise KeyboardInterrupt

        NAMED["caltech256"] = replace(row, archives=(replace(row.archives[0], unpack=interrupted),))
        with pytest.raises(KeyboardInterrupt):
            fetch("caltech256")
        assert left_in(row.folder) == ["256_ObjectCategories.tar"]
        with pytest.raises(UserError, match=r"not in .* as folders yet: verydeep fetch caltech256 unpacks it"):
            open_data("caltech256")
        NAMED["caltech256"] = row
        fetch("caltech256")
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"counts": {"train": 31, "val": 6}}, r"holds 30 train, 6 val images instead of 31 train, 6 val"),
        ({"num_classes": 4}, "holds 3 classes instead of 4"),
    ],
)
def test_wrong_counts_are_refused(changes, complaint, publish):
    publish("imagenet", **changes)
    with pytest.raises(UserError, match=rf"{complaint}; remove train and val there .* or take the folder as it is"):
        fetch("imagenet")


def test_a_set_that_lost_files_is_refused_in_one_line(publish):
    fetched("flowers102", publish)
    next((data_folder() / "flowers102/jpg").iterdir()).unlink()
    with pytest.raises(UserError, match=r"flowers102 cannot be read: .*remove jpg and .* verydeep fetch flowers102"):
        open_data("flowers102")


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    content = tar({"images/../../../evil.txt": b"x"})
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf/evil.tgz").write_bytes(content)
    archive = Archive(
        file="evil.tgz", md5=hashlib.md5(content).hexdigest(), size=1, becomes="images", unpack=unpack_tar
    )
    with pytest.raises(UserError, match=r"evil.tgz cannot be unpacked"):
        obtain([archive], tmp_path / "shelf")
    assert not list(tmp_path.rglob("evil.txt"))


def test_a_data_folder_that_cannot_be_written(publish, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VERYDEEP_DATA", str(tmp_path / "file"))
    with serving({}) as server:
        _, server.files = publish("cifar10", server.address)
        with pytest.raises(UserError, match=r"cannot be written .*VERYDEEP_DATA"):
            fetch("cifar10")


def test_progress_is_told_in_megabytes(publish):
    told = []
    with serving({}) as server:
        _, server.files = publish("caltech101", server.address)
        fetch("caltech101", progress=lambda *state: told.append(state))
    steps = [f"{verb} caltech-101.zip, MB" for verb in ("downloading", "checking", "unpacking")]
    assert list(dict.fromkeys(what for what, _, _ in told)) == steps
    assert all(0 <= done <= total for _, done, total in told)


def test_where_the_data_lie(monkeypatch, tmp_path):
    monkeypatch.setenv("VERYDEEP_DATA", "~/sets")
    assert data_folder() == Path.home() / "sets"
    monkeypatch.delenv("VERYDEEP_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_folder() == tmp_path / "verydeep/data"
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert data_folder() == Path.home() / ".cache/verydeep/data"


def test_a_folder_of_the_same_name_wins(make_folder, monkeypatch):
    root = make_folder("cifar10", {"a": 10, "b": 10})
    monkeypatch.chdir(root.parent)
    assert open_data("cifar10").classes == ("a", "b")


@pytest.mark.parametrize(
    ("written", "name"),
    [("CIFAR-10", "cifar10"), ("Oxford_IIIT_Pet", "oxford-iiit-pet"), ("ImageNet", "imagenet"), ("cifar", None)],
)
def test_names_as_people_write_them(written, name):
    row = find_named(written)
    assert (row.name if row else None) == name


def test_what_cannot_be_fetched():
    with pytest.raises(UsageError, match=r"unknown data set 'mnist': choose one of cifar10, .*imagenet"):
        fetch("mnist")
    with pytest.raises(UsageError, match="digits comes with the package"):
        fetch("digits")


def test_the_images_of_cifar_stay_in_memory(publish):
    data = fetched("cifar10", publish)
    for images in (data.train, data.val, data.test):
        kept, _ = images.checked(memory=0)
        assert len(kept.decoded) == len(images)
        assert np.array_equal(np.asarray(kept.read(0)), np.asarray(images.read(0)))


@pytest.mark.parametrize(
    ("size", "text"), [(502, "502 bytes"), (14_989, "15 kB"), (170_052_171, "170 MB"), (1_183_006_720, "1.18 GB")]
)
def test_sizes(size, text):
    assert format_bytes(size) == text


def test_clothes_are_photographs_that_need_no_network(tmp_path, monkeypatch):
    data = open_data("clothes")
    assert data.classes == ("dress", "hat", "pants", "shoes")
    assert [count_per_class(images) for images in data.splits.values()] == [[20] * 4, [4] * 4, [6] * 4]
    names = [Path(name).name for images in data.splits.values() for name in images.names]
    assert len(set(names)) == 120  # none in two splits
    assert all(min(images.read(index).size) == 160 for images in data.splits.values() for index in range(len(images)))
    assert sum(file.stat().st_size for file in CLOTHES.rglob("*") if file.is_file()) < 1_200_000

    monkeypatch.chdir(tmp_path)
    assert find_images(["clothes"]) == [CLOTHES / name for name in data.split("test").names]
    (tmp_path / "clothes").mkdir()
    with pytest.raises(UserError, match="no images in clothes"):  # a folder of that name goes first
        find_images(["clothes"])


def test_a_wheel_has_all_of_the_clothes():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    package = CLOTHES.parents[1]
    packed = {
        file for pattern in project["tool"]["setuptools"]["package-data"]["verydeep"] for file in package.glob(pattern)
    }
    assert {file for file in CLOTHES.rglob("*") if file.is_file()} <= packed


def test_a_zip_without_the_archive_in_it_is_one_line(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("caltech-101/readme.txt", "nothing")
    row = Archive(
        file="a.zip",
        md5=hashlib.md5((tmp_path / "a.zip").read_bytes()).hexdigest(),
        size=1,
        becomes="101_ObjectCategories",
        unpack=unpack_tar_in_zip,
    )
    with pytest.raises(UserError, match=r"a.zip cannot be unpacked: it has no 101_ObjectCategories.tar.gz$"):
        obtain([row], tmp_path)
