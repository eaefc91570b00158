"""A folder for the Hugging Face hub: the model file, its card as config.json, and a README by huggingface_hub."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write
from verydeep.nets.model_card import ModelCard, card_facts
from verydeep.nets.model_file import save
from verydeep.nets.stored_net import MODEL_FILE
from verydeep.weights.resolve import load, read_card

if TYPE_CHECKING:
    import huggingface_hub

CONFIG_FILE: Final = "config.json"
README_FILE: Final = "README.md"

_HUB_LICENCES: Final = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0")
_DATASET_NAME = re.compile(r"[\w-]+(\.[\w-]+)*")


def write_hub_folder(model: str | Path, folder: str | Path) -> Path:
    """Writes a new folder that ``huggingface_hub`` uploads as it is, and that ``verydeep`` loads; returns it.

    Raises:
        UserError: huggingface_hub is not installed, the model cannot be read, or the folder not be written.
        UsageError: the folder holds something already.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--out {folder} holds something already: give a new folder")
    card = read_card(model)
    text = str(hub_card(folder.resolve().name, card))
    net = load(model)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # what takes room first: a folder with the texts alone would look whole
            save(net, folder / MODEL_FILE, card=card, precision=card.precision)
            _write(folder / CONFIG_FILE, card.model_dump_json(indent=2, exclude={"names"}) + "\n")
            _write(folder / README_FILE, text)
        except BaseException:  # Ctrl-C too: the same command has to find the folder empty
            for name in (MODEL_FILE, CONFIG_FILE, README_FILE):
                (folder / name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def _write(file: Path, text: str) -> None:
    with atomic_write(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def hub_card(name: str, card: ModelCard) -> "huggingface_hub.ModelCard":
    """Returns the README: the hub's fields at its head, then the card in words and two lines of use."""
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise UserError(
            "huggingface_hub, which writes the hub's card, is not installed: pip install 'verydeep[hub]'"
        ) from error
    task = "image-feature-extraction" if card.features_only else "image-classification"
    licence = _hub_licence(card.licence)
    measured = [result for result in card.results if result.get("top1_error") is not None]
    data = card.data.name if card.data and _DATASET_NAME.fullmatch(card.data.name) else None
    head = hub.ModelCardData(
        license=licence,
        license_name="see-below" if licence == "other" else None,
        datasets=data and [data],
        eval_results=[figure for result in measured for figure in _eval_results(result, task, card)] or None,
        library_name="verydeep",
        metrics=["accuracy"] if measured else None,
        model_name=name if measured else None,
        pipeline_tag=task,
        tags=[task, "vgg", "verydeep", "arxiv:1409.1556"],
    )
    facts = "\n".join(f"| {key} | {_cell(fact)} |" for key, fact in card_facts(card).items())
    predict = "" if card.features_only else 'print(verydeep.Classifier("FOLDER").predict("photo.jpg"))\n'
    return hub.ModelCard(
        f"---\n{head.to_yaml()}\n---\n# {name}\n\n"
        "A net of the paper *Very Deep Convolutional Networks for Large-Scale Image Recognition* (arXiv:1409.1556): "
        f"{card.geometry.title}. The net eats RGB in 0..255: its mean and divisor are in the file.\n\n"
        f"|  |  |\n|---|---|\n{facts}\n\n## Use\n\nDownload the folder, then:\n\n"
        f'```python\nimport verydeep\n\nnet = verydeep.load("FOLDER")\n{predict}```\n'
    )


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _hub_licence(licence: str | None) -> str:
    first = (licence or "unknown").lower().partition(",")[0]
    return first if licence is None or first in _HUB_LICENCES else "other"


def _eval_results(result: dict[str, Any], task: str, card: ModelCard) -> "list[huggingface_hub.EvalResult]":
    from huggingface_hub import EvalResult

    data = result.get("data") or (card.data.name if card.data else "unknown")
    return [
        EvalResult(
            task_type=task,
            dataset_type=data,
            dataset_name=data,
            dataset_split=result.get("split", "unknown"),
            metric_type="accuracy",
            metric_name=f"{rank} accuracy by {result.get('protocol', 'unknown')}",
            metric_value=1 - error,
        )
        for rank, key in (("top-1", "top1_error"), ("top-5", "top5_error"))
        if (error := result.get(key)) is not None
    ]
