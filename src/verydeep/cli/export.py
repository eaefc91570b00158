"""``export``: a net for another runtime, with what goes before and after it, checked against the net."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from verydeep.cli.options import Json, prepare_process
from verydeep.cli.output import fetch_models, percent, print_json, reporting
from verydeep.cli.plain import print
from verydeep.export.options import ExportOptions
from verydeep.files import format_bytes

if TYPE_CHECKING:
    from verydeep.export.check import Agreement
    from verydeep.export.export import Exported


def export(
    model: Annotated[
        str, Parameter(name="MODEL", help="A model file, a run folder, a published name or a folder of transfer.")
    ],
    /,
    *,
    to: Annotated[str, Parameter(help="onnx or openvino.")],
    out: Annotated[Path, Parameter(help="The file to write: .onnx or .xml.")],
    options: Annotated[ExportOptions, Parameter(name="*")] = ExportOptions(),
    json: Json = False,
) -> None:
    """Write a net for another runtime, and compare the file with the net on photographs.

    It takes RGB images of any size as uint8; the mean is subtracted inside, and so are the dense score map, its mean
    and the soft-max. A file that gives other answers is kept aside, and the exit status is 1.

    Example: verydeep export verydeep-cifar10 --to onnx --out cifar10.onnx
    """
    prepare_process()
    fetch_models(model)

    from verydeep.export.export import export_model

    with reporting() as reporter:
        exported = export_model(model, to, out, options, note=reporter.note, progress=reporter.progress)
    if json:
        print_json(exported.as_record())
    else:
        _print(exported)


def _print(exported: "Exported") -> None:
    beside = ", ".join(str(file) for file in exported.files if file != exported.file)
    print(
        f"{exported.file} is written: {exported.about['target']}, {exported.precision}, "
        f"{format_bytes(exported.num_bytes)}{f' with {beside}' if beside else ''}"
    )
    print(exported.about["input"])
    if exported.about["rescaling"]:
        print(f"rescaled inside by {exported.about['rescaling']}")
    for name, meaning in exported.about["outputs"].items():
        print(f"{name}: {meaning}")
    print(f"checked with {exported.runs_by} on {exported.agreement.num_images} images: {_agrees(exported.agreement)}")
    if exported.rescaling is not None:
        print(f"with its rescaling in the place of ours: {_agrees(exported.rescaling)}")
    if (measured := exported.measured) is not None:
        print(
            f"top-1 error on {measured.num_images:,} {measured.split} images: {percent(measured.top1_error)}, the net "
            f"{percent(measured.net_top1_error)}; the same first class on {percent(measured.top1_agreement)}"
        )


def _agrees(agreement: "Agreement") -> str:
    if agreement.max_posterior_difference is None or agreement.top1_agreement is None:
        return f"largest difference {agreement.max_map_difference:.1e} of the largest number of a map"
    return (
        f"largest posterior difference {agreement.max_posterior_difference:.1e}, the same first class on "
        f"{percent(agreement.top1_agreement)}"
    )
