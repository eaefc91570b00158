"""Reads annotation files that may be hostile: of bounded size, no unsafe XML, errors in one line; and finds images."""

import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from verydeep.data.listing import is_image, list_images
from verydeep.errors import UserError, printable
from verydeep.files import format_bytes, parse_json

LARGEST_ANNOTATION = 20_000_000
"""Bytes of the annotation of one image at most, but for LabelMe's, which may hold the image."""

LARGEST_LIST = 1_000_000_000
"""Bytes of a file that annotates a whole data set, at most; that of COCO's training images has 450 MB."""

_HASH = re.compile(r"^[0-9a-f]{8}-(?=.)")  # that Label Studio puts before the names of uploads


class AnnotationError(UserError):
    """A file of annotations that cannot be read; ``fault`` and ``remedy`` are the parts of the message."""

    def __init__(self, file: Path, fault: str, remedy: str) -> None:
        super().__init__(f"{file} {fault}: {remedy}")
        self.fault, self.remedy = fault, remedy


def read_text(file: Path, largest: int = LARGEST_ANNOTATION) -> str:
    """Reads a file of text in UTF-8; raises AnnotationError where it is none, or too large."""
    return _decode(file, _read(file, largest))


def is_there(file: Path) -> bool:
    """Whether there is a file or folder of a name that annotations state, which may be one that none can have."""
    try:
        return file.exists()
    except OSError:  # a name that is too long, or a folder that may not be looked into
        return False


def first_bytes(file: Path, count: int) -> bytes:
    """The first bytes of a regular file; none of a pipe or of one that cannot be read."""
    try:
        if not file.is_file():
            return b""
        with file.open("rb") as opened:
            return opened.read(count)
    except OSError:
        return b""


def _read(file: Path, largest: int) -> bytes:
    if file.exists() and not file.is_file():
        raise AnnotationError(file, "is no regular file", "copy what it gives into a file, or remove it")
    try:
        with file.open("rb") as opened:
            content = opened.read(largest + 1)
            if len(content) > largest:
                what = f"has more than the {format_bytes(largest)} that are read of such a file"
                raise AnnotationError(file, what, "split it, or leave out what is no box")
            return content
    except OSError as error:
        raise AnnotationError(file, f"cannot be read ({error.strerror or error})", "mend or remove it") from error


def _decode(file: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(file, "is not in UTF-8", "save it as UTF-8") from error


def read_json(file: Path, largest: int = LARGEST_LIST) -> Any:  # noqa: ANN401 - checked where it is used
    """Reads a file of JSON; raises AnnotationError where it is none, cut short, or too large."""
    text = read_text(file, largest)
    try:
        return parse_json(text)
    except ValueError as error:
        where = f" after line {error.lineno}" if isinstance(error, json.JSONDecodeError) else f": {error}"
        raise AnnotationError(file, f"is no valid JSON{where}", "export it again, it may be cut short") from error


def read_xml(file: Path) -> Element:
    """Reads a file of XML without entities or document types; raises AnnotationError where it is none, or has some."""
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    content = _read(file, LARGEST_ANNOTATION)
    try:
        root: Element = fromstring(content, forbid_dtd=True)
        return root
    except DefusedXmlException as error:
        what = "defines entities or a document type, as XML bombs do"
        raise AnnotationError(file, what, "export it without") from error
    except (ParseError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise AnnotationError(file, f"is no valid XML ({error})", "export it again, it may be cut short") from error


def text_of(element: Element, path: str) -> str:
    """The text of an element below another, empty where there is none."""
    return (element.findtext(path) or "").strip()


class Images:
    """The images of folders, by the names that annotations give them."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self.files = [file for folder in folders if folder.is_dir() for file in list_images(folder).images]
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for file in self.files:
            self._by_name.setdefault(file.name.casefold(), []).append(file)
            self._by_stem.setdefault(file.stem.casefold(), []).append(file)

    def find(self, stated: str, *folders: Path) -> Path | None:
        """Finds the image that an annotation states: at its path, else by its name, else with another ending or hash.

        None where there is no such image, or where several have the name.
        """
        path = PurePosixPath(stated.replace("\\", "/"))
        for folder in folders:
            if stated and is_there(folder / path) and (folder / path).is_file() and is_image(folder / path):
                return folder / path
        for name in (path.name, _HASH.sub("", path.name)):
            stem = PurePosixPath(name).stem.casefold()
            for found in (self._by_name.get(name.casefold(), ()), self._by_stem.get(stem, ())):
                if found and (below := _most_alike(found, path)):
                    return below
        return None

    def named_like(self, stem: str) -> list[Path]:
        """The images of a name without its ending."""
        return self._by_stem.get(stem.casefold(), [])


def _most_alike(found: list[Path], stated: PurePosixPath) -> Path | None:
    """The only file, or the one that lies in the folder of the stated name."""
    if len(found) == 1:
        return found[0]
    alike = [file for file in found if stated.parent.name and file.parent.name == stated.parent.name]
    return alike[0] if len(alike) == 1 else None


def is_same_name(file: Path, stated: str) -> bool:
    """Whether a file has the name that is stated."""
    return file.name.casefold() == PurePosixPath(stated.replace("\\", "/")).name.casefold()


def quoted(text: str) -> str:
    """A name from a file, for a message: on one line, not too long."""
    return repr(printable(text[:80]).replace("\n", " "))
