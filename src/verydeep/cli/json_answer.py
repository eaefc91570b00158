"""The answer of a verb as one JSON object on standard output; light, so that ``--help`` stays fast."""

import json
from typing import Annotated, Any

import typer

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")
]


def print_json(record: dict[str, Any]) -> None:
    """Prints a record; NaN and infinity, which JSON has not, are an error."""
    print(json.dumps(record, indent=2, allow_nan=False))
