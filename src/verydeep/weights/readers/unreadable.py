"""Says what a file is that is no file of weights, or none that is read, and what to do instead."""

import tarfile
import zipfile
from pathlib import Path
from typing import Final

_STARTS: Final = (
    (b"version https://git-lfs", "a pointer of git-lfs and not the file itself: say git lfs pull, or download it"),
    (b"\x93NUMPY", "an array of NumPy: give the file that its program saved, such as a state dict"),
    (b"TFL3", "a TensorFlow Lite model: import the .keras or .h5 that it was made of"),
    (b"PAR1", "a Parquet table, and no weights"),
    (b"%PDF", "a PDF document: download the weights again"),
    (b"GGUF", "a GGUF file of a language model, and no VGG"),
)
_MARKUP: Final = (b"<!doctype", b"<html", b"<?xml", b"<head")


def describe(file: Path) -> str | None:
    """Says what a file of another kind is, with the remedy; None where that is not known."""
    with file.open("rb") as opened:
        start = opened.read(512)
    for begin, words in _STARTS:
        if begin in (start[: len(begin)], start[4 : 4 + len(begin)]):
            return words
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_MARKUP):
        return "a web page and not the file: its address needs a login or a click; download it in a browser"
    if text[:1] in (b"{", b"[") and text.isascii():
        return "JSON and no weights: give the file of the weights"
    if start.startswith(b"PK"):
        return _of_zip(file)
    if start.startswith(b"\x1f\x8b"):
        return "compressed (gzip): unpack it first"
    if start.startswith((b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")):
        return "a compressed archive: unpack it first"
    if tarfile.is_tarfile(file):
        return "a tar archive: unpack it, and give the file of weights in it"
    return None


def _of_zip(file: Path) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError):
        return "a zip archive cut short or damaged (torch.save and Keras write such): download it again"
    if names and all(name.endswith(".npy") for name in names):
        return "an .npz of NumPy, whose arrays no program's VGG names: save a state dict, .h5 or .onnx of its program"
    if any(name.endswith(("archive_format", "archive_version", "serialized_exported_program.json")) for name in names):
        return (
            "a program of torch.export (.pt2) and no weights: torch.save(torch.export.load(FILE).state_dict, NEW), and "
            "import that"
        )
    return "a zip archive without weights that can be read: unpack it, and give the file of weights in it"
