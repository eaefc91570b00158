"""The command line: a contract. Each verb parses its options, calls one function and prints what it gives.

torch is imported inside the verbs that need it, so that ``--help`` answers at once.
"""

import atexit
import gc
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from verydeep.apps.bench_cli import bench
from verydeep.apps.json_answer import JsonOption, print_json
from verydeep.apps.weights_cli import weights_app
from verydeep.mistakes import MistakeError, WrongUseError
from verydeep.processes import launched

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Very deep convolutional networks (VGG): train, evaluate and use the nets of the paper on your own images.",
    epilog="Begin with: verydeep train digits --recipe quick --batch-norm",
)

app.add_typer(weights_app, name="weights")

# what the parser raises for any wrong use; typer exports only this one subclass of it
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]

DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda or mps; by default the fastest there is.")]
DATA_HELP = (
    "A name (see verydeep fetch); a folder: class folders, or train/ val/ test/; or shards: 'x-{000..009}.tar', a "
    "folder or a URL."
)
DamagedOption = Annotated[str, typer.Option(help="What to do with damaged images: fail, or skip and count them.")]


def main() -> None:
    """Runs the command line; a user's mistake becomes one line on standard error."""
    _spare_the_collector()
    command = get_command(app)
    try:
        status = command(prog_name="verydeep", standalone_mode=False)
    except MistakeError as error:
        if error.is_told:
            sys.exit(error.exit_status)
        _fail(f"{_which_process()}{error}", error.exit_status)
    except _USAGE_ERROR as error:
        context = getattr(error, "ctx", None)
        verb = context.command_path if context else "verydeep"
        message = error.format_message().rstrip(".")
        if "extra argument" in message and ".tar" in message:
            message += ": put a pattern of shards in quotes"
        _fail(f"{message} (see {verb} --help)", 2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        _fail(f"{named}{error.strerror or error}", 1)
    except RuntimeError as error:
        if launched().size == 1:
            raise
        reason = str(error).splitlines()[0]
        _fail(f"process {launched().rank} lost the others ({reason}): go on with --resume when they are back", 1)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", 1)
    _end(status if isinstance(status, int) else 0)


def _spare_the_collector() -> None:
    """Keeps the collector of reference cycles from going through what importing torch leaves: 0.4 s of each command.

    It would do so some hundred times during the import, and once more at the end of the process.
    """
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)


def _end(status: int) -> None:
    """Ends the process; one of several without the interpreter's own end.

    A thread of gloo that asks for the interpreter while that ends takes the process down with it ("terminate called
    without an active exception", about once in fifty runs; PyTorch pull request 179291). All is written by now.
    """
    if launched().size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _which_process() -> str:
    try:
        return "" if launched().is_first else f"process {launched().rank}: "
    except MistakeError:
        return ""


def _fail(message: str, status: int) -> None:
    print(f"verydeep: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


def _skips_damaged(damaged: str) -> bool:
    if damaged not in ("fail", "skip"):
        raise WrongUseError(f"--damaged {damaged}: give fail or skip")
    return damaged == "skip"


def _read_scales(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise WrongUseError(f"{option} {text}: give pixels, such as 256 or 256,512") from error


def _read_changes(settings: Sequence[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise WrongUseError(f"--set {setting}: give key=value, such as dropout=0")
        try:
            changes[key] = json.loads(f"[{value}]" if "," in value else value)
        except json.JSONDecodeError:
            changes[key] = value
    return changes


def _print_version(asked: bool) -> None:
    if asked:
        from verydeep import __version__

        print(f"verydeep {__version__}")
        raise typer.Exit


@app.callback()
def _before(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Takes the options that stand before a verb."""


@app.command()
def train(
    context: typer.Context,
    data: Annotated[str | None, typer.Argument(help=DATA_HELP)] = None,
    architecture: Annotated[str, typer.Option(help="A, A-LRN, B, C, D, E or B-5x5; vgg16 and the like too.")] = "A",
    batch_norm: Annotated[bool, typer.Option("--batch-norm", help="A batch norm after every convolution.")] = False,
    recipe: Annotated[
        str, typer.Option(help="paper, paper-chain, small-images, quick, fine-tune ... or a JSON file.")
    ] = "small-images",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a field of the recipe: key=value.")] = None,
    crop: Annotated[
        int | None,
        typer.Option(help="Side of the training crop, a multiple of 32. [32 for digits and cifar, else 224]"),
    ] = None,
    width: Annotated[float, typer.Option(help="Factor on the channels of every layer.")] = 1.0,
    train_scale: Annotated[
        str | None, typer.Option(help="S, or Smin,Smax for scale jitter. [256 x crop / 224]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images. [the recipe's]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per update. [the recipe's]")] = None,
    init_from: Annotated[
        str | None, typer.Option(help="Take weights from a model file, run folder or published name.")
    ] = None,
    initialise: Annotated[
        str | None, typer.Option(help="gaussian, gaussian-variance, glorot or kaiming. [the recipe's]")
    ] = None,
    keep: Annotated[str | None, typer.Option(help="last, or best by validation. [the recipe's]")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder. [a new one under runs/]")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run in --out; needs nothing else. With DATA: begin it if there is none."
        ),
    ] = False,
    device: DeviceOption = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16. [the faster]")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that make crops. [0 on a processor, one a core for a GPU]")
    ] = None,
    devices: Annotated[int, typer.Option(help="Train in this many processes, one a GPU or share of the cores.")] = 1,
    micro_batch: Annotated[
        int | None, typer.Option(help="Compute this many images at a time: less memory. [the whole batch]")
    ] = None,
    gradient_checkpointing: Annotated[
        bool,
        typer.Option("--gradient-checkpointing", help="Compute activations twice: less memory, a third more time."),
    ] = False,
    checkpoint_minutes: Annotated[float, typer.Option(help="Time between checkpoints within an epoch.")] = 10,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what it would take: time, memory, disk; measured for a moment.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the weights, the order, the crops and the dropout.")] = 0,
    no_validation: Annotated[
        bool, typer.Option("--no-validation", help="Train on the validation images too, once the recipe is settled.")
    ] = False,
    damaged: DamagedOption = "fail",
    as_json: JsonOption = False,
) -> None:
    """Train a net into a run folder.

    Example: verydeep train digits --recipe quick --batch-norm --out runs/digits
    """
    recipe_options = {"epochs": epochs, "batch_size": batch_size, "initialisation": initialise, "keep": keep}
    changes = _read_changes(set_ or []) | {name: value for name, value in recipe_options.items() if value is not None}
    if train_scale is not None:
        scales = _read_scales(train_scale, "--train-scale")
        changes["train_scale"] = scales[0] if len(scales) == 1 else scales
    skip_damaged = _skips_damaged(damaged)
    _prepare_process()

    from verydeep.apps.preparation import Execution
    from verydeep.apps.printed import print_plan, print_trained
    from verydeep.apps.train_verb import Asked, make_plans, run, start_processes

    net = {"architecture": architecture, "batch_norm": batch_norm, "crop": crop, "width": width, "seed": seed}
    if no_validation:
        net["hold_out"] = False
    asked = Asked(
        data=data,
        out=out,
        recipe=recipe,
        changes=changes,
        resume=resume,
        others=_options_given(context),
        net=net | {"init_from": init_from},
        execution=Execution(
            device=device,
            precision=precision,
            workers=workers,
            micro_batch=micro_batch,
            gradient_checkpointing=gradient_checkpointing,
            checkpoint_seconds=60 * checkpoint_minutes,
        ),
        skip_damaged=skip_damaged,
        command=shlex.join(["verydeep", *sys.argv[1:]]),
    )
    asked.check()
    _fetch_weights(init_from)
    if plan:
        plans = make_plans(asked, devices)
        if as_json:
            records = {title: made.as_record() for title, made in plans.items()}
            print_json(records[recipe] if len(records) == 1 else {"steps": records})
        else:
            for title, made in plans.items():
                print_plan(title, made)
        return
    if devices != 1:
        raise typer.Exit(start_processes(asked, devices))
    trained = run(asked)
    if not launched().is_first:
        return
    if as_json:
        print_json(trained.as_record())
    else:
        print_trained(trained, data)
    if not trained.finished:
        raise typer.Exit(1)


def _options_given(context: typer.Context) -> list[str]:
    """The options on the command line that say what to train; a run that goes on keeps what it began with."""
    others = ("data", "out", "resume", "as_json", "devices")
    return [
        parameter.opts[-1]
        for parameter in context.command.params
        if parameter.name not in others
        and (source := context.get_parameter_source(parameter.name or ""))
        and source.name == "COMMANDLINE"
    ]


def _fetch_weights(*models: str | None) -> None:
    """Fetches those of the models that are published names and not here yet, and shows how far that is."""
    from verydeep.apps.weights_list import fetch_shown, is_to_fetch

    for model in filter(None, models):
        if is_to_fetch(model):
            fetch_shown(model)


def _prepare_process() -> None:
    from verydeep.speed.allocator import tune_allocator, use_huge_pages

    tune_allocator()
    use_huge_pages()


@app.command()
def evaluate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... DATA",
            help="Model files, run folders, published names or saved posteriors, several of which are fused; then the "
            f"data: {DATA_HELP[0].lower()}{DATA_HELP[1:]} Saved posteriors alone need no data.",
        ),
    ],
    protocol: Annotated[
        str,
        typer.Option(
            help="centre, ten-crop, single (dense over the whole image and its mirror), multi-scale, multi-crop, "
            "dense+multi-crop, caffe or adaptive."
        ),
    ] = "single",
    test_scales: Annotated[
        str | None, typer.Option(help="Test scales Q,Q,Q, pixels. [the protocol's, from the net's training scale]")
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test. [test where there is one, else val]")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the posteriors to this safetensors file.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare every two models on the same images: difference, interval, test.")
    ] = False,
    per_class: Annotated[bool, typer.Option("--per-class", help="Give the error of each class too.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write a page with the errors and the worst mistakes to this file (.html).")
    ] = None,
    device: DeviceOption = None,
    damaged: DamagedOption = "fail",
    as_json: JsonOption = False,
) -> None:
    """Measure the error rates of a net on a data set, or of several nets whose posteriors are averaged.

    Example: verydeep evaluate runs/digits digits --protocol single
    """
    scales = None if test_scales is None else _read_scales(test_scales, "--test-scales")
    skip_damaged = _skips_damaged(damaged)
    _prepare_process()

    from verydeep.apps.evaluation_report import check_report_file, write_evaluation_report
    from verydeep.apps.printed import print_evaluation
    from verydeep.apps.terminal import reporting
    from verydeep.apps.tested import measure_all
    from verydeep.collectives import joined
    from verydeep.data.image_set import describe_skipped
    from verydeep.device import find_device

    if report is not None:
        if len(arguments) != 2:
            raise WrongUseError("--report: give one model and the data")
        check_report_file(report)
    _fetch_weights(*arguments[:-1])
    with reporting() as reporter, joined(find_device(device)):
        tested = measure_all(
            arguments,
            compare_pairs=compare,
            save=save,
            protocol=protocol,
            test_scales=scales,
            split=split,
            device=device,
            skip_damaged=skip_damaged,
            progress=reporter.progress,
            note=reporter.note,
        )
        if skipped := tested.fused.skipped:
            reporter.note(describe_skipped(skipped))
    if not launched().is_first:
        return
    if report is not None:
        write_evaluation_report(
            report, tested.fused, arguments[0], arguments[1], shlex.join(["verydeep", *sys.argv[1:]])
        )
        print(f"{report} shows the errors and the worst mistakes", file=sys.stderr)
    if as_json:
        print_json(tested.as_record(per_class=per_class))
    else:
        print_evaluation(tested, per_class=per_class)


@app.command()
def tables(
    data: Annotated[str | None, typer.Argument(help=DATA_HELP)] = None,
    architectures: Annotated[
        str, typer.Option(help="Columns of Table 1, such as A,A-LRN,B,C,D,E; B-5x5 too.")
    ] = "A,A-LRN,B,C,D,E",
    models: Annotated[str | None, typer.Option(help="Test these models, MODEL,MODEL,..., and train nothing.")] = None,
    results: Annotated[
        Path | None, typer.Option("--from", help="Only print what is in these results (a file, or its folder).")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each net.")] = 1,
    batch_norm: Annotated[bool, typer.Option("--batch-norm", help="A batch norm after every convolution.")] = False,
    width: Annotated[float, typer.Option(help="Factor on the channels of every layer.")] = 1.0,
    crop: Annotated[
        int | None, typer.Option(help="Side of the training crop. [32 for digits and cifar, else 224]")
    ] = None,
    train_scale: Annotated[
        list[str] | None,
        typer.Option(help="S, or Smin,Smax, for every net; repeatable. [those of the paper's Table 3, x crop / 224]"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images. [the recipe's]")] = None,
    recipe: Annotated[
        str, typer.Option(help="paper, small-images, quick ... or a JSON file; the same for every net.")
    ] = "small-images",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a field of the recipe: key=value.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test. [test where there is one, else val]")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of everything. [runs/tables-DATA]")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say how long it would take; measured for a moment.")
    ] = False,
    device: DeviceOption = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16, of the trainings. [the faster]")] = None,
    damaged: DamagedOption = "fail",
    as_json: JsonOption = False,
) -> None:
    """Train what is missing and print the paper's Tables 3 to 6 for a data set, beside the paper's numbers.

    The same command goes on where it was interrupted, and does nothing twice.

    Example: verydeep tables digits --architectures A,B --seeds 2 --width 0.25 --epochs 2 --out runs/tables
    """
    changes = _read_changes(set_ or []) | ({"epochs": epochs} if epochs is not None else {})
    scales = [_read_scales(text, "--train-scale") for text in train_scale or []]
    skip_damaged = _skips_damaged(damaged)
    _prepare_process()

    from verydeep.apps.preparation import Execution
    from verydeep.apps.table_grid import Asked, named_list, scale_bounds
    from verydeep.apps.table_verb import plan_and_print, run, show

    if results is not None:
        if data is not None or models is not None:
            raise WrongUseError("--from prints results that are there: give neither data nor models with it")
        show(results, out, as_json=as_json)
        return
    if data is None:
        raise WrongUseError("which data? Give a folder, or a name such as digits, or --from with results")
    asked = Asked(
        data=data,
        out=out or Path("runs") / f"tables-{Path(data).name}",
        models=named_list(models, "--models") if models is not None else (),
        architectures=named_list(architectures, "--architectures"),
        train_scales=tuple(scale_bounds(scale) for scale in scales),
        seeds=seeds,
        batch_norm=batch_norm,
        width=width,
        crop=crop,
        recipe=recipe,
        changes=changes,
        split=split,
        execution=Execution(device=device, precision=precision),
        skip_damaged=skip_damaged,
        command=shlex.join(["verydeep", *sys.argv[1:]]),
    )
    _fetch_weights(*asked.models)
    if plan:
        plan_and_print(asked, as_json=as_json)
    elif not run(asked, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="A model file, a run folder or a published name.")],
    images: Annotated[list[str], typer.Argument(help="Files, folders or patterns.")],
    top: Annotated[int, typer.Option(min=1, help="Number of classes to name.")] = 5,
    csv: Annotated[Path | None, typer.Option(help="Write a table, one line per image and rank, to this file.")] = None,
    heatmap: Annotated[
        Path | None, typer.Option(help="Write where each image shows its first class, as PNG files, to this folder.")
    ] = None,
    heatmap_scale: Annotated[
        int | None, typer.Option(help="Test scale Q of the heat maps, pixels. [twice the net's]")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, bf16, or auto: the faster of the two here, by a measurement that is remembered.")
    ] = "fp32",
    as_json: JsonOption = False,
) -> None:
    """Say what images show, the most likely classes first.

    Example: verydeep predict runs/digits photo.jpg more-photos/ --top 3
    """
    if heatmap_scale is not None and heatmap is None:
        raise WrongUseError("--heatmap-scale is of heat maps: give --heatmap with a folder for them")

    from verydeep.apps.heatmap import HeatMapFolder, single_place_note
    from verydeep.apps.predict import Classifier, find_images, write_csv
    from verydeep.apps.printed import print_predictions
    from verydeep.apps.terminal import reporting

    files = find_images(images)
    _prepare_process()
    _fetch_weights(model)
    classifier = Classifier(model, precision=precision)
    maps = None if heatmap is None else HeatMapFolder(heatmap, files, classifier.net, heatmap_scale)
    predictions, failed = [], 0
    with reporting() as reporter:
        for done, file in enumerate(files, start=1):
            try:
                prediction = classifier.predict(file, top=top)
                predictions.append(prediction if maps is None else maps.add_to(prediction, file))
            except MistakeError as error:
                failed += 1
                print(f"verydeep: {error}", file=sys.stderr)
            if len(files) > 1:
                reporter.progress("predicting", done, len(files))
        if note := single_place_note(predictions, classifier.net):
            reporter.note(note)
    if csv is not None and predictions:
        write_csv(predictions, csv)
    if as_json:
        print_json({"images": [prediction.as_record() for prediction in predictions]})
    elif predictions:
        print_predictions(predictions)
    if failed:
        raise typer.Exit(1)


@app.command()
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Public data sets; without a name they are listed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Download public data sets by name, check and unpack them, so that they can stand where a folder does.

    They lie in $VERYDEEP_DATA, or else in the user's cache. Nothing else downloads them.

    Example: verydeep fetch cifar10
    """
    from verydeep.apps.printed import print_fetched, print_named_sets
    from verydeep.apps.terminal import reporting
    from verydeep.data.catalogue import NAMED, known
    from verydeep.data.datasets import describe
    from verydeep.data.download import data_folder
    from verydeep.data.named import fetch as fetch_one

    rows = [known(name) for name in names] if names else list(NAMED.values())
    for row in rows if names else ():
        with reporting() as reporter:
            data = fetch_one(row.name, progress=reporter.progress)
        if not as_json:
            print_fetched(row, describe(data))
    if as_json:
        print_json({"folder": str(data_folder()), "sets": [row.as_record() for row in rows]})
    elif not names:
        print_named_sets(rows, data_folder())


@app.command()
def shards(
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    size: Annotated[str, typer.Option(help="Bytes of a shard at most; K, M and G are powers of 1,024.")] = "512M",
    damaged: DamagedOption = "fail",
    as_json: JsonOption = False,
) -> None:
    """Write WebDataset shards with an index; train and evaluate take them as DATA, from disk or http(s).

    Example: verydeep shards digits shards/digits
    """
    skip_damaged = _skips_damaged(damaged)

    from verydeep.apps.printed import print_shards
    from verydeep.apps.terminal import reporting
    from verydeep.data.image_set import describe_skipped
    from verydeep.data.shard_writer import write_shards

    with reporting() as reporter:
        written = write_shards(data, out, size=size, skip_damaged=skip_damaged, progress=reporter.progress)
        if written.skipped:
            reporter.note(describe_skipped(written.skipped))
    if as_json:
        print_json(written.as_record())
    else:
        print_shards(written)


@app.command()
def doctor(
    data: Annotated[str, typer.Argument(help="A folder: class folders, or train/ val/ test/, or only images.")],
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with a data set, before it costs a night; exit with 1 if something is fatal.

    Example: verydeep doctor photos
    """
    from verydeep.apps.terminal import reporting
    from verydeep.data.doctor import examine

    with reporting() as reporter:
        diagnosis = examine(data, reporter.progress)
    if as_json:
        print_json(diagnosis.as_record())
    else:
        from verydeep.apps.printed import print_diagnosis

        print_diagnosis(diagnosis)
    if diagnosis.is_fatal:
        raise typer.Exit(1)


@app.command()
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
    as_json: JsonOption = False,
) -> None:
    """Print layers, shapes, parameters, work, receptive field and memory of a net, and a model file's card.

    Example: verydeep inspect D
    """
    from verydeep.apps.inspect import find_geometry, inspection, is_model

    if check and not is_model(name):
        raise WrongUseError(f"--check reads a model file, and {name} is no file, run folder or name of weights")
    _fetch_weights(name)
    geometry, card = find_geometry(name, crop=crop, classes=classes)
    record = inspection(geometry, card)
    checked = None
    if check:
        from verydeep.apps.terminal import reporting
        from verydeep.convnets.model_check import check_model

        with reporting() as reporter:
            checked = check_model(name, reporter.progress)
        record["check"] = checked.as_record()
    if as_json:
        print_json(record)
    else:
        from verydeep.apps.printed import print_inspection

        print_inspection(record, geometry.title, card)
    if checked is not None:
        checked.refuse_not_finite()


app.command()(bench)
