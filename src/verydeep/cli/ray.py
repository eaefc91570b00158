"""``--ray`` of ``features`` and of ``predict``: the same work on a Ray cluster."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verydeep.cli.output import print_json, reporting
from verydeep.cli.plain import print

if TYPE_CHECKING:
    from verydeep.transfer.features import ComputeChunks


def chunks_on_ray(address: str | None, workers: int | None) -> "ComputeChunks | None":
    """What describes images on the cluster of an address; None without one."""
    if address is None:
        return None
    from verydeep.transfer.ray import RayOptions, compute_on_ray

    return partial(compute_on_ray, RayOptions(address=address, workers=workers))


def write_predictions(
    address: str,
    workers: int | None,
    model: str,
    files: Sequence[Path],
    out: Path,
    *,
    json: bool,
    **options: Any,  # noqa: ANN401 - of Classifier
) -> int:
    """Writes the classes of images to a parquet file, prints what came of it, and returns the exit status."""
    from verydeep.transfer.ray import RayOptions, predict_on_ray

    with reporting() as reporter:
        cluster = RayOptions(address=address, workers=workers)
        failed = predict_on_ray(cluster, model, files, out, progress=reporter.progress, **options)
    if json:
        print_json({"file": str(out), "num_images": len(files), "failed": failed})
    else:
        print(f"{out}: the classes of {len(files):,} images, {failed:,} of which could not be read")
    return 1 if failed else 0
