"""The command line of looking into a net or a model file.

torch is imported inside the verb where it needs it, as in the command line itself.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from verydeep.cli.json_answer import JsonOption, print_json
from verydeep.cli.options import fetch_weights, prepare_process
from verydeep.errors import UsageError

if TYPE_CHECKING:
    from verydeep.nets.architecture import Geometry
    from verydeep.nets.model_card import ModelCard


def inspect(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ARCHITECTURE|MODEL", help="A column of Table 1, a model file, a run folder or a name of weights."
        ),
    ],
    crop: Annotated[int | None, typer.Option(help="Side of the crop, a multiple of 32. [224]")] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes. [1000]")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read the model file through: its hash, and whether each number is finite.")
    ] = False,
    speed: Annotated[
        bool, typer.Option("--speed", help="Measure what this machine's backends do with the net; takes some seconds.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print layers, shapes, parameters, work, receptive field and memory of a net, and a model file's card.

    Example: verydeep inspect D
    """
    if speed:
        prepare_process()

    from verydeep.cli.inspection import find_geometry, inspection, is_model

    if check and not is_model(name):
        raise UsageError(f"--check reads a model file, and {name} is no file, run folder or name of weights")
    fetch_weights(name)
    geometry, card = find_geometry(name, crop=crop, classes=classes)
    record = inspection(geometry, card)
    checked = None
    if check:
        from verydeep.cli.terminal import reporting
        from verydeep.nets.model_file import check_model
        from verydeep.weights.resolve import find_model_file

        with reporting() as reporter:
            checked = check_model(find_model_file(name), reporter.progress)
        record["check"] = checked.as_record()
    if speed:
        record["speed"] = _measure_speed(name, geometry, card)
    if as_json:
        print_json(record)
    else:
        from verydeep.cli.printed import print_inspection

        print_inspection(record, geometry.title, card)
    if checked is not None:
        checked.refuse_not_finite()


def _measure_speed(name: str, geometry: "Geometry", card: "ModelCard | None") -> list[dict[str, Any]]:
    from verydeep.cli.inspection import make_net
    from verydeep.cli.terminal import reporting
    from verydeep.speed.measuring import measure_backends

    with reporting() as reporter:
        return [asdict(row) for row in measure_backends(make_net(name, geometry, card), reporter.progress)]
