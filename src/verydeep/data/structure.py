"""What is wrong with the folders of a data set: splits, classes, and what only looks like them."""

from collections.abc import Collection, Mapping, Sequence

from verydeep.data.findings import Finding, counted, named
from verydeep.data.image_set import ImageSet, count_per_class
from verydeep.data.listing import Listing

_PARTS_OF_DATA_SETS = frozenset({
    "jpegimages", "annotations", "imagesets", "segmentationclass", "segmentationobject", "images", "image", "imgs",
    "img", "masks", "labels", "thumbnails", "bboxes", "bounding_boxes",
})  # fmt: skip
_NAMES_OF_SPLITS = frozenset({
    "train", "training", "train_set", "trainset", "val", "valid", "validation", "validation_set", "dev", "test",
    "testing", "test_set", "testset", "eval", "evaluation", "holdout",
})  # fmt: skip


def structure_findings(listing: Listing) -> list[Finding]:
    """Says what keeps a folder from being a data set, and what in it is passed over."""
    if not listing.classes:
        return [_no_classes(listing), *_unread(listing)]
    return [
        *_split_folders(listing),
        *_no_class_folders(listing),
        *_too_few_classes(listing),
        *_loose(listing),
        *_unread(listing),
    ]


def _no_classes(listing: Listing) -> Finding:
    if listing.has_split_folders:
        return Finding(
            kind="no-classes",
            severity="fatal",
            message="the folders of the splits hold no class folders",
            remedy="put the images of each class into a folder of its name, in each split",
        )
    return Finding(
        kind="no-classes",
        severity="note",
        message=f"a folder of {counted(len(listing.loose), 'image')} without class folders",
        remedy="give it to predict; to train or evaluate, put the images of each class into a folder of its name",
    )


def _split_folders(listing: Listing) -> list[Finding]:
    findings = []
    for split, folders in listing.places.items():
        if len(folders) > 1:
            names = [folder.name for folder in folders]
            findings.append(
                Finding(
                    kind="split-folders",
                    severity="fatal",
                    message=f"{' and '.join(f'{name}/' for name in names)} both mean the split {split}",
                    remedy="keep one of them",
                    files=names,
                )
            )
    if "train" not in listing.places:
        names = [folder.name for folders in listing.places.values() for folder in folders]
        findings.append(
            Finding(
                kind="split-folders",
                severity="fatal",
                message=f"there is {', '.join(f'{name}/' for name in names)} but no train/",
                remedy="add train/: the classes come from it",
                files=names,
            )
        )
    passed_over = [name for name in listing.beside if name.casefold() in _NAMES_OF_SPLITS]
    if passed_over:
        findings.append(
            Finding(
                kind="split-folders",
                severity="warning",
                message=f"{named([f'{name}/' for name in passed_over])} beside train/ is passed over",
                remedy="rename it to train/, val/ or test/, or move it elsewhere",
                files=passed_over,
            )
        )
    return findings


def _no_class_folders(listing: Listing) -> list[Finding]:
    """Finds folders in the place of classes that have no images, or a name that no class would have."""
    folders = {name for classes in listing.images.values() for name in classes}
    empty = folders - set(listing.classes)
    splits = {name for name in listing.classes if name.casefold() in _NAMES_OF_SPLITS}
    odd = empty | set(odd_names(listing.classes))
    if not odd:
        return []
    remedy = "make a folder for each class, with its images in it, and move or remove these"
    if splits - empty:
        remedy = "name the folders of the splits train/, val/ and test/, or give the folder of one split alone"
    voc = {name.casefold() for name in odd} >= {"jpegimages", "annotations"}
    return [
        Finding(
            kind="no-class-folder",
            severity="fatal" if empty or splits or len(_real_classes(listing)) < 2 else "warning",
            message=f"{named([f'{name}/' for name in sorted(odd)])} {'look' if len(odd) > 1 else 'looks'} like no class"
            + (": these are the folders of a set of boxes (Pascal VOC)" if voc else "")
            + (f"; without images: {named(sorted(empty))}" if empty and not voc else ""),
            remedy=remedy,
            files=[
                folder.joinpath(name).relative_to(listing.root).as_posix()
                for split, folders in listing.places.items()
                for folder in folders
                for name in sorted(odd)
                if name in listing.images[split] and (folder / name).is_dir()
            ],
        )
    ]


def odd_names(classes: Sequence[str]) -> list[str]:
    """Picks the names that no class would have, but a split or a part of a data set."""
    return [name for name in classes if name.casefold() in _PARTS_OF_DATA_SETS | _NAMES_OF_SPLITS]


def _real_classes(listing: Listing) -> list[str]:
    return [name for name in listing.classes if name not in odd_names(listing.classes)]


def _too_few_classes(listing: Listing) -> list[Finding]:
    if len(listing.classes) > 1 or len(_real_classes(listing)) < 1:
        return []
    (name,) = listing.classes
    inner = [folder.name for folder in (listing.root / name).glob("*/")] if not listing.has_split_folders else []
    return [
        Finding(
            kind="too-few-classes",
            severity="fatal",
            message=f"there is one class folder, {name}/: a classifier needs at least two",
            remedy=f"give {listing.root / name} if its folders are the classes"
            if inner
            else "add another class folder",
            files=[name],
        )
    ]


def _loose(listing: Listing) -> list[Finding]:
    if not listing.loose:
        return []
    return [
        Finding(
            kind="outside-classes",
            severity="warning",
            message=f"{counted(len(listing.loose), 'image')} outside the class folders: passed over",
            remedy="move them into the folders of their classes, or elsewhere",
            files=listing.loose,
        )
    ]


def _unread(listing: Listing) -> list[Finding]:
    if not listing.unread:
        return []
    return [
        Finding(
            kind="unread-format",
            severity="warning",
            message=f"{counted(len(listing.unread), 'file')} of a format that is not read: passed over",
            remedy="convert them to JPEG or PNG",
            files=listing.unread,
        )
    ]


def class_set_findings(sets: Mapping[str, ImageSet], own: Collection[str], folders: Mapping[str, str]) -> list[Finding]:
    """Compares the classes of the other splits with those of train.

    Args:
        sets: the images of each split.
        own: the splits that are held out by their names; there a class may only be too small.
        folders: what the folder of each split is called; empty for the root.
    """
    if "train" not in sets:
        return []
    present = {
        split: {name for name, count in zip(images.classes, count_per_class(images), strict=True) if count}
        for split, images in sets.items()
    }
    findings = []
    for split, images in sets.items():
        missing = [name for name in images.classes if name in present["train"] - present[split]]
        extra = [name for name in images.classes if name in present[split] - present["train"]]
        if split in own and missing:
            findings.append(
                Finding(
                    kind="class-sets",
                    severity="warning",
                    message=f"too few images to set one aside for {split}: {named(missing)}",
                    remedy="add images to these classes",
                    files=[f"{folders['train']}/{name}".removeprefix("/") for name in missing],
                )
            )
        elif missing or extra:
            findings.append(_class_set_finding(folders["train"], folders[split], missing, extra))
    return findings


def _class_set_finding(train: str, other: str, missing: list[str], extra: list[str]) -> Finding:
    lacks = f"{other}/ lacks {named(missing)}" if missing else ""
    has = f"{other}/ has {named(extra)}, which {train}/ has not" if extra else ""
    spelling = {name.casefold() for name in missing} & {name.casefold() for name in extra}
    return Finding(
        kind="class-sets",
        severity="fatal",
        message="the classes differ between the splits: " + "; ".join(filter(None, (lacks, has))),
        remedy="write a class in the same way in both"
        if spelling
        else "give both splits the same class folders, each with images",
        files=[f"{other}/{name}" for name in (*missing, *extra)],
        details={"missing": missing, "extra": extra},
    )
