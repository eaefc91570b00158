"""What the verbs print for a person, on standard output."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verydeep.files import format_bytes
from verydeep.testing.metrics import interval95

if TYPE_CHECKING:
    from verydeep.cli.tested import Evaluation, Pair
    from verydeep.data.doctor import Diagnosis
    from verydeep.data.named import NamedSet
    from verydeep.data.shard_writer import Written
    from verydeep.nets.model_card import ModelCard
    from verydeep.runs.estimate import Plan
    from verydeep.runs.resume import TrainedRun
    from verydeep.testing.classifier import Prediction
    from verydeep.testing.result import Result


_SPLITS = {"val": "validation", "test": "test", "train": "training"}


def print_table(table: Table) -> None:
    """Prints a table as wide as the terminal; elsewhere no line is broken at its edge."""
    terminal = sys.stdout.isatty()
    Console(width=None if terminal else 120, soft_wrap=not terminal).print(table)


def percent(fraction: float | None) -> str:
    """Writes an error rate for a person; a dash where there is none."""
    return "-" if fraction is None else f"{100 * fraction:.2f}%"


def print_stopped(trained: "TrainedRun") -> None:
    """Says, on standard error, how a training that was stopped goes on."""
    print(f"stopped in epoch {trained.epochs + 1}; everything is saved. Go on with:", file=sys.stderr)
    print(f"  verydeep train --resume --out {shlex.quote(str(trained.run))}", file=sys.stderr)


def print_trained(trained: "TrainedRun", data: str | None) -> None:
    """Prints the errors of a finished training and what comes next."""
    top5 = "" if trained.top5_error is None else f", top-5 error {percent(trained.top5_error)}"
    images = f"{trained.num_images:,} {_SPLITS[trained.split]} images"
    print(
        f"{trained.model}: top-1 error {percent(trained.top1_error)}{top5} on {images} after"
        f" {trained.epochs} epoch{'s' if trained.epochs > 1 else ''} ({trained.images_per_second:,.0f} images/s)"
    )
    print(f"{trained.run / 'report.html'} shows the curves and the worst errors. Next:")
    run = shlex.quote(str(trained.run))
    print(f"  verydeep evaluate {run} {shlex.quote(data) if data else 'DATA'}")
    print(f"  verydeep predict {run} IMAGE...")


def print_plan(recipe: str, plan: "Plan") -> None:
    """Prints what a training would take."""
    table = Table("", title=f"{plan.net}, recipe {recipe}", title_justify="left", show_header=False, box=None)
    gib = 2**30
    hours = plan.seconds / 3600
    time = (
        f"{60 * hours:.1f} minutes" if hours < 2 else f"{hours:.1f} hours" if hours < 72 else f"{hours / 24:.1f} days"
    )
    rows = {
        "images": f"{plan.num_images:,}, {plan.epochs} epochs at most",
        "updates": f"{plan.iterations:,} of {plan.batch_size} images",
        "parameters": f"{plan.parameters:,}",
        "computed on": plan.choice,
        "rate": f"{plan.images_per_second:,.3g} images/s: {plan.computed_per_second:,.3g} computed, "
        f"{plan.read_per_second:,.3g} read and cropped in each process",
        "time": f"{time}, validation included",
        "memory": f"{plan.memory_bytes / gib:.2f} GiB of {plan.free_bytes / gib:.1f} free: "
        f"weights, gradients, momentum {plan.weight_bytes / gib:.2f} each, "
        f"activations {plan.activation_bytes / gib:.2f}, images {plan.image_bytes / gib:.2f}",
        "disk": f"{plan.disk_bytes / gib:.2f} GiB of {plan.free_disk_bytes / gib:.1f} free: model, two checkpoints and "
        "one being written",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    print_table(table)
    for warning in plan.warnings:
        print(f"warning: {warning}")


def print_evaluation(tested: "Evaluation", *, per_class: bool = False) -> None:
    """Prints the error rates of each test and of their fusion, and how they compare."""
    table = Table("net", "protocol", "Q", "split", "images", "top-1 error", "95% interval", "top-5 error")
    table.add_column("s/image", justify="right")
    for result in tested.results:
        _add_result(table, result, ", ".join(member.architecture for member in result.members))
    if len(tested.results) > 1:
        _add_result(table, tested.fused, "fused")
    print_table(table)
    for split in {result.split for result in (*tested.results, tested.fused) if result.selected_on == result.split}:
        print(f"The weights were selected on {split}: this error is lower than on new images.")
    if tested.pairs:
        _print_pairs(tested.pairs)
    if per_class:
        classes = Table("class", "images", "top-1 error")
        counts = tested.fused.class_counts()
        for name, error in tested.fused.class_errors().items():
            classes.add_row(escape(name), f"{counts[name]:,}", percent(error))
        print_table(classes)


def _add_result(table: Table, result: "Result", net: str) -> None:
    low, high = interval95(result.top1_error, len(result.labels))
    table.add_row(
        net,
        result.protocol,
        ",".join(str(scale) for scale in result.test_scales),
        result.split,
        f"{len(result.labels):,}",
        percent(result.top1_error),
        f"{100 * low:.2f} to {100 * high:.2f}%",
        percent(result.top5_error),
        f"{result.seconds / len(result.labels):.3g}",
    )


def _print_pairs(pairs: Sequence["Pair"]) -> None:
    for pair in pairs:
        low, high = pair.comparison.interval95
        corrected = f", {pair.corrected_p_value:.2g} corrected for {len(pairs)} pairs" if len(pairs) > 1 else ""
        found = pair.comparison
        print(
            f"{pair.second} against {pair.first}: {100 * found.difference:+.2f} points of top-1 error (95% interval "
            f"{100 * low:+.2f} to {100 * high:+.2f}); {found.only_second_wrong:,} images wrong that the other has "
            f"right, {found.only_first_wrong:,} right that it has wrong: p = {found.p_value:.2g} by McNemar's exact "
            f"test{corrected}"
        )


def print_predictions(predictions: Sequence["Prediction"]) -> None:
    """Prints the most likely classes of each image."""
    table = Table("image", "class", "posterior")
    for prediction in predictions:
        for rank, ranked in enumerate(prediction.classes):
            table.add_row("" if rank else escape(prediction.file), escape(ranked.name), f"{ranked.posterior:.4f}")
    print_table(table)


def print_named_sets(rows: Sequence["NamedSet"], folder: Path) -> None:
    """Lists the public data sets and says which of them are here."""
    table = Table("name", "classes", "images", "download", "here")
    table.add_column("source and licence", min_width=44, overflow="fold")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.num_classes:,}",
            ", ".join(f"{count:,} {split}" for split, count in row.counts.items()),
            format_bytes(row.size),
            "yes" if row.is_here else "" if row.is_free else "by hand",
            f"{row.homepage}\n{escape(row.licence)}",
        )
    print_table(table)
    print(f"in {folder} (set VERYDEEP_DATA for another folder); digits come with the package")


def print_fetched(row: "NamedSet", description: str) -> None:
    """Says what a fetched data set holds and what comes next."""
    print(f"{description}, in {row.folder}")
    print(f"licence: {row.licence} ({row.homepage}). Next:")
    print(f"  verydeep train {row.name}")


def print_shards(written: "Written") -> None:
    """Prints what was written, and how to use it."""
    counts = ", ".join(
        f"{number:,} {split} images in {written.shards[split]} shard{'s' if written.shards[split] > 1 else ''}"
        for split, number in written.images.items()
    )
    print(f"{written.out}: {counts}, {written.bytes / 1e6:,.1f} MB, and {written.index}. Next:")
    print(f"  verydeep train {written.out}")


def _printable(name: str) -> str:
    """Makes a line with names of files safe to print, whatever bytes they have."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def print_diagnosis(diagnosis: "Diagnosis") -> None:
    """Prints what the doctor found, the worst first, with a few of the files and the remedy."""
    splits = ", ".join(f"{number:,} {split}" for split, number in diagnosis.splits.items())
    classes = f"{len(diagnosis.classes)} classes, " if diagnosis.classes else ""
    print(f"{diagnosis.data}: {classes}{splits} images")
    if not diagnosis.findings:
        print("Nothing was found.")
        return
    table = Table("severity", "kind", "files", "what was found, and the remedy", show_lines=True)
    for finding in diagnosis.findings:
        few = ", ".join(finding.files[:3]) + (", ..." if len(finding.files) > 3 else "")
        text = [f"{finding.message}.", *([few] if few else []), f"Remedy: {finding.remedy}."]
        number = f"{len(finding.files):,}" if finding.files else "-"
        table.add_row(finding.severity, finding.kind, number, escape("\n".join(_printable(line) for line in text)))
    print_table(table)
    if diagnosis.is_fatal:
        print("Mend what is fatal before you train.")


def _print_speed(rows: list[dict[str, Any]]) -> None:
    table = Table("backend", "precision", "taken for", "images/s, batch 1", "batch 8", "relative error")
    for row in rows:
        rates = [f"{rate:,.3g}" if rate < 1000 else f"{rate:,.0f}" for rate in row["images_per_second"].values()]
        figures = [row["failure"], "", ""] if row["failure"] else [*rates, f"{row['relative_error']:.1e}"]
        table.add_row(escape(row["backend"]), row["precision"], ", ".join(row["taken_for"]), *figures)
    print_table(table)


def print_inspection(record: dict[str, Any], title: str, card: "ModelCard | None") -> None:
    """Prints the layers of a net and what they cost, and what a model file says of itself."""
    from verydeep.cli.inspection import stacking_lines

    table = Table("layer", "kernel", "output", "parameters", "MACs", "receptive field", title=title)
    for row in record["layers"]:
        if row["kind"] in ("relu", "dropout"):
            continue
        kernel = (
            f"{row['kernel']}x{row['kernel']}"
            if row["kind"] in ("convolution", "max-pool", "fully-connected")
            else row["kind"]
        )
        table.add_row(
            row["name"],
            kernel,
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
    for line in stacking_lines():
        print(line)
    if "speed" in record:
        _print_speed(record["speed"])
    if card is None:
        return
    from verydeep.nets.model_card import card_facts

    facts = Table(show_header=False, box=None, title="The model card", title_justify="left")
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for name, fact in card_facts(card).items():
        facts.add_row(name, escape(fact))
    print_table(facts)
    if check := record.get("check"):
        print(
            f"{check['file']}: {check['num_bytes']:,} bytes, sha256 {check['sha256']}, "
            f"{check['num_tensors']} tensors, {'NOT ' if check['not_finite'] else ''}all numbers finite"
        )
