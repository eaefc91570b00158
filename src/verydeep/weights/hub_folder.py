"""A folder of a model as the Hugging Face hub shows it: weights, config.json and a README with a card at its head."""

import json
import re
from pathlib import Path
from typing import Any, Final

from verydeep.cli.card import card_facts
from verydeep.convnets.foreign.targets import TARGETS
from verydeep.errors import UsageError, UserError
from verydeep.evaluation.protocols import find_protocol
from verydeep.files import atomic_write
from verydeep.nets.model_card import ModelCard
from verydeep.nets.model_file import MODEL_FILE, Names, load, read_card, save
from verydeep.nets.net import VeryDeep

CONFIG_FILE: Final = "config.json"
README_FILE: Final = "README.md"

_HUB_LICENCES: Final = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0")
_DATASET_NAME = re.compile(r"[\w-]+(\.[\w-]+)*")


def write_model_folder(model: str | Path, folder: str | Path) -> Path:
    """Writes a folder that ``huggingface_hub`` uploads as it is.

    ``model.safetensors`` in it has timm's names where timm has such a net, so that timm loads the folder too, and our
    own elsewhere; ``verydeep`` loads either.

    Args:
        model: a model file, a run folder or a published name.
        folder: a new or empty folder.

    Returns:
        The folder.

    Raises:
        UserError: the model cannot be read, or the folder not be written.
        UsageError: the folder holds something already.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--out {folder} holds something already: give a new folder")
    net, card = load(model), read_card(model)
    names: Names = "timm" if timm_holds(net) else "verydeep"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # what takes room first: a folder with the texts alone would look whole
            save(net, folder / MODEL_FILE, card=card, precision=card.precision, names=names)
            _write(folder / CONFIG_FILE, json.dumps(hub_config(net, card), indent=2, ensure_ascii=False) + "\n")
            _write(folder / README_FILE, readme(folder.resolve().name, net, card))
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


def timm_holds(net: VeryDeep) -> bool:
    """Whether timm has a net of this shape."""
    try:
        TARGETS["timm"].check(net)
    except UsageError:
        return False
    return True


def timm_name(net: VeryDeep) -> str:
    """What timm calls a net that it has, such as ``vgg16_bn``."""
    geometry = net.geometry
    return f"vgg{geometry.architecture.weight_layers}" + ("_bn" if geometry.batch_norm else "")


def hub_config(net: VeryDeep, card: ModelCard) -> dict[str, Any]:
    """Says in timm's form what net it is and what it does to an image."""
    geometry, preprocessing = net.geometry, TARGETS["timm"].expects(net)
    scale = find_protocol("centre").test_scales(net)[0]
    in_timm = timm_holds(net)
    names = {} if net.classes is None else {"label_names": list(net.classes)}
    last = [module.out_channels for name, module in net.named_children() if name in ("fc7", _last_convolution(net))]
    return {
        "architecture": timm_name(net) if in_timm else geometry.title,
        "num_classes": 0 if net.features_only else geometry.num_classes,
        "num_features": last[-1],
        **names,
        "pretrained_cfg": {
            "tag": "verydeep",
            "custom_load": False,
            "input_size": [3, geometry.crop, geometry.crop],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": geometry.crop / scale,
            "crop_mode": "center",
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "num_classes": 0 if net.features_only else geometry.num_classes,
            "pool_size": [geometry.fc6_kernel, geometry.fc6_kernel],
            "first_conv": "features.0" if in_timm else "conv1_1",
            "classifier": "head.fc" if in_timm else "fc8",
        },
        "verydeep": card.model_dump(mode="json", exclude={"classes", "names", "precision"}),
    }


def _last_convolution(net: VeryDeep) -> str:
    return [name for name, _ in net.named_children() if name.startswith("conv")][-1]


def readme(name: str, net: VeryDeep, card: ModelCard) -> str:
    """Writes the model card of the hub: YAML at its head, then what a person reads."""
    head = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in _head(name, net, card).items())
    facts = "\n".join(f"| {key} | {_cell(fact)} |" for key, fact in card_facts(card).items())
    return f"---\n{head}\n---\n# {name}\n\n{_title(net)}\n\n|  |  |\n|---|---|\n{facts}\n\n## Use\n\n{_use(net)}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _head(name: str, net: VeryDeep, card: ModelCard) -> dict[str, Any]:
    """The fields of the hub, each value as JSON, which is YAML too."""
    task = "image-feature-extraction" if net.features_only else "image-classification"
    in_timm = timm_holds(net)
    tags = [task, "vgg", "verydeep", "arxiv:1409.1556", *(["timm"] if in_timm else [])]
    head: dict[str, Any] = {"tags": tags, "pipeline_tag": task, "library_name": "timm" if in_timm else "verydeep"}
    head |= _licence(card.licence)
    if card.data is not None and _DATASET_NAME.fullmatch(card.data.name):
        head["datasets"] = [card.data.name]
    if measured := [result for result in card.results if result.get("top1_error") is not None]:
        head["metrics"] = ["accuracy"]
        head["model-index"] = [{"name": name, "results": [_result(result, task, card) for result in measured]}]
    return head


def _licence(licence: str | None) -> dict[str, str]:
    if licence is None:
        return {"license": "unknown"}
    first = licence.lower().partition(",")[0]
    if first in _HUB_LICENCES:
        return {"license": first}
    return {"license": "other", "license_name": "see-below"}


def _result(result: dict[str, Any], task: str, card: ModelCard) -> dict[str, Any]:
    data = result.get("data") or (card.data.name if card.data else "unknown")
    metrics = [
        {"type": "accuracy", "name": f"{rank} accuracy by {result.get('protocol', 'unknown')}", "value": 1 - error}
        for rank, key in (("top-1", "top1_error"), ("top-5", "top5_error"))
        if (error := result.get(key)) is not None
    ]
    dataset = {"type": data, "name": data, "split": result.get("split", "unknown")}
    return {"task": {"type": task}, "dataset": dataset, "metrics": metrics}


def _title(net: VeryDeep) -> str:
    return (
        f"A net of the paper *Very Deep Convolutional Networks for Large-Scale Image Recognition* (arXiv:1409.1556): "
        f"{net.geometry.title}. The net eats RGB in 0..255: its mean and divisor are in the file."
    )


def _use(net: VeryDeep) -> str:
    verydeep = (
        'Download the folder, then:\n\n```python\nimport verydeep\n\nnet = verydeep.load("FOLDER")\n'
        + ("" if net.features_only else 'print(verydeep.Classifier("FOLDER").predict("photo.jpg"))\n')
        + "```\n"
    )
    if not timm_holds(net):
        return verydeep
    return (
        verydeep + "\ntimm reads the same file:\n\n```python\nimport timm\n\n"
        'model = timm.create_model("hf-hub:OWNER/NAME", pretrained=True).eval()\n'
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))\n```\n"
    )
