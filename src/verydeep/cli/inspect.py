"""``inspect``: the layers of a net in figures, a model file's card, and what this machine's backends do with a net."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from verydeep.cli.options import Json, prepare_process
from verydeep.cli.output import fetch_models, print_json, print_table, reporting
from verydeep.cli.plain import print
from verydeep.errors import UsageError
from verydeep.files import format_number

if TYPE_CHECKING:
    from verydeep.nets.architecture import Geometry
    from verydeep.nets.model_card import ModelCard
    from verydeep.nets.net import VeryDeep

_BYTES = 4


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    crop: int | None = None
    "Side of the crop, a multiple of 32. [224]"
    classes: int | None = None
    "Number of classes. [1000]"
    check: bool = False
    "Read the model file through: its hash, and whether each number is finite."
    speed: bool = False
    "Measure what this machine's backends do with the net; takes some seconds."


def inspect(
    name: Annotated[
        str,
        Parameter(
            name="ARCHITECTURE|MODEL", help="A column of Table 1, a model file, a run folder or a name of weights."
        ),
    ],
    /,
    *,
    options: InspectOptions = InspectOptions(),
    json: Json = False,
) -> None:
    """Print layers, shapes, parameters, MACs, receptive field and memory of a net, and a model file's card.

    Example: verydeep inspect D
    """
    if options.speed:
        prepare_process()
    if options.check and not _is_model(name):
        raise UsageError(f"--check reads a model file, and {name} is not a file, run folder or name of weights")
    fetch_models(name)
    geometry, card = _find_geometry(name, options)
    record = inspection(geometry, card)
    checked = None
    if options.check:
        from verydeep.nets.stored_net import check_model
        from verydeep.weights.resolve import find_model_file

        with reporting() as reporter:
            checked = check_model(find_model_file(name), reporter.progress)
        record["check"] = checked.as_record()
    if options.speed:
        from verydeep.speed.timing import measure_backends

        with reporting() as reporter:
            backends = measure_backends(_make_net(name, geometry, card), reporter.progress)
        record["speed"] = [asdict(row) for row in backends]
    if json:
        print_json(record)
    else:
        _print(record, geometry.title, card)
    if checked is not None:
        checked.refuse_not_finite()


def _is_model(name: str) -> bool:
    from verydeep.weights.published import find_published
    from verydeep.weights.shipped import SHIPPED

    return Path(name).exists() or name in SHIPPED or find_published(name) is not None


def _find_geometry(name: str, options: InspectOptions) -> tuple["Geometry", "ModelCard | None"]:
    from verydeep.nets.architecture import Geometry, find_architecture
    from verydeep.paper.constants import CROP

    if _is_model(name):
        from verydeep.weights.resolve import read_card

        if options.crop or options.classes:
            raise UsageError(f"{name} has its own crop and classes: --crop and --classes are for architectures")
        card = read_card(name)
        return card.geometry, card
    try:
        row, batch_norm = find_architecture(name)
    except UsageError as error:
        raise UsageError(
            f"{error}; or give a model file, a run folder or a published name (verydeep weights list)"
        ) from error
    geometry = Geometry(
        architecture=row,
        batch_norm=batch_norm,
        num_classes=1000 if options.classes is None else options.classes,
        crop=CROP if options.crop is None else options.crop,
    )
    return geometry, None


def inspection(geometry: "Geometry", card: "ModelCard | None") -> dict[str, Any]:
    """Returns the figures of a net, for JSON: MACs and activations are of one crop, bytes of float32."""
    from verydeep.nets.architecture import layers

    rows = layers(geometry, features_only=card is not None and card.features_only)
    parameters = sum(row.parameters for row in rows)
    return {
        "architecture": geometry.architecture.name,
        "aliases": list(geometry.architecture.aliases),
        "batch_norm": geometry.batch_norm,
        "crop": geometry.crop,
        "classes": geometry.num_classes,
        "width": geometry.width,
        "head": geometry.head,
        "parameters": parameters,
        "weight_layers": sum(row.kind in ("convolution", "fully-connected") for row in rows),
        "macs": sum(row.macs for row in rows),
        "weight_bytes": _BYTES * parameters,
        "activation_bytes": _BYTES * sum(row.channels * row.side**2 for row in rows),
        "layers": [asdict(row) for row in rows],
        **({} if geometry.hidden is None else {"hidden": geometry.hidden}),
    } | ({"card": card.model_dump(mode="json")} if card else {})


def _make_net(name: str, geometry: "Geometry", card: "ModelCard | None") -> "VeryDeep":
    """Loads a model, or makes a net of an architecture with random weights of seed 0."""
    import torch

    from verydeep.nets.net import VeryDeep
    from verydeep.weights.resolve import load

    if card is not None:
        return load(name)
    return VeryDeep(
        geometry.architecture.name,
        batch_norm=geometry.batch_norm,
        num_classes=geometry.num_classes,
        crop=geometry.crop,
        generator=torch.Generator().manual_seed(0),
    ).eval()


def _print(record: dict[str, Any], title: str, card: "ModelCard | None") -> None:
    table = Table("layer", "kernel", "output", "parameters", "MACs", "receptive field", title=title)
    for row in record["layers"]:
        if row["kind"] not in ("relu", "dropout"):
            has_kernel = row["kind"] in ("convolution", "max-pool", "fully-connected")
            table.add_row(
                row["name"],
                f"{row['kernel']}x{row['kernel']}" if has_kernel else row["kind"],
                f"{row['channels']} x {row['side']} x {row['side']}",
                f"{row['parameters']:,}" if row["parameters"] else "",
                f"{row['macs']:,}" if row["macs"] else "",
                f"{row['receptive_field']} px",
            )
    print_table(table)
    print(
        f"{record['weight_layers']} weight layers, {record['parameters']:,} parameters, {record['macs']:,} MACs a crop"
    )
    print(
        f"float32: {record['weight_bytes'] / 1e6:,.1f} MB of weights, "
        f"{record['activation_bytes'] / 1e6:,.1f} MB of activations a crop while training"
    )
    _print_stacking()
    if "speed" in record:
        _print_speed(record["speed"])
    if card is not None:
        _print_card(card)
    if check := record.get("check"):
        print(
            f"{check['file']}: {check['num_bytes']:,} bytes, sha256 {check['sha256']}, "
            f"{check['num_tensors']} tensors, {'NOT ' if check['not_finite'] else ''}all numbers finite"
        )


def _print_stacking() -> None:
    """Prints what stacking small filters buys.

    Paper: section 2.3.
    """
    for count, word in ((2, "two"), (3, "three")):
        side = 2 * count + 1
        stacked, single = 9 * count, side * side
        more = 100 * (single - stacked) / stacked
        print(
            f"{word} 3x3 convolutions see {side}x{side} pixels: {stacked}C² weights for C channels, "
            f"where one {side}x{side} takes {single}C² ({more:.0f}% more), with {count} ReLUs instead of one"
        )


def _print_speed(rows: list[dict[str, Any]]) -> None:
    table = Table("backend", "precision", "taken for", "images/s, batch 1", "batch 8", "relative error")
    for row in rows:
        rates = [format_number(rate) for rate in row["images_per_second"].values()]
        figures = [row["failure"], "", ""] if row["failure"] else [*rates, f"{row['relative_error']:.1e}"]
        table.add_row(escape(row["backend"]), row["precision"], ", ".join(row["taken_for"]), *figures)
    print_table(table)


def _print_card(card: "ModelCard") -> None:
    from verydeep.nets.model_card import card_facts

    facts = Table(show_header=False, box=None, title="The model card", title_justify="left")
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for name, fact in card_facts(card).items():
        facts.add_row(name, escape(fact))
    print_table(facts)
