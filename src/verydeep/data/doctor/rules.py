"""Rules of the doctor: the folders of a data set, the classes of its splits, single files, imbalance."""

from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import median

from verydeep.data.doctor.findings import Finding, Severity, counted, named
from verydeep.data.doctor.scan import FileFacts
from verydeep.data.folder import MAKE_CLASSES, FolderListing, odd_names, split_names, why_no_classes
from verydeep.data.image_set import ImageSet, count_per_class
from verydeep.files import format_number
from verydeep.images.decode import MANY_BITS, most_pixels
from verydeep.images.geometry import LONGEST

SMALLEST_CROP = 32
"""Side of the smallest crop of a net, pixels."""

WORTH_A_NOTE, WORTH_A_WARNING = 3, 10
"""How many times larger the largest class is than the smallest, from which on it is said."""

_TINY_SHARE = 8  # a side this many times shorter than the usual one is odd in a set of larger pictures
_HUGE_SHARE, _HUGE_PIXELS = 32, 1_000_000  # as many times the usual pixels, and slow to decode
_ALWAYS_HUGE_PIXELS = 50_000_000

FileRule = tuple[str, Severity, Callable[[FileFacts], bool], str, str]
"""Kind, severity, to which files it applies, message, remedy."""


def structure_findings(listing: FolderListing) -> list[Finding]:
    """Reports what keeps a folder from being a data set, and what in it is passed over."""
    unread = _files_finding(
        listing.unread,
        "unread-format",
        "warning",
        "of a format that is not read: passed over",
        "convert them to JPEG or PNG",
    )
    if not listing.classes:
        return [_no_classes(listing), *unread]
    return [
        *_split_folders(listing),
        *_no_class_folders(listing),
        *_too_few_classes(listing),
        *_files_finding(
            listing.loose,
            "outside-classes",
            "warning",
            "outside the class folders: passed over",
            "move them into the folders of their classes, or elsewhere",
            "image",
        ),
        *_files_finding(
            listing.unlabelled,
            "unlabelled-split",
            "note",
            "of test/ without class folders: passed over",
            "verydeep predict names their classes; to measure errors on them, make a folder for each class",
            "image",
        ),
        *unread,
    ]


def _files_finding(
    files: Sequence[str], kind: str, severity: Severity, message: str, remedy: str, noun: str = "file"
) -> list[Finding]:
    return [Finding(kind, severity, f"{counted(len(files), noun)} {message}", remedy, files)] if files else []


def _no_classes(listing: FolderListing) -> Finding:
    if listing.has_split_folders:
        message = "the folders of the splits hold no class folders"
        remedy = "put the images of each class into a folder of its name, in each split"
        return Finding("no-classes", "fatal", message, remedy)
    message = f"a folder of {counted(len(listing.loose), 'image')} without class folders"
    remedy = "give it to predict; to train or evaluate, put the images of each class into a folder of its name"
    return Finding("no-classes", "note", message, remedy)


def _split_folders(listing: FolderListing) -> list[Finding]:
    findings = []
    for split, folders in listing.folders.items():
        if len(folders) > 1:
            names = [folder.name for folder in folders]
            message = f"{' and '.join(f'{name}/' for name in names)} both mean the split {split}"
            findings.append(Finding("split-folders", "fatal", message, "keep one of them", names))
    if "train" not in listing.folders:
        names = [folder.name for folders in listing.folders.values() for folder in folders]
        message = f"there is {', '.join(f'{name}/' for name in names)} but no train/"
        findings.append(Finding("split-folders", "fatal", message, "add train/: the classes come from it", names))
    ignored = split_names(listing.beside)
    if ignored:
        message = f"{named([f'{name}/' for name in ignored])} beside train/ is passed over"
        remedy = "rename it to train/, val/ or test/, or move it elsewhere"
        findings.append(Finding("split-folders", "warning", message, remedy, ignored))
    return findings


def _no_class_folders(listing: FolderListing) -> list[Finding]:
    """Reports folders in the place of classes that have no images, or a name that no class would have."""
    empty = {name for classes in listing.images.values() for name in classes} - set(listing.classes)
    odd = sorted(empty | set(odd_names(listing.classes)))
    if not odd:
        return []
    message = f"{named([f'{name}/' for name in odd])} {'look' if len(odd) > 1 else 'looks'} like no class"
    if {name.casefold() for name in odd} >= {"jpegimages", "annotations"}:
        message += ": these are the folders of a set of boxes (Pascal VOC)"
    elif empty:
        message += f"; without images: {named(sorted(empty))}"
    refused = why_no_classes(listing)
    remedy = refused[1] if refused else MAKE_CLASSES
    files = [
        (folder / name).relative_to(listing.root).as_posix()
        for split, folders in listing.folders.items()
        for folder in folders
        for name in odd
        if name in listing.images[split] and (folder / name).is_dir()
    ]
    return [Finding("no-class-folder", "fatal" if empty or refused else "warning", message, remedy, files)]


def _too_few_classes(listing: FolderListing) -> list[Finding]:
    if len(listing.classes) > 1 or set(listing.classes) == set(odd_names(listing.classes)):
        return []
    (name,) = listing.classes
    message = f"there is one class folder, {name}/: a classifier needs at least two"
    has_folders = not listing.has_split_folders and any((listing.root / name).glob("*/"))
    remedy = f"give {listing.root / name} if its folders are the classes" if has_folders else "add another class folder"
    return [Finding("too-few-classes", "fatal", message, remedy, [name])]


def class_set_findings(
    sets: Mapping[str, ImageSet], held_out: Collection[str], folders: Mapping[str, str]
) -> list[Finding]:
    """Compares the classes of the other splits with those of train.

    ``held_out`` names the splits that are held out of train, where a class may only be too small; ``folders`` has the
    name of the folder of each split, empty for the root.
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
        if split in held_out and missing:
            message = f"too few images to set one aside for {split}: {named(missing)}"
            files = [f"{folders['train']}/{name}".removeprefix("/") for name in missing]
            findings.append(Finding("class-sets", "warning", message, "add images to these classes", files))
        elif {name.casefold() for name in missing} & {name.casefold() for name in extra}:  # written differently
            findings.append(_class_set_finding(folders["train"], folders[split], missing, extra))
        else:
            parts = [(names, others) for names, others in ((missing, []), ([], extra)) if names or others]
            findings += [_class_set_finding(folders["train"], folders[split], *part) for part in parts]
    return findings


def _class_set_finding(train: str, other: str, missing: list[str], extra: list[str]) -> Finding:
    differences = []
    if missing:
        differences.append(f"{other}/ lacks {named(missing)}")
    if extra:
        differences.append(f"{other}/ has {named(extra)}, which {train}/ has not")
    remedy = "give both splits the same class folders, each with images"
    if {name.casefold() for name in missing} & {name.casefold() for name in extra}:
        remedy = "write a class in the same way in both"
    message = f"the classes differ between the splits: {'; '.join(differences)}"
    files = [f"{other}/{name}" for name in (*missing, *extra)]
    severity: Severity = "fatal" if extra else "warning"  # as a training has it: errors are of the classes there are
    return Finding("class-sets", severity, message, remedy, files, {"missing": missing, "extra": extra})


def imbalance_findings(images: ImageSet | None) -> list[Finding]:
    """Reports when the largest class of a training split has several times as many images as the smallest.

    The weight of each class, n / (k x its images), makes all classes count alike.
    """
    if images is None:
        return []
    counts = {name: count for name, count in zip(images.classes, count_per_class(images), strict=True) if count}
    if len(counts) < 2 or max(counts.values()) < WORTH_A_NOTE * min(counts.values()):
        return []
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    ratio = counts[largest] / counts[smallest]
    weights = {name: round(len(images) / (len(counts) * count), 4) for name, count in counts.items()}
    return [
        Finding(
            "imbalance",
            "warning" if ratio >= WORTH_A_WARNING else "note",
            f"{largest} has {counts[largest]:,} training images and {smallest} {counts[smallest]:,}: "
            f"{ratio:.1f} times as many",
            "train with --set balance=loss (weights in the loss) or --set balance=sampling",
            details={"ratio": round(ratio, 3), "class_counts": counts, "class_weights": weights},
        )
    ]


def file_findings(facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Reports what is odd about single files, by path."""
    findings = []
    damaged = {name: fact.damage for name, fact in facts.items() if fact.damage and not fact.too_large}
    if damaged:
        message = f"{counted(len(damaged), 'file')} cannot be decoded; the first: {next(iter(damaged.values()))}"
        remedy = "mend or remove them, or train with --damaged skip"
        findings.append(Finding("damaged", "fatal", message, remedy, list(damaged), {"reasons": damaged}))
    refused = [name for name, fact in facts.items() if fact.too_large]
    message = f"with more than the {most_pixels():,} pixels that are decoded"
    findings += _files_finding(refused, "huge", "fatal", message, "shrink them, or give --max-pixels")
    corrupt = {name: fact.corruption for name, fact in facts.items() if fact.corruption}
    if corrupt:
        message = (
            f"{counted(len(corrupt), 'JPEG file')} that libjpeg calls corrupt: read as far as they go, the rest is "
            f"grey or smeared; the first: {next(iter(corrupt.values()))}"
        )
        remedy = "look at them, and save them anew from their source"
        findings.append(Finding("corrupt", "warning", message, remedy, list(corrupt), {"reasons": corrupt}))
    sound = {name: fact for name, fact in facts.items() if not fact.damage}
    for kind, severity, applies, message, remedy in _file_rules([fact for fact in sound.values() if fact.width]):
        files = [name for name, fact in sound.items() if applies(fact)]
        findings += _files_finding(files, kind, severity, message, remedy)
    return findings


def _file_rules(sound: Sequence[FileFacts]) -> list[FileRule]:
    """Makes the rules for files that can be decoded; what is usual among them is their median."""
    side = median([fact.shorter_side for fact in sound]) if sound else 0
    pixels = median([fact.num_pixels for fact in sound]) if sound else 0

    def is_tiny(fact: FileFacts) -> bool:
        below_a_crop = fact.shorter_side < SMALLEST_CROP and fact.shorter_side <= side / 2
        return below_a_crop or fact.shorter_side < side / _TINY_SHARE

    def is_huge(fact: FileFacts) -> bool:
        beside_the_others = fact.num_pixels >= _HUGE_PIXELS and fact.num_pixels >= _HUGE_SHARE * pixels
        return beside_the_others or fact.num_pixels >= _ALWAYS_HUGE_PIXELS

    return [
        (
            "strip",
            "fatal",
            lambda fact: max(fact.width, fact.height) > LONGEST * fact.shorter_side,
            f"with one side more than {LONGEST} times as long as the other: too long to rescale",
            "crop or remove them, or train with --damaged skip",
        ),
        (
            "tiny",
            "warning",
            is_tiny,
            f"far smaller than the others ({side:g} pixels at the shorter side as a rule)",
            "remove them, or find them in a larger size: they are blown up to the training scale",
        ),
        (
            "huge",
            "note",
            is_huge,
            f"far larger than the others ({format_number(pixels / 1e6)} megapixels as a rule): slow to "
            "decode in each epoch",
            "shrink them once",
        ),
        (
            "cmyk",
            "warning",
            lambda fact: fact.mode == "CMYK",
            "in the colours of print (CMYK), turned to RGB without their colour profile",
            "convert them to RGB with a program that knows the profile",
        ),
        (
            "16-bit",
            "warning",
            lambda fact: fact.sixteen_bits,
            f"with 16 bits a channel, {MANY_BITS.partition(':')[0]}: with fewer bits in use they come out dark",
            "convert them to 8 bits with the range you mean",
        ),
        (
            "grey",
            "note",
            lambda fact: fact.mode in ("1", "L", "LA", "La") and not fact.sixteen_bits,
            "stored in grey, read as RGB with three equal channels",
            "nothing, unless one class has more of them than the others",
        ),
        (
            "exif-rotated",
            "note",
            lambda fact: fact.orientation != 1,
            "to be turned or mirrored as EXIF says; read upright here, other programs may not",
            "nothing, or turn their pixels once",
        ),
    ]
