"""``features``: descriptors of images by a trained net, to a file."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from verydeep.cli.options import (
    Damaged,
    Device,
    Json,
    Precision,
    Ray,
    RayWorkers,
    models_then_data,
    prepare_process,
    read_scales,
    split_arguments,
)
from verydeep.cli.output import fetch_models, is_first_process, print_json, reporting
from verydeep.cli.plain import print
from verydeep.cli.ray import chunks_on_ray
from verydeep.errors import UsageError

if TYPE_CHECKING:
    from verydeep.transfer.features import FeaturesResult


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FeaturesOptions:
    out: Path | None = None
    "Write the descriptors to this file: .safetensors, .npz or .parquet."
    layer: str | None = None
    """Any named layer, such as relu5_3; relu7 is fc7 after its ReLU. [relu7 where the net has one, else pool5, averaged
    over its positions]"""
    test_scales: str | None = None
    "Test scales Q,Q,Q: shorter sides of the images, pixels. [the net's own; at most 160 for convolutions]"
    combine: Literal["stack", "average"] = "stack"
    "stack or average: what becomes of several scales."
    pool: Literal["mean", "max"] = "mean"
    "mean or max: what becomes of the positions of a map."
    mirror: Literal["auto", "on", "off"] = "auto"
    "auto, on or off: average with the mirror image, in twice the time; auto where net and data allow it."
    normalise: Literal["l2", "none"] = "l2"
    "l2, at each scale and at the end, or none."
    split: str = "all"
    "train, val, test or all; the split of each image is written too."
    resume: bool = False
    "Go on with a job that was killed, to the same file."
    damaged: Damaged = "fail"
    ray: Ray = None
    ray_workers: RayWorkers = None
    device: Device = None
    precision: Precision = "fp32"


def features(
    *arguments: Annotated[
        str,
        models_then_data(
            " or published names, several of which are stacked", "A folder of images without classes will do too."
        ),
    ],
    options: FeaturesOptions = FeaturesOptions(),
    json: Json = False,
) -> None:
    """Describe images by a trained net, each by one row of numbers, and write these to a file.

    Example: verydeep features vgg16-features photos/ --out photos.safetensors
    """
    models, data = split_arguments(arguments, "verydeep-cifar10 photos/")
    if options.out is None:
        raise UsageError("--out is missing: give a file, such as --out photos.safetensors")
    if options.ray is None and options.ray_workers is not None:
        raise UsageError("--ray-workers is of a Ray cluster: give --ray with its address")
    scales = None if options.test_scales is None else read_scales(options.test_scales, "--test-scales")
    prepare_process()

    from verydeep.data.image_set import describe_skipped
    from verydeep.device import find_device
    from verydeep.distributed import process_group
    from verydeep.testing.descriptors import DescriptorOptions
    from verydeep.transfer.features import extract_features

    fetch_models(*models)
    with reporting() as reporter, process_group(options.device or find_device()):
        result = extract_features(
            models,
            data,
            options.out,
            DescriptorOptions(
                layer=options.layer,
                test_scales=scales,
                combine=options.combine,
                pool=options.pool,
                mirror={"auto": None, "on": True, "off": False}[options.mirror],
                normalise=options.normalise == "l2",
            ),
            split=options.split,
            resume=options.resume,
            skip_damaged=options.damaged == "skip",
            device=options.device,
            precision=options.precision,
            progress=reporter.progress,
            note=reporter.note,
            compute_chunks=chunks_on_ray(options.ray, options.ray_workers),
        )
        if result.skipped:
            reporter.note(describe_skipped(result.skipped))
    if not is_first_process():
        return
    if json:
        print_json(result.as_record())
    else:
        _print(result)


def _print(result: "FeaturesResult") -> None:
    job = result.job
    nets = " + ".join(
        f"{layer} of {model['name']} at Q = {','.join(map(str, scales))}"
        for model, layer, scales in zip(job["models"], job["layers"], job["test_scales"], strict=True)
    )
    print(f"{result.file}: {result.num_images:,} descriptors of {job['dimensions']:,} numbers, {nets}")
    if result.computed:
        speed = f"{result.computed / result.seconds:,.1f} images/s"
        print(f"{result.computed:,} images in {result.seconds:.1f} s, {speed}", file=sys.stderr)
