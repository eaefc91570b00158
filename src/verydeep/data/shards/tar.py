"""Lists the images and labels of a WebDataset shard of any program, from the headers of its tar file."""

import hashlib
import re
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from pydantic import BaseModel, ValidationError

from verydeep.data.shards.storage import Storage, open_stream
from verydeep.errors import UserError
from verydeep.files import atomic_write, cache_folder, parse_json
from verydeep.images.decode import SUFFIXES

PICKLES = frozenset({"pyd", "pkl", "pickle", "pth", "pt", "ckpt", "joblib", "dill"})
"""Endings of members that are, or may be, pickles: whoever opens one runs what its writer wanted."""

_LABEL_KEYS = ("label", "cls", "class")
_MOST_LABEL_BYTES = 2**20
_LONGEST_LABEL = 1000
_SAMPLE = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")
"""A key, up to the first dot of the file's name, and what kind of member it is."""

_VERSION = 1
"""Of the cached listings."""

_BLOCK = tarfile.BLOCKSIZE
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class TarListing(BaseModel):
    """The images of a shard, in its order; a label names or numbers a class; the stamp changes when the file does."""

    bytes: int
    stamp: str
    names: list[str]
    offsets: list[int]
    sizes: list[int]
    labels: list[str]


def list_shard(storage: Storage, file: str) -> TarListing:
    """Lists a shard, or takes the list that was made when it was opened before; pickles and damage raise UserError."""
    size, stamp = storage.stat(file)
    name = file if "://" in file else str(Path(file).resolve())
    cached = cache_folder() / "shards" / f"{hashlib.sha256(f'{_VERSION} {name}'.encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValidationError):
        listing = TarListing.model_validate_json(cached.read_bytes())
        if stamp and (listing.bytes, listing.stamp) == (size, stamp):
            return listing
    listing = _walk(storage, file, size, stamp)
    with suppress(OSError):  # it can be made again
        cached.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(cached) as temporary:
            temporary.write_text(listing.model_dump_json(), encoding="utf-8")
    return listing


@dataclass
class _Sample:
    """The members of one key, by kind; of texts the file and the content."""

    images: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    texts: dict[str, tuple[str, bytes]] = field(default_factory=dict)


def _walk(storage: Storage, file: str, size: int, stamp: str) -> TarListing:
    listing = TarListing(bytes=size, stamp=stamp, names=[], offsets=[], sizes=[], labels=[])
    for key, sample in _read_samples(storage, file, size).items():
        if not sample.images and "cls" not in sample.texts:
            continue  # of no use to a classifier
        image = _image(sample, key, file)
        listing.names.append(image.name)
        listing.offsets.append(image.offset_data)
        listing.sizes.append(image.size)
        listing.labels.append(_label(sample, image.name, key, file))
    if not listing.names:
        raise UserError(f"{file} holds no images: is it a WebDataset shard?")
    return listing


def _read_samples(storage: Storage, file: str, size: int) -> dict[str, _Sample]:
    samples: dict[str, _Sample] = {}
    seen: set[str] = set()
    with open_stream(storage, file, size) as stream:
        for member in _members(stream, file, size):
            if member.name in seen:
                raise UserError(f"{file} holds {member.name} twice: write the shard anew")
            seen.add(member.name)
            _refuse_pickles(file, member.name)
            found = _SAMPLE.fullmatch(member.name)
            if found is None or (found[1].rpartition("/")[2].startswith("__") and found[1].endswith("__")):
                continue  # hidden, or a note on the shard
            sample, kind = samples.setdefault(found[1], _Sample()), found[2].lower()
            if f".{kind.rpartition('.')[2]}" in SUFFIXES:
                sample.images[kind] = member
            elif kind in ("cls", "json"):
                stream.seek(member.offset_data)
                sample.texts[kind] = f"{file}:{member.name}", stream.read(min(member.size, _MOST_LABEL_BYTES))
    return samples


def _image(sample: _Sample, key: str, file: str) -> tarfile.TarInfo:
    """Returns the one image of a sample; one named key.jpg goes before others, such as key.mask.png."""
    plain = {kind: image for kind, image in sample.images.items() if "." not in kind} or sample.images
    if not plain:
        raise UserError(f"sample {key!r} of {file} has a label and no image: write the shard anew")
    if len(plain) > 1:
        names = " and ".join(image.name for image in plain.values())
        raise UserError(f"{file} holds {names}: write it with one image a sample")
    return next(iter(plain.values()))


def _label(sample: _Sample, image: str, key: str, file: str) -> str:
    if "cls" in sample.texts:
        where, data = sample.texts["cls"]
        return _label_of_text(_text(data, where), where)
    if "json" in sample.texts:
        where, data = sample.texts["json"]
        text = _text(data, where)
        try:
            record = parse_json(text)
        except ValueError as error:
            raise UserError(f"{where} is no JSON: {error}") from error
        for name in _LABEL_KEYS:
            value = record.get(name) if isinstance(record, dict) else None
            if isinstance(value, str | int) and not isinstance(value, bool):
                return _label_of_text(str(value).strip(), where)
    raise UserError(
        f"{image} of {file} has no label: a sample needs {key}.cls (the number or the name of its class), "
        f"or {key}.json with a {_LABEL_KEYS[0]!r}"
    )


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is no text: write the number or the name of a class") from error


def _label_of_text(text: str, where: str) -> str:
    if not text or "\n" in text:
        raise UserError(f"{where} is no label: write the number or the name of one class")
    if re.fullmatch(r"-\d+", text):
        raise UserError(f"{where} is {text}: the images are not labelled")
    if len(text) > _LONGEST_LABEL:
        raise UserError(f"{where} has {len(text):,} letters: write the number or the name of one class")
    return str(int(text)) if text.isdecimal() else text


def _refuse_pickles(file: str, name: str) -> None:
    kinds = name.rpartition("/")[2].lower().split(".")[1:]
    if PICKLES.intersection(kinds):
        raise UserError(
            f"{file} holds {name}, a pickle: whoever opens one runs what its writer wanted, so shards with pickles are "
            "refused: write them anew without it"
        )


def _members(stream: BufferedReader, file: str, size: int) -> Iterator[tarfile.TarInfo]:
    """Yields the files of a tar file, and checks that it is complete."""
    beginning = stream.read(_BLOCK)
    for magic, name in _COMPRESSED.items():
        if beginning.startswith(magic):
            raise UserError(f"{file} is compressed with {name}: unpack it, images are read out of its middle")
    stream.seek(0)
    end = 0
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # not in the stubs; else it keeps all of them
                if member.offset_data <= end or member.size < 0:
                    raise tarfile.ReadError("a header points backwards")
                end = member.offset_data + (member.size if member.isreg() else 0)
                if end > size:
                    raise UserError(f"{file} is cut short inside {member.name}: copy it again")
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise UserError(f"{file} holds {member.name}, a link or a special file: write plain files")
                yield member
            stream.seek(tar.offset)
            if stream.read(_BLOCK) != bytes(_BLOCK):
                raise UserError(f"{file} is cut short or damaged: it has no end of a tar file: copy it again")
    except tarfile.TarError as error:
        raise UserError(f"{file} is no tar file, or it is damaged ({error}): copy it again") from error
