"""Files of descriptors: written row by row from a stream, and read in blocks.

``.safetensors`` holds ``descriptors`` (n,d float32), ``labels`` (n int64, absent where the images have none),
``splits`` (n uint8, numbers of the splits in the metadata), and the names of the images as UTF-8 bytes, ``names``, with
the end of each in ``name_ends`` (n int64), for JSON headers end at 100 MB. ``.npz`` and ``.parquet`` hold the same.
"""

import json
import struct
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from numpy import ndarray
from safetensors import SafetensorError, safe_open

from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write, check_output_file, parse_json, remove_leftovers_of

KEY = "verydeep_features"
"""Of the JSON in the metadata of a file."""

_BLOCK = 4096
"""Rows that are read or written at once."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """Which images the rows of a file are of, and how they were computed."""

    names: Sequence[str] = field(repr=False)
    labels: ndarray | None = field(repr=False)  # n, or n,k where an image may have several
    splits: UInt8[ndarray, "n"] = field(repr=False)  # numbers, among the splits of the job
    job: dict[str, Any]  # models, options, data, classes, splits

    @property
    def dimensions(self) -> int:
        return int(self.job["dimensions"])

    @property
    def split_names(self) -> list[str]:
        return list(self.job["splits"])


def check_features_file(out: Path) -> None:
    """Checks, before the work for it begins, that a file can be written and replaces nothing."""
    if out.suffix not in _WRITERS:
        raise UsageError(f"--out {out}: give a name that ends in {', '.join(_WRITERS)}")
    if out.suffix == ".parquet":
        _pyarrow()
    check_output_file(out, "--out", f"features{out.suffix}", any_ending=True)


def write_features(out: Path, described: Described, rows: Iterable[Float32[ndarray, "_ d"]]) -> None:
    """Writes a file from blocks of rows, in bounded memory, completely or not at all."""
    try:
        remove_leftovers_of(out)
        with atomic_write(out) as temporary:
            _WRITERS[out.suffix](temporary, described, rows)
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror or error}): make room, then resume with --resume"
        ) from error


def _write_safetensors(file: Path, described: Described, rows: Iterable[ndarray]) -> None:
    encoded = [name.encode(errors="surrogateescape") for name in described.names]
    arrays: dict[str, tuple[str, tuple[int, ...], Iterable[ndarray]]] = {}  # the widest first: each is aligned then
    if described.labels is not None:
        arrays["labels"] = ("I64", described.labels.shape, [described.labels.astype(np.int64)])
    ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
    arrays["name_ends"] = ("I64", ends.shape, [ends])
    arrays["descriptors"] = ("F32", (len(encoded), described.dimensions), rows)
    text = np.frombuffer(b"".join(encoded), np.uint8)
    arrays["names"] = ("U8", text.shape, [text])
    arrays["splits"] = ("U8", described.splits.shape, [described.splits])
    header: dict[str, Any] = {"__metadata__": {KEY: json.dumps(described.job)}}
    end = 0
    for name, (dtype, shape, _) in arrays.items():
        start, end = end, end + int(np.prod(shape)) * {"I64": 8, "F32": 4, "U8": 1}[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text_header = json.dumps(header).encode()
    text_header += b" " * (-len(text_header) % 8)
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", len(text_header)) + text_header)
        for _, _, blocks in arrays.values():
            for block in blocks:
                opened.write(np.ascontiguousarray(block).tobytes())


def _write_npz(file: Path, described: Described, rows: Iterable[ndarray]) -> None:
    count = len(described.names)
    splits = np.array(described.split_names)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def write(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], blocks: Iterable[ndarray]) -> None:
            # a fixed time: the same descriptors are the same file
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                described_array = {"descr": dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_2_0(member, described_array)
                for block in blocks:
                    member.write(np.ascontiguousarray(block, dtype).tobytes())

        write("descriptors", np.dtype("<f4"), (count, described.dimensions), rows)
        if described.labels is not None:
            write("labels", np.dtype("<i8"), described.labels.shape, [described.labels])
        width = max(1, *map(len, described.names)) if count else 1
        starts = range(0, count, _BLOCK)
        names = (np.array(described.names[start : start + _BLOCK], f"<U{width}") for start in starts)
        write("names", np.dtype(f"<U{width}"), (count,), names)
        write("splits", splits.dtype, (count,), [splits[described.splits]])
        text = np.array(json.dumps(described.job))
        write("metadata", text.dtype, (), [text])


def _write_parquet(file: Path, described: Described, rows: Iterable[ndarray]) -> None:
    pa, parquet = _pyarrow()
    label = pa.int64() if described.labels is None or described.labels.ndim == 1 else pa.list_(pa.int64())
    fields = [("name", pa.string()), ("label", label), ("split", pa.string())]
    fields.append(("descriptor", pa.list_(pa.float32(), described.dimensions)))
    schema = pa.schema(fields, metadata={KEY: json.dumps(described.job)})
    first, splits = 0, np.array(described.split_names)
    with parquet.ParquetWriter(file, schema) as writer:
        for block in rows:
            part = slice(first, first + len(block))
            names = [name.encode(errors="backslashreplace").decode() for name in described.names[part]]
            labels = pa.nulls(len(block), label) if described.labels is None else described.labels[part].tolist()
            values = pa.array(np.ascontiguousarray(block).reshape(-1))
            columns = [names, labels, splits[described.splits[part]].tolist()]
            arrays = [pa.array(column, kind.type) for column, kind in zip(columns, schema, strict=False)]
            arrays.append(pa.FixedSizeListArray.from_arrays(values, described.dimensions))
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            first += len(block)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("parquet files need pyarrow: pip install 'verydeep[parquet]'") from error
    return pyarrow, pyarrow.parquet


_WRITERS = {".safetensors": _write_safetensors, ".npz": _write_npz, ".parquet": _write_parquet}


class FeaturesFile:
    """A .safetensors file of descriptors that ``features`` wrote; its rows are read when they are asked for.

    Args:
        file: its path.

    Raises:
        UserError: there is none, or it is something else, or damaged.

    Attributes:
        names: of the images.
        labels: their classes, n, or n,k; None where they have none.
        splits: name of the split of each.
        job: models, options, data, classes.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        if not self.file.is_file():
            raise UserError(f"no such file: {self.file}")
        try:
            self._opened = safe_open(self.file, framework="np")
            metadata = self._opened.metadata() or {}
            if KEY not in metadata:
                raise UserError(f"{self.file} holds no descriptors: give a file that verydeep features wrote")
            self.job: dict[str, Any] = parse_json(metadata[KEY])
            self._rows = self._opened.get_slice("descriptors")
            self._shape = tuple(self._rows.get_shape())
            tensors = {name: self._opened.get_tensor(name) for name in ("names", "name_ends", "splits")}
            labelled = "labels" in self._opened.keys()  # noqa: SIM118 - safe_open is no mapping
            self.labels: Int64[ndarray, "n *k"] | None = self._opened.get_tensor("labels") if labelled else None
            self.names = _names(tensors["names"].tobytes(), tensors["name_ends"])
            self.splits = [self.job["splits"][number] for number in tensors["splits"].tolist()]
        except UserError:
            raise
        except (SafetensorError, OSError, KeyError, IndexError, TypeError, ValueError) as error:
            raise UserError(f"{self.file} is damaged or cut short ({error}): compute it again") from error
        counts = {
            len(self.names),
            len(self.splits),
            self._shape[0],
            *(() if self.labels is None else [len(self.labels)]),
        }
        if len(counts) > 1 or len(self._shape) != 2:
            raise UserError(f"{self.file} is damaged: its parts are of different numbers of images: compute it again")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def dimensions(self) -> int:
        return int(self._shape[1])

    def blocks(self, rows: int = _BLOCK) -> Iterator[Float32[ndarray, "_ d"]]:
        """Yields the descriptors, some rows at a time."""
        for first in range(0, len(self), rows):
            yield self._rows[first : min(first + rows, len(self))]

    def descriptors(self) -> Float32[ndarray, "n d"]:
        """Reads all descriptors into memory."""
        whole: ndarray = self._opened.get_tensor("descriptors")
        return whole


def _names(text: bytes, ends: ndarray) -> list[str]:
    starts = [0, *ends.tolist()]
    if starts[-1] != len(text) or sorted(starts) != starts:
        raise KeyError("names")
    return [text[start:end].decode(errors="surrogateescape") for start, end in pairwise(starts)]


def is_features_file(file: str | Path) -> bool:
    """Whether a file holds descriptors that ``features`` wrote as .safetensors."""
    path = Path(file)
    try:
        if not path.is_file() or path.suffix != ".safetensors":
            return False
        with safe_open(path, framework="np") as opened:
            return KEY in (opened.metadata() or {})
    except (SafetensorError, OSError):
        return False
