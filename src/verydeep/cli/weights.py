"""The command line of weights from elsewhere and for elsewhere: listed, fetched, imported and exported.

torch is imported inside the verbs that need it, as in the command line itself.
"""

import math
from pathlib import Path
from typing import Annotated

import typer

from verydeep.cli.json_answer import JsonOption, print_json
from verydeep.errors import UsageError

weights_app = typer.Typer(
    no_args_is_help=True, help="Weights from elsewhere and for elsewhere: list, fetch, import, export."
)


@weights_app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the weights that can be had by name: source, licence, published errors, size and hash.

    Example: verydeep weights list
    """
    from verydeep.cli.weights_printed import print_weights, weights_record
    from verydeep.weights.published import PUBLISHED, weights_folder

    if as_json:
        print_json(weights_record())
    else:
        print_weights(list(PUBLISHED.values()), weights_folder())


@weights_app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Published names (see verydeep weights list).")],
    accept_hash: Annotated[
        str | None,
        typer.Option(help="The sha256 of the publisher's file, for weights that nobody publishes a hash of."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch published weights, check them and make model files of them, before they are needed.

    Example: verydeep weights fetch imagenet-D
    """
    from verydeep.cli.weights_printed import fetch_shown
    from verydeep.weights.published import known_weights

    rows = [known_weights(name) for name in names]
    if accept_hash is not None and len(rows) != 1:
        raise UsageError("--accept-hash is of one file: give one name")
    for row in rows:
        fetch_shown(row.name, accept_hash)
    if as_json:
        print_json({"weights": [row.as_record() for row in rows]})


@weights_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file of torchvision, timm, Keras and others, known by its content.")],
    out: Annotated[Path, typer.Option(help="The model file to write (.safetensors).")],
    classes: Annotated[
        str | None, typer.Option(help="A text file with the names of the classes, one a line; or imagenet.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights, for the model card.")] = None,
    source: Annotated[str | None, typer.Option(help="Where they come from, for the model card.")] = None,
    crop: Annotated[
        int | None, typer.Option(help="Side of the crop the net was trained on, such as 32. [what fc6 says]")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="R,G,B in 0..255 that was subtracted, where it is not its program's usual.")
    ] = None,
    divisor: Annotated[str | None, typer.Option(help="R,G,B that divided afterwards, likewise.")] = None,
    bgr: Annotated[
        bool, typer.Option("--bgr", help="The net was trained on blue, green, red where its program has RGB.")
    ] = False,
    precision: Annotated[str, typer.Option(help="In which weights are stored: fp32, bf16 or fp16.")] = "fp32",
    verify: Annotated[
        bool, typer.Option("--verify", help="Run the file in its own program too, and compare the scores.")
    ] = False,
    images: Annotated[Path | None, typer.Option(help="Photographs to compare on. [a few drawn pictures]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a model file of weights of another program; nothing in the file is run.

    Example: verydeep weights import vgg16.pth --out vgg16.safetensors --classes imagenet --verify
    """
    from verydeep.cli.terminal import reporting
    from verydeep.cli.weights_printed import print_imported
    from verydeep.cli.weights_verb import ImportOptions, import_weights

    options = ImportOptions(
        file=file,
        out=out,
        classes=classes,
        licence=licence,
        source=source,
        crop=crop,
        mean=_read_triple(mean, "--mean"),
        divisor=_read_triple(divisor, "--divisor"),
        bgr=bgr,
        precision=precision,
        verify=verify,
        images=images,
    )
    with reporting() as reporter:
        imported = import_weights(options, reporter.progress)
    if as_json:
        print_json(imported.as_record())
    else:
        print_imported(imported)


@weights_app.command()
def export(
    model: Annotated[str, typer.Argument(help="A model file, a run folder or a published name.")],
    to: Annotated[str, typer.Option(help="torchvision, timm or keras; or hub: a folder for the Hugging Face hub.")],
    out: Annotated[
        Path,
        typer.Option(
            help="The file to write: .pth, .safetensors, or .weights.h5 (.h5 for old Keras); for hub a new folder."
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Write weights for another program, and say what it has to do to an image before them.

    With --to hub a folder with README.md, config.json and the weights, which huggingface_hub uploads as it is.

    Example: verydeep weights export vgg16.safetensors --to torchvision --out vgg16.pth
    """
    from verydeep.cli.weights_printed import fetch_shown, is_to_fetch

    if is_to_fetch(model):
        fetch_shown(model)
    if to == "hub":
        _export_to_hub(model, out, as_json)
        return
    from verydeep.cli.weights_printed import print_exported
    from verydeep.cli.weights_verb import export_weights

    exported = export_weights(model, to, out)
    if as_json:
        print_json(exported.as_record())
    else:
        print_exported(exported)


def _export_to_hub(model: str, out: Path, as_json: bool) -> None:
    from verydeep.weights.writers.hub import write_hub_folder

    folder = write_hub_folder(model, out)
    files = [str(file) for file in sorted(folder.iterdir())]
    if as_json:
        print_json({"model": model, "to": "hub", "folder": str(folder), "files": files})
        return
    print(f"{', '.join(files)} are written. Next:")
    upload = f"upload_folder(repo_id='OWNER/NAME', folder_path='{folder}')"
    print(f'  python -c "import huggingface_hub as hub; hub.{upload}"')


def _read_triple(text: str | None, option: str) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} {text}: give three numbers, such as 123.68,116.779,103.939") from error
    if not all(math.isfinite(number) for number in (red, green, blue)):
        raise UsageError(f"{option} {text}: give three finite numbers")
    return red, green, blue
