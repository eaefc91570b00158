"""What an export is asked for."""

from dataclasses import dataclass
from typing import Literal

Layout = Literal["nhwc", "nchw"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a net is exported, and on which photographs the file is checked."""

    precision: str = "fp32"
    "fp32, fp16, or int8, which needs --data."
    layout: Layout = "nhwc"
    "Axes of the images that the file takes, RGB uint8: nhwc or nchw."
    rescale: bool = False
    "Rescale images inside the file: the shorter side to the test scale, both sides trimmed to multiples of 32."
    test_scale: int | None = None
    "Test scale Q, pixels: of --rescale, and of the photographs that the file is checked on. [the net's own]"
    score_map: bool = False
    "Give the class score map too, before the soft-max."
    data: str | None = None
    "Labelled images: int8 finds its scales on train; the error rates of net and file are measured on test or val."
    check: str | None = None
    "Photographs to check the file on: a folder of images, or DATA. [some that come with verydeep]"
