"""verydeep: the whole of "Very Deep Convolutional Networks for Large-Scale Image Recognition" as software.

The names below are imported when they are first used, so that ``import verydeep`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from verydeep.records import package_version

if TYPE_CHECKING:
    from verydeep.apps.predict import Classifier as Classifier
    from verydeep.apps.preparation import Execution as Execution
    from verydeep.apps.train import fit as fit
    from verydeep.apps.train import resume as resume
    from verydeep.apps.train import train as train
    from verydeep.convnets.architecture import ARCHITECTURES as ARCHITECTURES
    from verydeep.convnets.foreign.twin import to_torchvision as to_torchvision
    from verydeep.convnets.model_file import load as load
    from verydeep.convnets.model_file import read_card as read_card
    from verydeep.convnets.model_file import save as save
    from verydeep.convnets.net import VeryDeep as VeryDeep
    from verydeep.convnets.weights_cache import fetch_weights as fetch_weights
    from verydeep.data.named import fetch as fetch
    from verydeep.data.open import open_data as open_data
    from verydeep.evaluation.evaluate import evaluate as evaluate
    from verydeep.evaluation.measure import posterior as posterior
    from verydeep.evaluation.protocols import PROTOCOLS as PROTOCOLS
    from verydeep.mistakes import MistakeError as MistakeError
    from verydeep.speed.accelerate import accelerate as accelerate
    from verydeep.speed.allocator import tune_allocator as tune_allocator
    from verydeep.training.recipes import RECIPES as RECIPES

__version__ = package_version()

_HOMES = {
    "ARCHITECTURES": "convnets.architecture",
    "Classifier": "apps.predict",
    "Execution": "apps.preparation",
    "MistakeError": "mistakes",
    "PROTOCOLS": "evaluation.protocols",
    "RECIPES": "training.recipes",
    "VeryDeep": "convnets.net",
    "accelerate": "speed.accelerate",
    "evaluate": "evaluation.evaluate",
    "fetch": "data.named",
    "fetch_weights": "convnets.weights_cache",
    "fit": "apps.train",
    "load": "convnets.model_file",
    "open_data": "data.datasets",
    "posterior": "evaluation.measure",
    "read_card": "convnets.model_file",
    "resume": "apps.train",
    "save": "convnets.model_file",
    "to_torchvision": "convnets.foreign.twin",
    "train": "apps.train",
    "tune_allocator": "speed.allocator",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'verydeep' has no attribute {name!r}")
    value = getattr(import_module(f"verydeep.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
