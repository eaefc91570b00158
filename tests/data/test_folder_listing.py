"""Which files are images: one rule for all verbs, and what is passed over is counted and said."""

import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from conftest import picture
from verydeep.data import listing
from verydeep.data.doctor import examine, examine_quickly
from verydeep.data.folder import find_images, list_folder, split_names
from verydeep.data.image_set import count_per_class
from verydeep.data.listing import image_files, list_images
from verydeep.data.open import open_data
from verydeep.errors import UserError
from verydeep.images import decode
from verydeep.images.decode import FORMATS, DamagedImageError, decode_pixels, kind_of, read_file, read_image

READ = {
    "photo.jfif": "JPEG",
    "photo.mpo": "MPO",
    "photo.avif": "AVIF",
    "photo.jp2": "JPEG2000",
    "photo.pnm": "PPM",
    "photo": "PNG",
    "IMG.1": "JPEG",
    "a.b (2)": "WEBP",
}
"""Names of files that are read in folders, and what they hold."""

PASSED_OVER = {
    "photo.svg": b"<svg/>",
    "raw.dng": b"II*\0" + bytes(40),
    "notes.txt": b"none",
    "cars": b"BMW and other cars are in this folder",
    "about": b"P5 is no picture here",
    "backup.bak": b"\xff\xd8\xff\xe0",
}


@pytest.mark.parametrize("name", READ)
def test_an_image_is_read_in_a_folder_as_it_is_by_its_name(name, tmp_path):
    if READ[name] == "AVIF":
        pytest.importorskip("PIL._avif")
    root = tmp_path / "photos"
    for kind in "ab":
        for index in range(4):
            (root / kind).mkdir(parents=True, exist_ok=True)
            picture(index, 40, 40).save(root / kind / f"{index}-{name}", READ[name])
    assert len(list_images(root).images) == len(find_images([str(root)])) == 8
    assert sum(sum(count_per_class(images)) for images in open_data(root).splits.values()) == 8
    assert [finding.kind for finding in examine(root).findings if finding.kind == "unread-format"] == []
    assert read_image(image_files(root)[0]).size == (40, 40)


def test_what_is_passed_over_is_counted_and_said(make_folder, tmp_path):
    root = make_folder("photos", {"a": 5, "b": 5})
    for name, content in PASSED_OVER.items():
        (root / "a" / name).write_bytes(content)
    for name in "README.md", "LICENSE", "a/readme":
        (root / name).write_bytes(b"of the photographs")
    said = []
    assert len(find_images([str(root)], said.append)) == 10
    (line,) = said
    assert line.startswith(
        f"{root}: passed over 2 images of formats that are not read ({root}/a/photo.svg) and 4 other"
    )
    assert line.endswith("4 other files (without ending 2, .bak 1, .txt 1)")
    messages = [message for message, _ in open_data(root).passed_over]
    assert messages[0].startswith("passed over 2 images of formats that are not read, such as a/photo.svg")
    assert messages[1].startswith("passed over 4 other files")
    assert {finding.kind for finding in examine_quickly(open_data(root))} == {"passed-over"}


def test_linked_folders_are_listed_once_and_a_circle_ends(make_folder, tmp_path):
    root = make_folder("photos", {"a": 5, "b": 5})
    (root / "a/more").symlink_to(make_folder("elsewhere", {"x": 3}) / "x")
    (root / "a/circle").symlink_to(root)
    (root / "c").symlink_to(make_folder("third", {"x": 4}) / "x")
    listed = list_folder(root).images["train"]
    assert {name: len(files) for name, files in listed.items()} == {"a": 8, "b": 5, "c": 4}
    assert len(find_images([str(root / "c")])) == 4


def test_a_folder_named_like_an_image_is_a_folder(make_folder, tmp_path):
    root = make_folder("photos", {"a.jpg": 3, "b": 3})
    assert len(find_images([f"{root}/*"])) == len(find_images([str(root)])) == 6
    assert open_data(root).classes == ("a.jpg", "b")
    (root / "b/notes.txt").touch()
    assert len(find_images([f"{root}/b/*"])) == 3


def test_a_folder_without_permission_is_damage(make_folder, tmp_path, monkeypatch):
    root, scandir = make_folder("photos", {"a": 9, "b": 9}), os.scandir
    (root / "b/secret").mkdir()

    def guarded(path):
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    data = open_data(root)
    (split,) = [images for images in data.splits.values() if "b/secret" in images.names]
    with pytest.raises(DamagedImageError, match=r"secret cannot be read: Permission denied; .*--damaged skip"):
        split.checked()
    assert split.checked(skip_damaged=True)[1] == ["b/secret"]
    assert root / "b/secret" in find_images([str(root)])


def test_a_file_without_permission_is_damage_and_not_missing(make_folder, monkeypatch):
    root, read = make_folder("photos", {"a": 9, "b": 9}), Path.read_bytes

    def guarded(file):
        if file.name == "0.png" and file.parent.name == "a":
            raise PermissionError(13, "Permission denied", str(file))
        return read(file)

    monkeypatch.setattr(Path, "read_bytes", guarded)
    with pytest.raises(DamagedImageError, match=r"a/0.png cannot be read: Permission denied$"):
        read_image(root / "a/0.png")
    skipped = [images.checked(skip_damaged=True)[1] for images in open_data(root).splits.values()]
    assert [name for names in skipped for name in names] == ["a/0.png"]


def pipe(file):
    os.mkfifo(file)


def dangling(file):
    file.symlink_to("nowhere.png")


def device(file):
    file.symlink_to("/dev/zero")


@pytest.mark.parametrize("spoil", [pipe, dangling, device])
def test_only_regular_files_are_read_and_others_are_damage(spoil, make_folder, tmp_path):
    """A pipe that nobody writes to, and a device, would never end."""
    root = make_folder("photos", {"a": 9, "b": 9})
    spoil(root / "a/odd.png")
    why = "link to a file that is not there" if spoil is dangling else "pipe or a device"
    with pytest.raises(DamagedImageError, match=rf"odd.png cannot be read: it is a {why}"):
        read_file(root / "a/odd.png")
    data = open_data(root)
    (images,) = [images for images in data.splits.values() if "a/odd.png" in images.names]
    assert images.checked(skip_damaged=True)[1] == ["a/odd.png"]
    (finding,) = examine(root).findings
    assert (finding.kind, finding.severity, list(finding.files)) == ("damaged", "fatal", ["a/odd.png"])
    table = root.with_suffix(".csv")
    rows = [f"photos/{name}/{index}.png,{name}" for name in "ab" for index in range(9)]
    table.write_text("\n".join(["file,label", *rows, "photos/a/odd.png,a"]))
    skipped = [images.checked(skip_damaged=True)[1] for images in open_data(table).splits.values()]
    assert [name for names in skipped for name in names] == ["photos/a/odd.png"]


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["training_set", "test_set"], ["training_set", "test_set"]),
        (["Training", "Testing"], ["Training", "Testing"]),
        (["Train Images", "Test Images"], ["Train Images", "Test Images"]),
        (["TrainImages", "ValImages"], ["TrainImages", "ValImages"]),
        (["seg_train", "seg_test"], ["seg_train", "seg_test"]),
        (["train-2", "valid-2", "test-2"], ["train-2", "valid-2", "test-2"]),
        (["bullet train", "steam train"], []),
        (["cat", "dog", "eval"], ["eval"]),
        (["test tube", "flask"], []),
        (["contest", "trainer"], []),
    ],
)
def test_splits_under_other_names_are_no_classes_for_train_and_doctor_alike(names, splits, make_folder):
    assert split_names(names) == splits
    root = make_folder("photos", {f"{name}/{kind}": 4 for name in names for kind in "ab"})
    assert examine(root).is_fatal == bool(splits)
    if splits:
        with pytest.raises(UserError, match=rf"{splits[0]}/.*like no class: name the folders of the splits train/"):
            open_data(root)
    else:
        assert set(open_data(root).classes) == set(names)


def test_images_and_masks_are_no_classes(make_folder):
    with pytest.raises(UserError, match="images/ and masks/ look like no class: make a folder for each class"):
        open_data(make_folder("photos", {"images": 5, "masks": 5}))


@pytest.mark.parametrize("around", ["", "test", "unknown"])
def test_a_test_folder_without_classes_is_left_to_predict(around, make_folder):
    make_folder("photos/train", {"a": 20, "b": 20})
    root = make_folder("photos/test", {around or "x": 6}).parent
    if not around:
        for file in (root / "test/x").iterdir():
            shutil.move(file, root / "test" / file.name)
        (root / "test/x").rmdir()
    data = open_data(root)
    assert (data.test, len(data.train), len(data.val)) == (None, 36, 4)
    assert any("6 images of test/ without class folders" in message for message, _ in data.passed_over)
    assert not examine(root).is_fatal
    assert len(find_images([str(root / "test")])) == 6


def test_names_are_compared_in_one_unicode_form(make_folder):
    name = "고양이"
    decomposed = unicodedata.normalize("NFD", name)
    assert name != decomposed
    make_folder("photos/train", {name: 9, "b": 9})
    root = make_folder("photos/val", {decomposed: 3, "b": 3}).parent
    data = open_data(root)
    assert data.classes == ("b", name)
    assert data.val.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.passed_over == ()
    both = open_data(make_folder("twice", {name: 5, decomposed: 5, "é": 5, "e\u0301": 5}))
    assert both.classes == ("é", name)
    assert [message for message, _ in both.passed_over] == [
        f"two folders {one}, whose names differ only in their Unicode form, are one class" for one in ("é", name)
    ]


def test_a_class_of_a_format_that_is_not_read_says_so(make_folder):
    root = make_folder("photos", {"a": 5})
    (root / "b").mkdir()
    (root / "b/1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(UserError, match=r"class 'b' has no images .* but 1 of a format .*1.HEIC: pip install"):
        open_data(root)
    with pytest.raises(UserError, match="it is HEIC, which needs pillow-heif"):
        read_image(root / "b/1.HEIC")


def test_heic_is_read_where_pillow_heif_is_there(make_folder, monkeypatch):
    """A stand-in registers a format of that name, as pillow-heif does."""

    class StandIn:
        @staticmethod
        def register_heif_opener() -> None:
            from PIL import PngImagePlugin

            def accept(first_bytes):
                return first_bytes[4:12] == b"ftypheic"

            def opener(file, name):
                file.seek(16)
                return PngImagePlugin.PngImageFile(__import__("io").BytesIO(file.read()))

            Image.register_open("HEIF", opener, accept)

    monkeypatch.setattr(decode, "import_module", lambda _: StandIn)
    decode._reads_heic.cache_clear()
    try:
        root = make_folder("photos", {"a": 5, "b": 5})
        png = (root / "a/0.png").read_bytes()
        (root / "a/0.png").unlink()
        (root / "a/0.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0" + png)
        assert root / "a/0.heic" in image_files(root)
        assert decode_pixels((root / "a/0.heic").read_bytes(), "x").shape == (40, 40, 3)
    finally:
        decode._reads_heic.cache_clear()
        Image.OPEN.pop("HEIF", None)
        Image.ID.remove("HEIF")


@pytest.mark.parametrize("kind", FORMATS)
def test_the_first_bytes_say_the_format(kind, tmp_path):
    if kind == "AVIF":
        pytest.importorskip("PIL._avif")
    picture(0, 40, 40).save(tmp_path / "x", kind)
    assert kind_of((tmp_path / "x").read_bytes()[:32]) == kind
    assert listing.list_files(tmp_path).images == [tmp_path / "x"]
