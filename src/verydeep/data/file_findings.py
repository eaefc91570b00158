"""What is odd about single files: damage, rotation, colours, sizes."""

from collections.abc import Callable, Mapping
from statistics import median

from verydeep.data.file_facts import FileFacts
from verydeep.data.findings import Finding, Severity, counted

SMALLEST_CROP = 32
"""Side of the smallest crop of a net, pixels."""

_TINY_SHARE = 8  # a side this many times shorter than the usual one is odd in a set of larger pictures
_HUGE_SHARE, _HUGE_PIXELS = 32, 1_000_000  # as many times the usual pixels, and slow to decode
_ALWAYS_HUGE_PIXELS = 50_000_000


def file_findings(facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Says what is odd about single files, by path."""
    whole = [fact for fact in facts.values() if fact.width and not fact.damage]
    side = median([fact.shorter_side for fact in whole]) if whole else 0
    pixels = median([fact.width * fact.height for fact in whole]) if whole else 0
    damaged = {name: fact.damage for name, fact in facts.items() if fact.damage and not fact.too_large}
    findings = []
    if damaged:
        findings.append(
            Finding(
                kind="damaged",
                severity="fatal",
                message=f"{counted(len(damaged), 'file')} cannot be decoded; the first: {next(iter(damaged.values()))}",
                remedy="mend or remove them, or train with --damaged skip",
                files=list(damaged),
                details={"reasons": damaged},
            )
        )
    refused = [name for name, fact in facts.items() if fact.too_large]
    if refused:
        findings.append(
            Finding(
                kind="huge",
                severity="fatal",
                message=f"{counted(len(refused), 'file')} with more pixels than are decoded for safety",
                remedy="shrink them",
                files=refused,
            )
        )
    sound = {name: fact for name, fact in facts.items() if not fact.damage}
    for kind, severity, applies, message, remedy in _rules(side, pixels):
        files = [name for name, fact in sound.items() if applies(fact)]
        if files:
            findings.append(
                Finding(
                    kind=kind,
                    severity=severity,
                    message=f"{counted(len(files), 'file')} {message}",
                    remedy=remedy,
                    files=files,
                )
            )
    return findings


Rule = tuple[str, Severity, Callable[[FileFacts], bool], str, str]
"""Kind, severity, to which files it applies, what is said of them, remedy."""


def _rules(side: float, pixels: float) -> list[Rule]:
    """Makes the rules for files that can be decoded, in a set with a usual shorter side and number of pixels."""
    return [
        (
            "tiny",
            "warning",
            lambda fact: is_tiny(fact.shorter_side, side),
            f"far smaller than the others ({side:g} pixels at the shorter side as a rule)",
            "remove them, or find them in a larger size: they are blown up to the training scale",
        ),
        (
            "huge",
            "note",
            lambda fact: is_huge(fact.width * fact.height, pixels),
            f"far larger than the others ({pixels / 1e6:.2g} megapixels as a rule): slow to decode in each epoch",
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
            "with 16 bits a channel, scaled down by 257: with fewer bits in use they come out dark",
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


def is_tiny(shorter_side: int, usual: float) -> bool:
    """Whether a picture is far smaller than the others: below a crop and half of the usual side, or an eighth of it."""
    return (shorter_side < SMALLEST_CROP and shorter_side <= usual / 2) or shorter_side < usual / _TINY_SHARE


def is_huge(pixels: int, usual: float) -> bool:
    """Whether a picture is far larger than the others, or 50 megapixels."""
    return pixels >= _ALWAYS_HUGE_PIXELS or (pixels >= _HUGE_PIXELS and pixels >= _HUGE_SHARE * usual)
