"""What pictures that are there twice do to a data set."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL

from verydeep.data.file_facts import FileFacts
from verydeep.data.findings import Finding, Severity, counted
from verydeep.data.image_set import ImageSet, Progress
from verydeep.data.kept import Kept
from verydeep.data.near_duplicates import NearDuplicates, find_near_duplicates

_FORMAT = 1


@dataclass(frozen=True)
class _KeptComparison:
    key: str
    found: NearDuplicates


@dataclass(frozen=True)
class _KeptComparisons:
    splits: dict[str, _KeptComparison]


def same_content(facts: Mapping[str, FileFacts]) -> list[list[str]]:
    """Groups the files that have the same bytes; empty files are not compared."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, fact in facts.items():
        if fact.digest and fact.size:
            groups[fact.digest].append(name)
    return [group for group in groups.values() if len(group) > 1]


def same_content_findings(sets: Mapping[str, ImageSet], facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Says which files have the same bytes: in several splits, under several classes, or merely twice."""
    split_of = {name: split for split, images in sets.items() for name in images.names}
    class_of = _classes(sets.values())
    conflicts: list[list[str]] = []
    across: list[list[str]] = []
    within: list[list[str]] = []
    for group in same_content(facts):
        splits, classes = {split_of[name] for name in group}, {class_of[name] for name in group}
        if len(classes) > 1:
            conflicts.append(group)
        if len(splits) > 1:
            across.append(group)
        elif len(classes) == 1:
            within.append(group)
    kinds: list[tuple[str, Severity, list[list[str]], str, str]] = [
        ("label-conflict", "warning", conflicts, "under several classes", "keep each in the class it belongs to"),
        ("duplicate", "warning", across, "in several splits", "keep each in one split, or the errors come out too low"),
        (
            "duplicate-within-split",
            "note",
            within,
            "there several times",
            "keep one of each, unless it is to count more",
        ),
    ]
    return [
        Finding(
            kind=kind,
            severity=severity,
            message=f"{counted(len(groups), 'picture')} {where}, byte for byte",
            remedy=remedy,
            files=[name for group in groups for name in group],
            details={"groups": groups},
        )
        for kind, severity, groups, where, remedy in kinds
        if groups
    ]


def near_duplicate_findings(
    root: Path,
    sets: Mapping[str, ImageSet],
    facts: Mapping[str, FileFacts],
    own: Collection[str],
    progress: Progress,
) -> list[Finding]:
    """Says which photographs are in two splits in different files: val compared with train, test with both.

    Args:
        root: of the data set.
        sets: the images of each split.
        facts: of all files.
        own: the splits that are held out by their names.
        progress: told how far it is.
    """
    findings = []
    cache = Kept(root, "doctor/pairs", _KeptComparisons)
    before = cache.read()
    kept = before.splits if before else {}
    for split, others in (("val", ("train",)), ("test", ("train", "val"))):
        known = [sets[other] for other in others if other in sets]
        if split not in sets or not known:
            continue
        names = [name for images in known for name in images.names]
        key = _key(sets[split].names, names, facts)
        if split not in kept or kept[split].key != key:
            kept[split] = _KeptComparison(key, find_near_duplicates(root, sets[split].names, names, facts, progress))
            cache.write(_KeptComparisons(kept))
        found = kept[split].found
        if found.pairs:
            # a val that is held out of train/ belongs to the folder of train
            where = [images.split for images in known if split in own or images.split not in own]
            findings.append(_of_pairs(found, sets[split], where, _classes([sets[split], *known]), split in own))
    return findings


def _key(first: Sequence[str], second: Sequence[str], facts: Mapping[str, FileFacts]) -> str:
    """Hashes what a comparison depends on: the files, their content, and the code."""
    digest = hashlib.sha256(f"format {_FORMAT}, Pillow {PIL.__version__}".encode())
    for name in (*first, "", *second):
        digest.update(f"{name}\t{facts[name].digest if name else ''}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _of_pairs(
    found: NearDuplicates, images: ImageSet, others: Sequence[str], class_of: Mapping[str, str], own: bool
) -> Finding:
    pairs, split = found.pairs, images.split
    number = len({pair.first for pair in pairs})
    least = "at least " if found.left_out else ""
    conflicts = sum(class_of[pair.first] != class_of[pair.second] for pair in pairs)
    remedy = f"remove one of each pair, or the error on {split} comes out too low"
    if own:
        remedy = (
            f"give {split} a folder of its own that keeps such pictures on one side, or its error comes out too low"
        )
    return Finding(
        kind="near-duplicate",
        severity="warning",
        message=f"{least}{number:,} of the {len(images):,} images of {split} ({100 * number / len(images):.1f}%) "
        f"show a photograph that {' or '.join(others)} has too"
        + (f"; {counted(conflicts, 'pair')} under two classes" if conflicts else ""),
        remedy=remedy,
        files=list(dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second))),
        details={
            "splits": [split, *others],
            "candidates_left_out": found.left_out,
            "pairs": [
                {
                    "files": [pair.first, pair.second],
                    "similarity": round(pair.similarity, 3),
                    "mirrored": pair.mirrored,
                }
                for pair in pairs
            ],
        },
    )


def _classes(sets: Collection[ImageSet]) -> dict[str, str]:
    return {
        name: images.classes[label]
        for images in sets
        for name, label in zip(images.names, images.labels.tolist(), strict=True)
    }
