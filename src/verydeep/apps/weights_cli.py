"""The command line of weights from elsewhere: listed and fetched.

torch is imported inside the verbs that need it, as in the command line itself.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

weights_app = typer.Typer(no_args_is_help=True, help="Weights from elsewhere: list and fetch them.")

_JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")
]


@weights_app.command("list")
def list_(as_json: _JsonOption = False) -> None:
    """List the weights that can be had by name: source, licence, published errors, size and hash.

    Example: verydeep weights list
    """
    from verydeep.apps.weights_list import print_weights, weights_record
    from verydeep.convnets.weights import PUBLISHED, weights_folder

    if as_json:
        print(json.dumps(weights_record(), indent=2))
    else:
        print_weights(list(PUBLISHED.values()), weights_folder())


@weights_app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Published names (see verydeep weights list).")],
    accept_hash: Annotated[
        str | None,
        typer.Option(help="The sha256 of the publisher's file, for weights that nobody publishes a hash of."),
    ] = None,
    as_json: _JsonOption = False,
) -> None:
    """Fetch published weights, check them and make model files of them, before they are needed.

    Example: verydeep weights fetch imagenet-D
    """
    from verydeep.apps.weights_list import fetch_shown
    from verydeep.convnets.weights import known_weights
    from verydeep.mistakes import WrongUseError

    rows = [known_weights(name) for name in names]
    if accept_hash is not None and len(rows) != 1:
        raise WrongUseError("--accept-hash is of one file: give one name")
    for row in rows:
        fetch_shown(row.name, accept_hash)
    if as_json:
        print(json.dumps({"weights": [row.as_record() for row in rows]}, indent=2))


@weights_app.command()
def card(
    model: Annotated[str, typer.Argument(help="A model file, a run folder or a published name.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    as_json: _JsonOption = False,
) -> None:
    """Write a folder that the Hugging Face hub takes as it is: README.md, config.json and the weights.

    Example: verydeep weights card runs/digits --out digits-net
    """
    from verydeep.apps.model_folder import write_model_folder
    from verydeep.apps.weights_list import fetch_shown, is_to_fetch

    if is_to_fetch(model):
        fetch_shown(model)
    folder = write_model_folder(model, out)
    files = [str(file) for file in sorted(folder.iterdir())]
    if as_json:
        print(json.dumps({"folder": str(folder), "files": files}, indent=2))
    else:
        print(f"{', '.join(files)} are written. Next:")
        upload = f"upload_folder(repo_id='OWNER/NAME', folder_path='{folder}')"
        print(f'  python -c "import huggingface_hub as hub; hub.{upload}"')
