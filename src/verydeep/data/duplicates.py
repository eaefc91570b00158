"""What pictures that are there twice do to a data set."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from verydeep.data.file_facts import FileFacts
from verydeep.data.findings import Finding, counted
from verydeep.data.image_set import ImageSet, Progress
from verydeep.data.near_duplicates import NearDuplicate, find_near_duplicates


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
    conflicts, across, within = [], [], []
    for group in same_content(facts):
        splits, classes = {split_of[name] for name in group}, {class_of[name] for name in group}
        if len(classes) > 1:
            conflicts.append(group)
        if len(splits) > 1:
            across.append(group)
        elif len(classes) == 1:
            within.append(group)
    findings = []
    if conflicts:
        findings.append(
            _of_groups(
                "label-conflict",
                "warning",
                conflicts,
                f"{counted(len(conflicts), 'picture')} under several classes, byte for byte",
                "keep each in the class it belongs to",
            )
        )
    if across:
        findings.append(
            _of_groups(
                "duplicate",
                "warning",
                across,
                f"{counted(len(across), 'picture')} in several splits, byte for byte",
                "keep each in one split, or the errors come out too low",
            )
        )
    if within:
        findings.append(
            _of_groups(
                "duplicate-within-split",
                "note",
                within,
                f"{counted(len(within), 'picture')} there several times, byte for byte",
                "keep one of each, unless it is meant to count more",
            )
        )
    return findings


def _of_groups(kind: str, severity: str, groups: list[list[str]], message: str, remedy: str) -> Finding:
    assert severity in ("warning", "note")
    return Finding(
        kind=kind,
        severity="warning" if severity == "warning" else "note",
        message=message,
        remedy=remedy,
        files=[name for group in groups for name in group],
        details={"groups": groups},
    )


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
    for split, others in (("val", ("train",)), ("test", ("train", "val"))):
        known = [sets[other] for other in others if other in sets]
        if split not in sets or not known:
            continue
        names = [name for images in known for name in images.names]
        pairs = find_near_duplicates(root, sets[split].names, names, facts, progress)
        if pairs:
            # a val that is held out of train/ belongs to the folder of train
            where = [images.split for images in known if split in own or images.split not in own]
            findings.append(_of_pairs(pairs, sets[split], where, _classes([sets[split], *known]), split in own))
    return findings


def _of_pairs(
    pairs: Sequence[NearDuplicate], images: ImageSet, others: Sequence[str], class_of: Mapping[str, str], own: bool
) -> Finding:
    split, number = images.split, len({pair.first for pair in pairs})
    conflicts = sum(class_of[pair.first] != class_of[pair.second] for pair in pairs)
    remedy = f"remove one of each pair, or the error on {split} comes out too low"
    if own:
        remedy = (
            f"give {split} a folder of its own that keeps such pictures on one side, or its error comes out too low"
        )
    return Finding(
        kind="near-duplicate",
        severity="warning",
        message=f"{number:,} of the {len(images):,} images of {split} ({100 * number / len(images):.1f}%) show a "
        f"photograph that {' or '.join(others)} has too"
        + (f"; {counted(conflicts, 'pair')} under two classes" if conflicts else ""),
        remedy=remedy,
        files=list(dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second))),
        details={
            "splits": [split, *others],
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
