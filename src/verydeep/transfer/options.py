"""The options of a transfer, declared once; importing this needs no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from verydeep.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """Options of a transfer: filled by the command line or from Python. The text under a field is its help."""

    metric: Literal["recall", "map", "accuracy"] | None = None
    "recall (mean over the classes), map (mean average precision) or accuracy. [by the data and the splits]"
    classifier: Literal["svm", "logistic"] = "svm"
    "svm (linear) or logistic (regression); one class against the rest."
    split: Literal["val", "test"] | None = None
    "val or test: what to measure on, with the data's own splits. [test where there is one, else val]"
    per_class: int | None = None
    "Draw splits anew, as the paper does: images a class to fit on."
    test_per_class: int | None = None
    "Images a class to measure on at most, with --per-class. [all the others]"
    splits: int = 3
    "Number of splits that --per-class draws."
    test_scales: tuple[int, ...] | None = None
    "Test scales Q, pixels. [the net's own; at most 160 for convolutions]"
    combine: Literal["stack", "average"] = "stack"
    "stack or average: what becomes of the descriptors at several scales."
    pool: Literal["mean", "max"] = "mean"
    "mean or max: what becomes of the positions of a map."
    root: bool = False
    "Take the square root of descriptors first: often more accurate; the model is then a folder."
    layer: str | None = None
    "Any named layer. [relu7 where the net has one, else pool5]"
    mirror: Literal["auto", "on", "off"] = "auto"
    "auto, on or off: average with the mirror image, in twice the time; auto where net and data allow it."
    out: Path | None = None
    "Write the model, its results and report.html to this folder."
    seed: int = 0
    "Of the splits and of the cross-validation."
    damaged: Literal["fail", "skip"] = "fail"
    "What to do with damaged images: fail, or skip and count them."
    no_pictures: bool = False
    "Put no picture into report.html: for private photographs; names of files stay."
    device: str | None = None
    "cpu, cuda or mps; by default the fastest there is."

    def check(self) -> None:
        """Raises UsageError where options contradict each other; before anything is read."""
        if self.per_class is None and self.test_per_class is not None:
            raise UsageError("--test-per-class is of splits drawn anew: give --per-class with it")
        if self.per_class is not None and self.split is not None:
            raise UsageError(f"--split {self.split} is of the data's own splits: leave it out, or --per-class")
        for name, value in (
            ("--per-class", self.per_class),
            ("--test-per-class", self.test_per_class),
            ("--splits", self.splits),
        ):
            if value is not None and value < 1:
                raise UsageError(f"{name} {value}: give 1 or more")
        if self.out is not None and self.out.is_file():
            raise UsageError(f"--out {self.out} is a file: give a folder")
