"""Pairs of files that show the same photograph after a re-encoding, a mirror, other light or a slight crop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt64
from numpy import ndarray

from verydeep.data.file_facts import FileFacts
from verydeep.data.image_set import Progress, ignore_progress, read_ahead
from verydeep.data.similarity import read_details, similarity

MOST_BITS, MOST_LOW_BITS = 100, 14
"""Bits that differ at most between the hashes of two near-duplicates: of all 256, and of the 64 lowest frequencies."""

LEAST_SIMILARITY = 0.8
"""Correlation of the fine structure of two near-duplicates at least."""

SMALLEST_SIDE = 32
"""Pictures with a shorter side, pixels, have too little structure to tell near-duplicates from others."""

_MOST_CANDIDATES = 20_000  # pairs to decode, the closest first: a bound on the time for very large sets
_COARSE_SIDE, _FINE_SIDE = 32, 64
_COARSE_SIMILARITY = 0.7  # what pairs whose fine structure is compared at 64 pixels must reach at 32
_PAIRS_AT_A_TIME = 250
_HASHES_AT_A_TIME = 2**22  # pairs in a block: 32 MB a thread
_MIRROR = np.uint64(0x5555555555555555)  # in a mirror the cosines of odd frequency along a row change their sign
_DETAILS_HELD = 4096  # pictures decoded for comparison: 50 MB at 32 pixels, 200 MB at 64


@dataclass(frozen=True)
class NearDuplicate:
    """Two files that show the same photograph.

    Attributes:
        first: of the one split.
        second: of the other.
        similarity: correlation of their fine structure, at most 1.
        mirrored: whether one is the mirror image of the other.
    """

    first: str
    second: str
    similarity: float
    mirrored: bool


@dataclass(frozen=True)
class NearDuplicates:
    """The near-duplicates of two splits.

    Attributes:
        pairs: the most alike first.
        left_out: candidates that were not compared, because there were too many.
    """

    pairs: Sequence[NearDuplicate]
    left_out: int = 0


def find_near_duplicates(
    root: Path,
    first: Sequence[str],
    second: Sequence[str],
    facts: Mapping[str, FileFacts],
    progress: Progress = ignore_progress,
) -> NearDuplicates:
    """Finds the pairs of two splits that show the same photograph.

    Candidates are pairs whose perceptual hashes differ in a few bits. Of these, pairs whose fine structure correlates
    are near-duplicates: the same photograph re-encoded, rescaled, brighter or darker, mirrored, shifted or cropped by a
    tenth. Two photographs of one scene, taken one after the other, are not: a hand moves. Files with the same bytes
    are left out: they are the same, not near.

    Args:
        root: of the data set.
        first: files of one split, relative to it.
        second: files of the other.
        facts: of all of them.
        progress: told how far it is.
    """
    ours, theirs = _comparable(first, facts), _comparable(second, facts)
    if not ours or not theirs:
        return NearDuplicates([])
    pairs = _candidates(_hashes(ours, facts), _hashes(theirs, facts), progress)
    numbers = {fact.digest: number for number, fact in enumerate(facts.values())}
    our_bytes, their_bytes = (np.array([numbers[facts[name].digest] for name in names]) for names in (ours, theirs))
    pairs = pairs[our_bytes[pairs[:, 0]] != their_bytes[pairs[:, 1]]]
    left_out = max(0, len(pairs) - _MOST_CANDIDATES)
    pairs = pairs[:_MOST_CANDIDATES]
    files = [root / name for name in ours], [root / name for name in theirs]
    scores = _similarities(files, pairs, _COARSE_SIDE, progress)
    our_sides, their_sides = (np.array([facts[name].shorter_side for name in names]) for names in (ours, theirs))
    large = np.minimum(our_sides[pairs[:, 0]], their_sides[pairs[:, 1]]) >= _FINE_SIDE
    again = np.flatnonzero(large & (scores >= _COARSE_SIMILARITY))
    scores[large] = 0
    scores[again] = _similarities(files, pairs[again], _FINE_SIDE, ignore_progress)
    best: dict[tuple[int, int], tuple[float, bool]] = {}
    for (i, j, mirrored), score in zip(pairs.tolist(), scores.tolist(), strict=True):
        if score >= LEAST_SIMILARITY and score > best.get((i, j), (0.0, False))[0]:
            best[i, j] = score, bool(mirrored)
    found = [NearDuplicate(ours[i], theirs[j], score, mirrored) for (i, j), (score, mirrored) in best.items()]
    return NearDuplicates(sorted(found, key=lambda pair: -pair.similarity), left_out)


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


def _candidates(
    first: UInt8[ndarray, "n 32"], second: UInt8[ndarray, "m 32"], progress: Progress = ignore_progress
) -> Int[ndarray, "pairs 3"]:
    """Finds the pairs of hashes that differ in few bits, those that differ least first.

    Returns:
        The index of the first, the index of the second, and whether the one is mirrored.
    """
    (low, whole), (other_low, other_whole) = _as_words(first), _as_words(second)
    height = max(1, _HASHES_AT_A_TIME // len(second))
    num_blocks = -(-len(first) // height)

    def compare(block: int) -> list[Int[ndarray, "pairs 4"]]:
        rows = slice(block * height, (block + 1) * height)
        found = []
        for mirrored in (0, 1):
            mask = _MIRROR if mirrored else np.uint64(0)
            i, j = np.nonzero(np.bitwise_count((low[rows] ^ mask) ^ other_low.T) <= MOST_LOW_BITS)
            bits = np.bitwise_count(whole[rows][i] ^ mask ^ other_whole[j]).sum(axis=1, dtype=np.int64)
            near = bits <= MOST_BITS
            i, j = i[near] + rows.start, j[near]
            found.append(np.stack([bits[near], i, j, np.full_like(i, mirrored)], axis=1))
        return found

    blocks = []
    for done, block in enumerate(read_ahead(compare, range(num_blocks)), start=1):
        blocks += block
        progress("comparing hashes", done, num_blocks)
    pairs = np.concatenate(blocks)
    return pairs[pairs[:, 0].argsort(kind="stable"), 1:]


def _as_words(hashes: UInt8[ndarray, "n 32"]) -> tuple[UInt64[ndarray, "n 1"], UInt64[ndarray, "n 4"]]:
    """Gives the bits of the 8 x 8 lowest frequencies, and all bits, as numbers of 64 bits."""
    return np.ascontiguousarray(hashes[:, :16:2]).view(np.uint64), hashes.view(np.uint64)


def _similarities(
    files: tuple[Sequence[Path], Sequence[Path]], pairs: Int[ndarray, "pairs 3"], side: int, progress: Progress
) -> Float[ndarray, "pairs"]:
    """Decodes and compares pairs, in threads; pictures that are in several pairs are held for a while."""
    read = lru_cache(_DETAILS_HELD)(lambda file: read_details(file, side))
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))  # neighbours share their first picture
    scores = np.zeros(len(pairs))
    blocks = [order[start : start + _PAIRS_AT_A_TIME] for start in range(0, len(order), _PAIRS_AT_A_TIME)]

    def compare(block: int) -> Float[ndarray, "pairs"]:
        chosen = pairs[blocks[block]]
        ours = [read(files[0][i])[:, :, :: -1 if mirrored else 1] for i, _, mirrored in chosen]
        theirs = [read(files[1][j]) for j in chosen[:, 1]]
        return similarity(np.stack(ours), np.stack(theirs))

    done = 0
    for block, score in zip(blocks, read_ahead(compare, range(len(blocks))), strict=True):
        scores[block] = score
        done += len(block)
        progress("comparing pictures", done, len(pairs))
    return scores
