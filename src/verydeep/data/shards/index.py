"""The index of a folder of shards: which image lies where, so that any of them can be read without the others."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from verydeep.data.shards.storage import Storage
from verydeep.errors import UserError
from verydeep.files import atomic_write

INDEX_FILE = "index.json"
"""Name of the index in its folder."""

UNFINISHED_FILE = "index.json.unfinished"
"""Lies in a folder of shards until its index is there."""

_FORMAT: Literal["verydeep-shards"] = "verydeep-shards"


class IndexedShard(BaseModel):
    """One shard; the lists have one entry for each of its images, in the order of the tar file.

    Positions are those of the images in their split, offsets and sizes are bytes in the tar file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    split: Literal["train", "val", "test"]
    bytes: int
    sha256: str
    names: list[str]
    positions: list[int]
    offsets: list[int]
    sizes: list[int]
    labels: list[int]

    @model_validator(mode="after")
    def _fits(self) -> "IndexedShard":
        columns = (self.positions, self.offsets, self.sizes, self.labels)
        if not self.names or any(len(column) != len(self.names) for column in columns):
            raise ValueError(f"the lists of {self.file} do not have one entry for each image")
        if min(map(min, columns)) < 0 or max(map(sum, zip(self.offsets, self.sizes, strict=True))) > self.bytes:
            raise ValueError(f"an image lies outside of {self.file}")
        if Path(self.file).name != self.file or not self.file.endswith(".tar"):
            raise ValueError(f"{self.file!r} is not the name of a tar file beside the index")
        return self


class ShardIndex(BaseModel):
    """A data set as a folder of shards; the fields are those of ``DataSet``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["verydeep-shards"] = _FORMAT
    version: Literal[1] = 1
    name: str
    classes: tuple[str, ...]
    mirror: bool
    validation: str
    fingerprint: str
    shards: list[IndexedShard]

    @model_validator(mode="after")
    def _fits(self) -> "ShardIndex":
        for split in ("train", "val", "test"):
            shards = [shard for shard in self.shards if shard.split == split]
            if not shards and split != "test":
                raise ValueError(f"it has no shards of {split}")
            positions = sorted(position for shard in shards for position in shard.positions)
            if positions != list(range(len(positions))):
                raise ValueError(f"images of {split} are listed twice or are missing")
            if len({name for shard in shards for name in shard.names}) != len(positions):
                raise ValueError(f"two images of {split} have one name")
            if shards and max(max(shard.labels) for shard in shards) >= len(self.classes):
                raise ValueError(f"a label of {split} has no class")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ValueError("its classes are fewer than two, or one is named twice")
        if Path(self.name).name != self.name:
            raise ValueError(f"{self.name!r} is no short name: run folders are named after it")
        if len({shard.file for shard in self.shards}) != len(self.shards):
            raise ValueError("a shard is listed twice")
        return self


def is_index(beginning: bytes) -> bool:
    """Whether a file with this beginning is an index of ours."""
    return f'"format":"{_FORMAT}"'.encode() in beginning[:200].replace(b" ", b"")


def read_index(storage: Storage, file: str) -> ShardIndex | None:
    """Reads an index; None where there is none, or one of another program."""
    text = storage.read_whole(file)
    if text is None or not is_index(text):
        return None
    try:
        return ShardIndex.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        if field == "version":
            raise UserError(f"{file} was written by a later verydeep: install that one") from error
        reason = problem["msg"].removeprefix("Value error, ") if "ctx" in problem else f"{field}: {problem['msg']}"
        raise UserError(f"{file} is damaged: {reason}: copy it again, or write the shards anew") from error


def write_index(index: ShardIndex, file: Path) -> None:
    """Writes an index completely or not at all, one line for each shard."""
    head = index.model_dump_json(exclude={"shards"})
    lines = ",\n".join(shard.model_dump_json() for shard in index.shards)
    with atomic_write(file) as temporary:
        temporary.write_text(f'{head[:-1]},"shards":[\n{lines}\n]}}\n', encoding="utf-8")
