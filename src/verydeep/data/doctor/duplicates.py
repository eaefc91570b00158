"""Pictures that a data set has twice: files with equal bytes, and near-duplicates by their perceptual hashes."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8, UInt64
from numpy import ndarray

from verydeep.data.doctor.findings import Finding, Severity, counted
from verydeep.data.doctor.scan import FileFacts
from verydeep.data.image_set import ImageSet
from verydeep.data.sources import read_ahead
from verydeep.progress import Progress, ignore_progress

NUM_BITS = 256
MOST_BITS, MOST_LOW_BITS = 40, 10
"""Bits that differ at most between the hashes of two near-duplicates: of all 256, and of the 64 lowest frequencies."""

SMALLEST_SIDE = 32
"""Pictures with a shorter side, pixels, have too little structure to tell near-duplicates from others."""

_SAME_CONTENT: dict[str, tuple[Severity, str, str]] = {
    "label-conflict": ("warning", "under several classes", "keep each in the class it belongs to"),
    "duplicate": ("warning", "in several splits", "keep each in one split, or the errors come out too low"),
    "duplicate-within-split": ("note", "there several times", "keep one of each, unless it is to count more"),
}

_MOST_PAIRS = 20_000  # reported, the closest first
_PAIRS_AT_A_TIME = 2**22  # in a block: 32 MB a thread
_MIRROR = np.uint64(0x5555555555555555)  # in a mirror the cosines of odd frequency along a row change their sign


class NearDuplicate(NamedTuple):
    """Two files that show the same photograph; similarity is the share of the bits of their hashes that are equal."""

    first: str
    second: str
    similarity: float
    mirrored: bool

    def as_record(self) -> dict[str, Any]:
        similarity = round(self.similarity, 3)
        return {"files": [self.first, self.second], "similarity": similarity, "mirrored": self.mirrored}


def duplicate_findings(
    sets: Mapping[str, ImageSet],
    facts: Mapping[str, FileFacts],
    held_out: Collection[str],
    progress: Progress = ignore_progress,
) -> list[Finding]:
    """Reports pictures that are there twice: the same bytes anywhere, near-duplicates in two splits.

    ``held_out`` names the splits that are held out of train.
    """
    class_of = {
        name: images.classes[label]
        for images in sets.values()
        for name, label in zip(images.names, images.labels.tolist(), strict=True)
    }
    findings = _same_content_findings(sets, facts, class_of)
    for split, others in (("val", ("train",)), ("test", ("train", "val"))):
        known = [sets[other] for other in others if other in sets]
        if split not in sets or not known:
            continue
        names = [name for images in known for name in images.names]
        pairs = find_near_duplicates(sets[split].names, names, facts, progress)
        if pairs:
            # a val that is held out of train/ belongs to the folder of train
            where = [images.split for images in known if split in held_out or images.split not in held_out]
            findings.append(_near_duplicate_finding(pairs, sets[split], where, class_of, split in held_out))
    return findings


def _same_content_findings(
    sets: Mapping[str, ImageSet], facts: Mapping[str, FileFacts], class_of: Mapping[str, str]
) -> list[Finding]:
    split_of = {name: split for split, images in sets.items() for name in images.names}
    by_digest: dict[str, list[str]] = defaultdict(list)
    for name, fact in facts.items():
        if fact.digest and fact.size:
            by_digest[fact.digest].append(name)
    groups: dict[str, list[list[str]]] = {kind: [] for kind in _SAME_CONTENT}
    for group in by_digest.values():
        if len(group) == 1:
            continue
        num_splits, num_classes = (len({of[name] for name in group}) for of in (split_of, class_of))
        if num_classes > 1:
            groups["label-conflict"].append(group)
        if num_splits > 1:
            groups["duplicate"].append(group)
        elif num_classes == 1:
            groups["duplicate-within-split"].append(group)
    findings = []
    for kind, (severity, where, remedy) in _SAME_CONTENT.items():
        if found := groups[kind]:
            message = f"{counted(len(found), 'picture')} {where}, byte for byte"
            findings.append(
                Finding(kind, severity, message, remedy, list(chain.from_iterable(found)), {"groups": found})
            )
    return findings


def _near_duplicate_finding(
    pairs: Sequence[NearDuplicate], images: ImageSet, others: Sequence[str], class_of: Mapping[str, str], held_out: bool
) -> Finding:
    split, shown = images.split, pairs[:_MOST_PAIRS]
    number = len({pair.first for pair in pairs})
    message = (
        f"{number:,} of the {len(images):,} images of {split} ({100 * number / len(images):.1f}%) "
        f"show a photograph that {' or '.join(others)} has too"
    )
    if conflicts := sum(class_of[pair.first] != class_of[pair.second] for pair in pairs):
        message += f"; {counted(conflicts, 'pair')} under two classes"
    remedy = f"remove one of each pair, or the error on {split} comes out too low"
    if held_out:
        remedy = (
            f"give {split} a folder of its own that keeps such pictures on one side, or its error comes out too low"
        )
    return Finding(
        kind="near-duplicate",
        severity="warning",
        message=message,
        remedy=remedy,
        files=list(dict.fromkeys(name for pair in shown for name in (pair.first, pair.second))),
        details={
            "splits": [split, *others],
            "pairs_left_out": len(pairs) - len(shown),
            "pairs": [pair.as_record() for pair in shown],
        },
    )


def find_near_duplicates(
    first: Sequence[str],
    second: Sequence[str],
    facts: Mapping[str, FileFacts],
    progress: Progress = ignore_progress,
) -> list[NearDuplicate]:
    """Finds the pairs of two splits that show the same photograph, the most alike first.

    Their perceptual hashes differ in few bits: the same photograph re-encoded, rescaled, brighter or darker, mirrored
    or turned a little. Two photographs of one scene, taken one after the other, are not: a hand moves. Files with the
    same bytes are left out: they are the same, not near.
    """
    ours, theirs = _comparable(first, facts), _comparable(second, facts)
    if not ours or not theirs:
        return []
    best: dict[tuple[str, str], NearDuplicate] = {}
    for bits, i, j, mirrored in _near_pairs(_hashes(ours, facts), _hashes(theirs, facts), progress).tolist():
        names = ours[i], theirs[j]
        if facts[names[0]].digest != facts[names[1]].digest:
            best.setdefault(names, NearDuplicate(*names, 1 - bits / NUM_BITS, bool(mirrored)))
    return list(best.values())


def _comparable(names: Sequence[str], facts: Mapping[str, FileFacts]) -> list[str]:
    """Leaves out what shows nothing or too little, and all but the first of the files with the same bytes."""
    seen: dict[str, str] = {}
    for name in names:
        fact = facts[name]
        if fact.perceptual_hash and fact.shorter_side >= SMALLEST_SIDE:
            seen.setdefault(fact.digest, name)
    return list(seen.values())


def _hashes(names: Sequence[str], facts: Mapping[str, FileFacts]) -> UInt8[ndarray, "n 32"]:
    content = b"".join(bytes.fromhex(facts[name].perceptual_hash) for name in names)
    return np.frombuffer(content, dtype=np.uint8).reshape(len(names), 32)


def _near_pairs(
    first: UInt8[ndarray, "n 32"], second: UInt8[ndarray, "m 32"], progress: Progress = ignore_progress
) -> Int[ndarray, "pairs 4"]:
    """Finds the pairs of hashes that differ in few bits, those that differ least first.

    Columns: number of differing bits, index of the first, index of the second, whether the one is mirrored.
    """
    (low, all_bits), (other_low, other_bits) = _as_words(first), _as_words(second)
    height = max(1, _PAIRS_AT_A_TIME // len(second))
    num_blocks = -(-len(first) // height)

    def compare(block: int) -> list[Int[ndarray, "pairs 4"]]:
        rows = slice(block * height, (block + 1) * height)
        found = []
        for mirrored in (0, 1):
            mask = _MIRROR if mirrored else np.uint64(0)
            i, j = np.nonzero(np.bitwise_count((low[rows] ^ mask) ^ other_low.T) <= MOST_LOW_BITS)
            bits = np.bitwise_count(all_bits[rows][i] ^ mask ^ other_bits[j]).sum(axis=1, dtype=np.int64)
            near = bits <= MOST_BITS
            i, j = i[near] + rows.start, j[near]
            found.append(np.stack([bits[near], i, j, np.full_like(i, mirrored)], axis=1))
        return found

    blocks = []
    for done, block in enumerate(read_ahead(compare, range(num_blocks)), start=1):
        blocks += block
        progress("comparing hashes", done, num_blocks)
    pairs = np.concatenate(blocks)
    return pairs[pairs[:, 0].argsort(kind="stable")]


def _as_words(hashes: UInt8[ndarray, "n 32"]) -> tuple[UInt64[ndarray, "n 1"], UInt64[ndarray, "n 4"]]:
    """Returns the bits of the 8 x 8 lowest frequencies, and all bits, as numbers of 64 bits."""
    return np.ascontiguousarray(hashes[:, :16:2]).view(np.uint64), hashes.view(np.uint64)
