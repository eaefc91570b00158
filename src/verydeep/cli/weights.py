"""``weights``: list, fetch, import and export weights of other programs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.table import Table

from verydeep.cli.options import Json, Model
from verydeep.cli.output import fetch_models, fetch_published, percent, print_json, print_table, reporting
from verydeep.cli.plain import print
from verydeep.errors import UsageError
from verydeep.files import format_bytes
from verydeep.weights.options import ImportOptions

if TYPE_CHECKING:
    from PIL import Image

    from verydeep.weights.convert import Exported, Imported
    from verydeep.weights.published import PublishedWeights

_MOST_PHOTOGRAPHS = 16

weights = App(
    name="weights",
    help="List, fetch, import and export weights of other programs.",
    usage="Usage: verydeep weights VERB [OPTIONS] [ARGUMENTS]",
    help_flags="--help",
    version_flags=(),
)


def _verb(name: str, arguments: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return weights.command(name=name, usage=f"Usage: verydeep weights {name} [OPTIONS] {arguments}".rstrip())


@_verb("list", "")
def list_(*, json: Json = False) -> None:
    """List the weights that can be had by name: source, licence, published errors, size and hash.

    Example: verydeep weights list
    """
    from verydeep.weights.published import PUBLISHED, weights_folder
    from verydeep.weights.shipped import SHIPPED, SHIPPED_FOLDER

    files = {name: SHIPPED_FOLDER / f"{name}.safetensors" for name in SHIPPED}
    if json:
        shipped = [{"name": name, "file": str(file), "here": file.is_file()} for name, file in files.items()]
        rows = [row.as_record() for row in PUBLISHED.values()]
        print_json({"folder": str(weights_folder()), "weights": rows, "shipped": shipped})
        return
    _print_published(list(PUBLISHED.values()))
    print(
        "Errors are on the validation images of ILSVRC-2012, as published. A name stands where a MODEL does, and is "
        f"fetched on first use into {weights_folder()} (VERYDEEP_CACHE sets another cache, VERYDEEP_OFFLINE=1 forbids "
        "it)."
    )
    for name, file in files.items():
        missing = "" if file.is_file() else ", though not with this copy of it"
        print(f"{name} comes with the package{missing}: {SHIPPED[name]}.")


def _print_published(rows: Sequence["PublishedWeights"]) -> None:
    table = Table("name", "net", "top-1", "top-5 error", "file", "hash", "here")
    notes: dict[str, list[str]] = {}
    for row in rows:
        measured = f"; errors: {row.errors.measured}" if row.errors else ""
        note = f"{row.publisher}. Hash: {row.digest_source}{measured}. Licence: {row.licence}."
        if note not in notes:
            table.add_section()
        notes.setdefault(note, []).append(row.name)
        table.add_row(
            row.name,
            row.architecture
            + (" with batch norm" if row.batch_norm else "")
            + (", convolutions only" if row.features_only else ""),
            percent(row.errors.top1_error if row.errors else None),
            percent(row.errors.top5_error if row.errors else None),
            format_bytes(row.size),
            f"{row.digest.algorithm} {row.digest.digits[:8]}" if row.digest else "none",
            "yes" if row.is_here else "",
        )
    print_table(table)
    for note, names in notes.items():
        print(f"{names[0]}{' ... ' + names[-1] if len(names) > 1 else ''}: {note}")


@_verb("fetch", "NAME...")
def fetch_(
    *names: Annotated[str, Parameter(name="NAME", required=True, help="Published names (see verydeep weights list).")],
    accept_hash: Annotated[
        str | None, Parameter(help="The sha256 of the publisher's file, for weights that nobody publishes a hash of.")
    ] = None,
    json: Json = False,
) -> None:
    """Fetch published weights, check them and make model files of them, before they are needed.

    Example: verydeep weights fetch imagenet-D
    """
    from verydeep.weights.published import known_weights

    rows = [known_weights(name) for name in names]
    if accept_hash is not None and len(rows) != 1:
        raise UsageError("--accept-hash is of one file: give one name")
    for row in rows:
        fetch_published(row.name, accept_hash)
    if json:
        print_json({"weights": [row.as_record() for row in rows]})


@_verb("import", "FILE --out OUT")
def import_(
    file: Annotated[
        Path, Parameter(name="FILE", help="A file of torchvision, timm, Keras and others, known by its content.")
    ],
    /,
    *,
    options: Annotated[ImportOptions, Parameter(name="*")],
    json: Json = False,
) -> None:
    """Make a model file of weights of another program; nothing in the file is run.

    Example: verydeep weights import vgg16.pth --out vgg16.safetensors --verify
    """
    options.check()

    from verydeep.weights.convert import import_weights

    pictures = [] if options.images is None else photographs(options.images)
    with reporting() as reporter:
        imported = import_weights(file, options, pictures=pictures, progress=reporter.progress)
    if json:
        print_json(imported.as_record())
    else:
        _print_imported(imported)


def photographs(folder: Path) -> list["Image.Image"]:
    from verydeep.data.folder import find_images
    from verydeep.images.decode import read_image

    return [read_image(file) for file in find_images([str(folder)])[:_MOST_PHOTOGRAPHS]]


def _print_imported(imported: "Imported") -> None:
    net, geometry = imported.net, imported.net.geometry
    scores = "convolutions only" if net.features_only else f"{geometry.num_classes:,} classes"
    print(
        f"{imported.file}: {imported.weights.kind}, {geometry.title}, {scores}, {imported.num_parameters:,} parameters"
    )
    mean, divisor = (", ".join(f"{number:.6g}" for number in part.tolist()) for part in (net.mean, net.divisor))
    print(f"input: {imported.weights.convention}; here RGB in 0..255, less ({mean}), divided by ({divisor})")
    for note in imported.notes:
        print(f"note: {note}")
    if agreement := imported.agreement:
        print(
            f"verified: {agreement.package} with {agreement.preprocessing} gives the same {agreement.compared} on "
            f"{agreement.num_images} images, largest relative difference {agreement.largest_difference:.1e}"
        )
    print(f"{imported.out} is written. Next:")
    print(f"  verydeep inspect {imported.out}" if net.features_only else f"  verydeep predict {imported.out} IMAGE...")


@_verb("export", "MODEL --to TO --out OUT")
def export_(
    model: Model,
    /,
    *,
    to: Annotated[str, Parameter(help="torchvision, timm or keras; or hub: a folder for the Hugging Face hub.")],
    out: Annotated[
        Path,
        Parameter(
            help="The file to write: .pth, .safetensors, or .weights.h5 (.h5 for old Keras); for hub a new folder."
        ),
    ],
    json: Json = False,
) -> None:
    """Write weights for another program, and say what it has to do to an image before them.

    With --to hub a folder with README.md, config.json and the weights, which huggingface_hub uploads as it is.

    Example: verydeep weights export imagenet-D --to torchvision --out vgg16.pth
    """
    fetch_models(model)
    if to == "hub":
        _export_to_hub(model, out, json)
        return
    from verydeep.weights.convert import export_weights

    exported = export_weights(model, to, out)
    if json:
        print_json(exported.as_record())
    else:
        _print_exported(exported)


def _print_exported(exported: "Exported") -> None:
    print(f"{exported.file} is written for {exported.target}. Load it there with:")
    for call in exported.calls:
        print(f"  {call}")
    print(f"input there: {exported.preprocessing}")


def _export_to_hub(model: str, out: Path, json: bool) -> None:
    from verydeep.weights.writers.hub import write_hub_folder

    folder = write_hub_folder(model, out)
    files = [str(file) for file in sorted(folder.iterdir())]
    if json:
        print_json({"model": model, "to": "hub", "folder": str(folder), "files": files})
        return
    print(f"{', '.join(files)} are written. Next:")
    upload = f"upload_folder(repo_id='OWNER/NAME', folder_path='{folder}')"
    print(f'  python -c "import huggingface_hub as hub; hub.{upload}"')
