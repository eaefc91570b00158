"""Writes docs/paper-map.md from the ``Paper:`` lines of the docstrings.

``python docs/paper_map.py`` after such a line, a module or the words below have changed. The build of the documentation
fails where the page is not what this gives, where a ``Paper:`` line names what the paper does not have, and where
neither the map nor the list of supporting rooms has a module.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from verydeep.tables.markdown import markdown_table

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "verydeep"
PAGE = ROOT / "docs" / "paper-map.md"

PAPER = {
    "section 2": "The nets",
    "section 2.1": "Architecture",
    "section 2.2": "Configurations",
    "section 2.3": "Discussion: stacked filters, receptive fields",
    "section 3.1": "Training",
    "section 3.2": "Testing",
    "section 3.3": "Implementation: several devices, whole images",
    "section 4": "Experiments: data sets, top-1 and top-5 error",
    "section 4.1": "One test scale",
    "section 4.2": "Several test scales",
    "section 4.3": "Dense testing and many crops",
    "section 4.4": "Fusion of nets",
    "section 4.5": "Comparison with other methods",
    "appendix A": "Localisation",
    "appendix B": "Features for other data sets",
    **{f"Table {number}": "" for number in range(1, 13)},
}
"""What the paper has. Sections 1 and 5 are its introduction and its conclusion."""

SUPPORTING: dict[str, tuple[str, tuple[str, ...]]] = {
    "ground": ("what everything stands on: errors, files, downloads, devices", ()),
    "nets": (
        "the model file and its card, with PyTorch and without; checks of images; what users of timm and torchvision "
        "reach for",
        (
            "nets/checks.py",
            "nets/model_card.py",
            "nets/model_file.py",
            "nets/plain_weights.py",
            "nets/reuse.py",
            "nets/stored_net.py",
            "nets/weight_arrays.py",
        ),
    ),
    "images": ("decoding", ("images/decode.py", "images/jpeg.py", "images/libtiff.py")),
    "data": ("what users bring: folders, public sets, shards, and the doctor", ()),
    "weights": ("weights of other programs, read and written", ()),
    "speed": ("the backends that compute a net, and the rule that picks one", ()),
    "training": (
        "the run folder, callbacks, and what is said when a net does not learn",
        (
            "training/callbacks.py",
            "training/health.py",
            "training/run_folder.py",
            "training/run_lock.py",
            "training/run_settings.py",
            "training/state.py",
            "training/tensorboard.py",
        ),
    ),
    "losses": ("distances of pictures by the features of a net", ()),
    "testing": (
        "which images are tested on; images read in chunks; whether two results differ; calibration",
        ("testing/calibration.py", "testing/chunks.py", "testing/images.py", "testing/statistics.py"),
    ),
    "report": ("pages and pictures", ()),
    "transfer": (
        "files of descriptors: the images, the unfinished part, the formats; the options of a transfer; what more "
        "images would bring, and labels that are probably wrong",
        (
            "transfer/features_file.py",
            "transfer/image_list.py",
            "transfer/labels.py",
            "transfer/learning_curve.py",
            "transfer/options.py",
            "transfer/part.py",
        ),
    ),
    "export": (
        "the files of other runtimes, and what is asked of an export",
        (
            "export/onnx_file.py",
            "export/openvino_file.py",
            "export/operations.py",
            "export/options.py",
            "export/targets.py",
        ),
    ),
    "runs": ("what starts a training", ()),
    "tables": ("section 4 as a command", ()),
    "cli": ("one file for each verb", ()),
}
"""Rooms with modules that implement no part of the paper: what these are for, and which, where not all are listed."""

TESTED_ELSEWHERE = {
    "machine.py": "tests/speed/test_waiting.py",
    "nets/described.py": "tests/cli/test_torchless.py",
    "nets/stored_net.py": "tests/nets/test_model_file.py",
    "nets/weight_arrays.py": "tests/nets/test_plain_weights.py",
    "sklearn.py": "tests/runs/test_estimator.py",
    "runs/auto_start.py": "tests/runs/test_auto_run.py",
    "runs/comparison.py": "tests/runs/test_auto_run.py",
    "runs/finish.py": "tests/training/test_loop.py",
    "runs/look.py": "tests/runs/test_auto_run.py",
    "runs/resume.py": "tests/training/test_loop.py",
    "runs/transfer_report.py": "tests/transfer/test_transfer.py",
    "transfer/findings.py": "tests/transfer/test_transfer.py",
    "testing/transferred.py": "tests/transfer/test_transfer.py",
    "transfer/classifier.py": "tests/transfer/test_transfer_classifier.py",
    "transfer/metrics.py": "tests/transfer/test_transfer_metrics.py",
    "transfer/options.py": "tests/transfer/test_transfer.py",
    "transfer/result.py": "tests/transfer/test_transfer.py",
    "transfer/splits.py": "tests/transfer/test_transfer.py",
    "transfer/write.py": "tests/transfer/test_transfer.py",
    "transfer/features_file.py": "tests/transfer/test_features.py",
    "transfer/image_list.py": "tests/transfer/test_features.py",
    "localisation/candidates.py": "tests/localisation/test_localisation_protocols.py",
    "localisation/evaluate.py": "tests/localisation/test_localisation_result.py",
    "localisation/joint.py": "tests/localisation/test_localisation_protocols.py",
    "localisation/metrics.py": "tests/localisation/test_localisation_result.py",
    "localisation/protocols.py": "tests/localisation/test_localisation_protocols.py",
    "localisation/report.py": "tests/localisation/test_localisation_report.py",
    "localisation/result.py": "tests/localisation/test_localisation_result.py",
    "localisation/tables.py": "tests/localisation/test_localisation_report.py",
    "localisation/tune.py": "tests/localisation/test_localisation_result.py",
    "export/openvino_file.py": "tests/export/test_program.py",
    "export/operations.py": "tests/export/test_program.py",
    "export/options.py": "tests/export/test_export.py",
    "export/sources.py": "tests/export/test_program.py",
    "export/targets.py": "tests/export/test_export.py",
    "cli/export.py": "tests/export/test_export.py",
    "cli/features.py": "tests/transfer/test_features.py",
    "cli/ray.py": "tests/transfer/test_ray.py",
    "cli/search.py": "tests/transfer/test_search.py",
    "transfer/workers.py": "tests/transfer/test_ray.py",
    "cli/inspect.py": "tests/cli/test_cli.py",
    "data/boxes/boxed.py": "tests/data/boxes/test_open_boxed.py",
    "data/boxes/ilsvrc.py": "tests/data/boxes/test_open_boxed.py",
    "data/boxes/open.py": "tests/data/boxes/test_open_boxed.py",
    "data/layouts.py": "tests/data/test_named.py",
    "distributed.py": "tests/training/test_processes.py",
    "nets/graph.py": "tests/speed/test_accelerate.py",
    "nets/initialise.py": "tests/nets/test_net.py",
    "paper/constants.py": "tests/paper/test_tables_of_classification.py",
    "testing/chunks.py": "tests/testing/test_descriptors.py",
    "training/state.py": "tests/training/test_callbacks.py",
    "training/tensorboard.py": "tests/training/test_callbacks.py",
    "tables/grid.py": "tests/tables/test_tables.py",
    "tables/listing.py": "tests/tables/test_tables.py",
    "tables/make.py": "tests/tables/test_tables.py",
    "tables/protocols.py": "tests/tables/test_test_scales.py",
}
"""The tests of modules that no test mirrors."""

_HEAD = """# The paper map

Where each part of the paper is in the code. `python docs/paper_map.py` writes this page from the `Paper:` lines of the
docstrings: change those, not the page. Modules are below `src/verydeep/`. What each room is for is on
[the page of the house](house.md); the paper's numbers are on [the paper's tables](paper-tables.md)."""

_NOT_YET = """## What is not here yet

- Section 3.3: measurements on several GPUs. The code is the same for GPUs and CPUs, and has run on CPUs only.
- Tables 3 to 7: our own figures on ImageNet. The protocols and the fusion exist; the nets have not been trained on
  ILSVRC-2012, and none of the paper's error rates has been reproduced. [Small data sets](claims.md) have their tables.
- Appendix A, Tables 8 to 10: our own figures on ILSVRC. Localisers are trained and tested as there, on boxes of yours.
- Appendix B, Tables 11 and 12: our own figures on VOC and Caltech. The verb `transfer` measures them where the sets are
  at hand; recognition of actions with the box of the person is not there."""

_PAPER_LINE = re.compile(r"^\s*Paper:(.*(?:\n\s*\S.*)*)", re.MULTILINE)
_PART = re.compile(
    r"(sections?|§|appendix|appendices|Tables?)\s*((?:[\d.]*\d|[A-Z])\b(?:(?:, | and | to )(?:[\d.]*\d|[A-Z])\b)*)"
)
_KINDS = {"§": "section", "sections": "section", "appendices": "appendix", "Tables": "Table"}


@dataclass(frozen=True)
class Module:
    """A module of the package: its path there, the first sentence of its docstring, the parts of the paper it names."""

    path: str
    purpose: str
    parts: tuple[str, ...]


class StaleMapError(ValueError):
    """What the map cannot be made of."""


def paper_map() -> str:
    """The whole of docs/paper-map.md.

    Raises:
        StaleMapError: a ``Paper:`` line names what the paper does not have, or a module is in neither list.
    """
    modules = list(_modules())
    parts = [_HEAD]
    for part, title in PAPER.items():
        if part.startswith("Table"):
            continue
        if here := [module for module in modules if part in module.parts]:
            rows = [[f"`{module.path}`", module.purpose, _test(module.path)] for module in here]
            parts += [
                f"## {part[0].upper()}{part[1:]}: {title}",
                markdown_table(["module", "what it does", "test"], rows),
            ]
    tables = [
        [part, ", ".join(f"`{module.path}`" for module in modules if part in module.parts)]
        for part in PAPER
        if part.startswith("Table")
    ]
    parts += ["## The tables", markdown_table(["table", "modules"], tables)]
    parts += [
        "## Supporting rooms",
        "What the paper does not have, and a user needs.",
        markdown_table(["room", "what its modules are for", "modules"], _supporting(modules)),
        _NOT_YET,
    ]
    return "\n\n".join(parts) + "\n"


def parts_of(docstring: str) -> list[str]:
    """The parts of the paper that the ``Paper:`` lines of a docstring name, such as ``section 3.1``.

    Raises:
        StaleMapError: a line names none, or one that the paper does not have.
    """
    found = []
    for line in _PAPER_LINE.findall(docstring):
        words = line.partition("Choice:")[0]
        parts = [f"{_KINDS.get(kind, kind)} {one}" for kind, listed in _PART.findall(words) for one in _each(listed)]
        unknown = [part for part in parts if part not in PAPER]
        if unknown or not parts:
            raise StaleMapError(
                f"'Paper:{line}' names {', '.join(unknown) or 'no part'}, which the paper does not have"
            )
        found += parts
    return found


def _each(listed: str) -> list[str]:
    """Each of ``2.1, 2.3 and 3`` or of ``3 to 6``."""
    if " to " in listed:
        first, last = listed.split(" to ")
        return [str(number) for number in range(int(first), int(last) + 1)]
    return re.split(", | and ", listed)


def _modules() -> Iterator[Module]:
    for file in sorted(PACKAGE.rglob("*.py")):
        path = file.relative_to(PACKAGE).as_posix()
        tree = ast.parse(file.read_text(encoding="utf-8"))
        docstrings = [
            node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        ]
        try:
            parts = dict.fromkeys(part for docstring in docstrings for part in parts_of(docstring))
        except StaleMapError as error:
            raise StaleMapError(f"src/verydeep/{path}: {error}") from error
        if file.name != "__init__.py" or parts:
            yield Module(path, (ast.get_docstring(tree) or "").partition("\n")[0].replace("``", "`"), tuple(parts))


def _supporting(modules: Sequence[Module]) -> list[list[str]]:
    others = [module.path for module in modules if not module.parts]
    rows = {
        room: [path for path in others if _room(path) == room and (not named or path in named)]
        for room, (_, named) in SUPPORTING.items()
    }
    listed = {path for paths in rows.values() for path in paths}
    if missing := [path for path in others if path not in listed]:
        raise StaleMapError(
            f"{', '.join(missing)}: name the part of the paper in a Paper: line of the docstring, or the room in "
            "SUPPORTING of docs/paper_map.py"
        )
    return [
        [room, purpose, ", ".join(f"`{path}`" for path in rows[room]) if named else "all that the map does not have"]
        for room, (purpose, named) in SUPPORTING.items()
    ]


def _room(path: str) -> str:
    return path.partition("/")[0] if "/" in path else "ground"


def _test(path: str) -> str:
    """The test of a module: the one that mirrors it, else the one of TESTED_ELSEWHERE."""
    folder, _, name = path.rpartition("/")
    test = TESTED_ELSEWHERE.get(path, f"tests/{folder}/test_{name}")
    return f"`{test}`" if (ROOT / test).is_file() else "-"


if __name__ == "__main__":
    PAGE.write_text(paper_map(), encoding="utf-8")
