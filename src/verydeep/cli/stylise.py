"""``stylise``: a picture in the style of another."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from verydeep.cli.options import Json, prepare_process
from verydeep.cli.output import fetch_models, print_json, reporting
from verydeep.cli.plain import print
from verydeep.errors import UsageError
from verydeep.files import atomic_write, check_output_file, format_number
from verydeep.losses.options import StyliseOptions

_ENDINGS = (".jpg", ".jpeg", ".png")


def stylise(
    content: Annotated[Path, Parameter(name="CONTENT", help="The picture to paint.")],
    style: Annotated[Path, Parameter(name="STYLE", help="The picture in whose style.")],
    /,
    *,
    options: Annotated[StyliseOptions, Parameter(name="*")] = StyliseOptions(),
    json: Json = False,
) -> int:
    """Paint a picture in the style of another, to demonstrate the perceptual losses.

    Example: verydeep stylise photo.jpg painting.jpg --out stylised.jpg
    """
    options.check()
    if options.out.suffix.lower() not in _ENDINGS:
        raise UsageError(f"--out {options.out}: give a name that ends in .jpg or .png")
    check_output_file(options.out, "--out", "stylised.jpg", any_ending=True)

    import numpy as np
    from PIL import Image

    from verydeep.images.decode import read_image
    from verydeep.images.geometry import rescale
    from verydeep.losses.stylise import stylise as paint

    painted_one, style_one = (rescale(np.asarray(read_image(file)), options.scale) for file in (content, style))
    prepare_process()
    fetch_models(options.model)
    with reporting() as reporter:
        painted = paint(
            painted_one,
            style_one,
            options.model,
            steps=options.steps,
            style_weight=options.style_weight,
            progress=reporter.progress,
        )
    kind = "PNG" if options.out.suffix.lower() == ".png" else "JPEG"
    with atomic_write(options.out) as file:
        Image.fromarray(painted.pixels).save(file, kind, quality=95)
    height, width, _ = painted.pixels.shape
    record = {
        "out": str(options.out),
        "width": width,
        "height": height,
        "steps": options.steps,
        "first_loss": painted.first_loss,
        "last_loss": painted.last_loss,
        "seconds": painted.seconds,
        "loss": painted.description,
    }
    if json:
        print_json(record)
    else:
        print(
            f"{options.out}: {width}x{height}, loss {format_number(painted.first_loss)} -> "
            f"{format_number(painted.last_loss)} in {options.steps} steps, {painted.seconds:.0f} s\n"
            f"{painted.description}"
        )
    return 0
