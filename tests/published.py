"""Tiny archives in the layouts that public data sets are published in, and a server that gives them."""

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from scipy.io import savemat

from conftest import picture
from verydeep.data.named import NAMED, NamedSet

IMAGENET_WNIDS = ("n00000003", "n00000010", "n00000200")
VALIDATION_TRUTH = (2, 1, 3, 1, 2, 3)  # the identifiers of ILSVRC-2012 do not follow the order of the wnids
IMAGENET_IDS = {1: "n00000200", 2: "n00000003", 3: "n00000010", 4: "n00000999"}  # the last has children: no class


def jpeg(seed: int, width: int = 20, height: int = 16) -> bytes:
    """A small photograph."""
    buffer = io.BytesIO()
    picture(seed, width, height).save(buffer, "JPEG")
    return buffer.getvalue()


def tar(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    """An archive of files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _cifar_records(seed: int, count: int, classes: int, coarse: bool) -> bytes:
    generator = np.random.default_rng(seed)
    labels = (np.arange(count) % classes).astype(np.uint8)[:, None]
    pixels = generator.integers(0, 256, (count, 3 * 32 * 32), dtype=np.uint8)
    return np.concatenate([*([labels // 2] if coarse else []), labels, pixels], axis=1).tobytes()


def cifar10() -> dict[str, bytes]:
    """Five batches of twelve images and one of nine, in three classes."""
    members = {f"data_batch_{number}.bin": _cifar_records(number, 12, 3, False) for number in range(1, 6)}
    members |= {"test_batch.bin": _cifar_records(6, 9, 3, False), "batches.meta.txt": b"airplane\nautomobile\nbird\n\n"}
    return {"cifar-10-binary.tar.gz": tar({f"cifar-10-batches-bin/{name}": members[name] for name in members})}


def cifar100() -> dict[str, bytes]:
    """Four fine classes in two coarse ones."""
    members = {
        "train.bin": _cifar_records(1, 40, 4, True),
        "test.bin": _cifar_records(2, 8, 4, True),
        "fine_label_names.txt": b"apple\naquarium_fish\nbaby\nbear\n",
        "coarse_label_names.txt": b"food\nanimals\n",
    }
    return {"cifar-100-binary.tar.gz": tar({f"cifar-100-binary/{name}": members[name] for name in members})}


def imagenette() -> dict[str, bytes]:
    """Two of its ten classes."""
    members = {"imagenette2/noisy_imagenette.csv": b"path\n"}
    for wnid in ("n03888257", "n01440764"):
        members |= {f"imagenette2/train/{wnid}/{wnid}_{index}.JPEG": jpeg(index) for index in range(10)}
        members |= {f"imagenette2/val/{wnid}/ILSVRC2012_val_{index}.JPEG": jpeg(index) for index in range(4)}
    return {"imagenette2.tgz": tar(members)}


def _mat(**variables: object) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, variables)
    return buffer.getvalue()


def flowers102() -> dict[str, bytes]:
    """Three kinds of flowers, ten images."""
    labels = np.array([[3, 1, 2, 1, 2, 3, 2, 3, 1, 1]], dtype=np.uint8)
    ids = {"trnid": [[9, 3, 6]], "valid": [[4, 5, 8]], "tstid": [[1, 2, 7, 10]]}
    return {
        "102flowers.tgz": tar({f"jpg/image_{number:05d}.jpg": jpeg(number) for number in range(1, 11)}),
        "imagelabels.mat": _mat(labels=labels),
        "setid.mat": _mat(**{name: np.array(value, dtype=np.uint16) for name, value in ids.items()}),
    }


def oxford_iiit_pet() -> dict[str, bytes]:
    """Two breeds; the lists are not in the order of the classes."""
    lists: dict[str, list[str]] = {"trainval.txt": [], "test.txt": []}
    images = {}
    for name, label, species in (("saint_bernard", 2, 2), ("Abyssinian", 1, 1)):
        for number in range(1, 15):
            lists["trainval.txt" if number <= 10 else "test.txt"].append(f"{name}_{number} {label} {species} 1\n")
            images[f"images/{name}_{number}.jpg"] = jpeg(number)
    annotations = {f"annotations/{file}": "".join(lines).encode() for file, lines in lists.items()}
    return {"images.tar.gz": tar(images), "annotations.tar.gz": tar(annotations)}


def caltech101() -> dict[str, bytes]:
    """Three classes, with the stray files that the real one has."""
    folder = "101_ObjectCategories"
    members = {f"{folder}/BACKGROUND_Google/tmp": b"no image"}
    for name in ("accordion", "BACKGROUND_Google", "Faces"):
        members |= {f"{folder}/{name}/image_{number:04d}.jpg": jpeg(number) for number in range(1, 13)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("caltech-101/101_ObjectCategories.tar.gz", tar(members))
        archive.writestr("caltech-101/Annotations.tar", tar({"Annotations/x.mat": b""}, "w:"))
        archive.writestr("__MACOSX/caltech-101/._101_ObjectCategories.tar.gz", b"fork")
    return {"caltech-101.zip": buffer.getvalue()}


def caltech256() -> dict[str, bytes]:
    """Three classes, with the stray files that the real one has."""
    folder = "256_ObjectCategories"
    members = {f"{folder}/002.american-flag/RENAME2": b"", f"{folder}/001.ak47/greg/vision309/x.jpg": jpeg(0)}
    for label, name in enumerate(("ak47", "american-flag", "clutter"), start=1):
        members |= {
            f"{folder}/{label:03d}.{name}/{label:03d}_{number:04d}.jpg": jpeg(number) for number in range(1, 13)
        }
    return {"256_ObjectCategories.tar": tar(members, "w:")}


def imagenet() -> dict[str, bytes]:
    """Three classes of ten training images, six validation images and the development kit."""
    synsets = np.zeros(
        (len(IMAGENET_IDS), 1),
        dtype=[(name, "O") for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children")],
    )
    for row, (number, wnid) in enumerate(IMAGENET_IDS.items()):
        synsets[row, 0] = (number, wnid, f"name of {wnid}, synonym", "a thing", int(number == 4), 0)
    classes = {
        f"{wnid}.tar": tar({f"{wnid}_{index}.JPEG": jpeg(index) for index in range(10)}, "w:")
        for wnid in reversed(IMAGENET_WNIDS)
    }
    numbers = range(len(VALIDATION_TRUTH), 0, -1)
    truth = "".join(f"{number}\n" for number in VALIDATION_TRUTH)
    return {
        "ILSVRC2012_img_train.tar": tar(classes, "w:"),
        "ILSVRC2012_img_val.tar": tar({f"ILSVRC2012_val_{n:08d}.JPEG": jpeg(n) for n in numbers}, "w:"),
        "ILSVRC2012_devkit_t12.tar.gz": tar(
            {
                "ILSVRC2012_devkit_t12/data/meta.mat": _mat(synsets=synsets),
                "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": truth.encode(),
            }
        ),
    }


PUBLISHED = {
    "cifar10": (cifar10, 3, {"train": 60, "test": 9}),
    "cifar100": (cifar100, 4, {"train": 40, "test": 8}),
    "imagenette": (imagenette, 2, {"train": 20, "test": 8}),
    "flowers102": (flowers102, 3, {"train": 3, "val": 3, "test": 4}),
    "oxford-iiit-pet": (oxford_iiit_pet, 2, {"train": 20, "test": 8}),
    "caltech101": (caltech101, 3, {"train": 36}),
    "caltech256": (caltech256, 3, {"train": 36}),
    "imagenet": (imagenet, 3, {"train": 30, "val": 6}),
}
"""Of each set: what makes its tiny archives, the number of classes, and the images of its splits."""


def tiny(name: str, files: dict[str, bytes], address: str | None) -> NamedSet:
    """The row of a data set, with the hashes and counts of its tiny archives, to be had at an address."""
    row = NAMED[name]
    _, num_classes, counts = PUBLISHED[name]
    archives = tuple(
        replace(
            archive,
            md5=hashlib.md5(files[archive.file]).hexdigest(),
            size=len(files[archive.file]),
            url=f"{address}/{archive.file}" if archive.url else None,
        )
        for archive in row.archives
    )
    return replace(row, archives=archives, num_classes=num_classes, counts=counts)


@dataclass
class Server:
    """A server on this machine.

    Attributes:
        address: its beginning of every address.
        files: what it gives, by name.
        asked: what it was asked for.
        cut: give only half of each file.
    """

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cut: bool = False


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments, server_of_ours: Server) -> None:
        self.ours = server_of_ours
        super().__init__(*arguments)

    def do_GET(self) -> None:
        name = self.path.removeprefix("/")
        self.ours.asked.append(name)
        content = self.ours.files.get(name)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.ours.cut else content)

    def log_message(self, *arguments) -> None:
        """Says nothing."""


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    """Serves files on this machine."""
    ours = Server("", files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, server_of_ours=ours))
    ours.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield ours
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def closed_address() -> str:
    """An address at which nothing listens."""
    with serving({}) as server:
        return server.address


def put(row: NamedSet, files: dict[str, bytes]) -> Path:
    """Puts archives into the folder of a data set, as a person does by hand."""
    row.folder.mkdir(parents=True)
    for name, content in files.items():
        (row.folder / name).write_bytes(content)
    return row.folder
