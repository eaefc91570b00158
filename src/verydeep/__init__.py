"""verydeep: the whole of "Very Deep Convolutional Networks for Large-Scale Image Recognition" as software.

The names below are imported when they are first used, so that ``import verydeep`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from verydeep import losses as losses
    from verydeep import sklearn as sklearn
    from verydeep.data.named import fetch as fetch
    from verydeep.data.open import open_data as open_data
    from verydeep.errors import UserError as UserError
    from verydeep.localisation.localiser import Localiser as Localiser
    from verydeep.nets.architecture import ARCHITECTURES as ARCHITECTURES
    from verydeep.nets.model_file import save as save
    from verydeep.nets.net import VeryDeep as VeryDeep
    from verydeep.runs.fit import fit as fit
    from verydeep.runs.fit import train as train
    from verydeep.runs.options import ComputeOptions as ComputeOptions
    from verydeep.runs.options import TrainOptions as TrainOptions
    from verydeep.runs.resume import resume as resume
    from verydeep.speed.accelerate import accelerate as accelerate
    from verydeep.speed.allocator import tune_allocator as tune_allocator
    from verydeep.speed.waiting import wait_politely as wait_politely
    from verydeep.testing.classifier import Classifier as Classifier
    from verydeep.testing.classifier import posterior as posterior
    from verydeep.testing.descriptors import DescriptorOptions as DescriptorOptions
    from verydeep.testing.descriptors import describe as describe
    from verydeep.testing.evaluate import evaluate as evaluate
    from verydeep.testing.protocols import PROTOCOLS as PROTOCOLS
    from verydeep.training.recipe import RECIPES as RECIPES
    from verydeep.training.state import Callback as Callback
    from verydeep.training.state import TrainState as TrainState
    from verydeep.transfer.features import extract_features as extract_features
    from verydeep.transfer.features_file import FeaturesFile as FeaturesFile
    from verydeep.weights.fetch import fetch_weights as fetch_weights
    from verydeep.weights.resolve import load as load
    from verydeep.weights.resolve import read_card as read_card
    from verydeep.weights.writers.torch import to_torchvision as to_torchvision

_HOMES = {
    "ARCHITECTURES": "nets.architecture",
    "Callback": "training.state",
    "Classifier": "testing.classifier",
    "ComputeOptions": "runs.options",
    "DescriptorOptions": "testing.descriptors",
    "FeaturesFile": "transfer.features_file",
    "Localiser": "localisation.localiser",
    "PROTOCOLS": "testing.protocols",
    "RECIPES": "training.recipe",
    "UserError": "errors",
    "VeryDeep": "nets.net",
    "accelerate": "speed.accelerate",
    "describe": "testing.descriptors",
    "evaluate": "testing.evaluate",
    "extract_features": "transfer.features",
    "fetch": "data.named",
    "fetch_weights": "weights.fetch",
    "fit": "runs.fit",
    "load": "weights.resolve",
    "open_data": "data.open",
    "TrainOptions": "runs.options",
    "TrainState": "training.state",
    "posterior": "testing.classifier",
    "read_card": "weights.resolve",
    "resume": "runs.resume",
    "save": "nets.model_file",
    "to_torchvision": "weights.writers.torch",
    "train": "runs.fit",
    "tune_allocator": "speed.allocator",
    "wait_politely": "speed.waiting",
}

_OLD_NAMES = {"Execution": "ComputeOptions", "MistakeError": "UserError"}
"""Names of version 0.1, kept until 0.3."""

_ROOMS = ("losses", "sklearn")
"""Modules that are public as a whole."""

__all__ = [*_HOMES, *_ROOMS]


def __getattr__(name: str) -> object:
    name = _OLD_NAMES.get(name, name)
    value: object
    if name == "__version__":  # the package index takes as long as the rest of `verydeep --help`
        value = import_module("verydeep.machine").package_version()
    elif name in _ROOMS:
        value = import_module(f"verydeep.{name}")
    elif name in _HOMES:
        value = getattr(import_module(f"verydeep.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'verydeep' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
