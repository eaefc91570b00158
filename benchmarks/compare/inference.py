"""Inference: the scores of a batch, by the engine and by the libraries that compute the same net."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.compare.contender import Case, Contender, Options, Row, scores_error
from benchmarks.compare.nets import as_torchvision_builds_it, make_net, normalised, random_images
from benchmarks.compare.peer_ncnn import ncnn_net
from benchmarks.compare.peer_onnxruntime import onnx_runtime
from benchmarks.compare.peer_openvino import openvino_net
from benchmarks.compare.peer_torch import Bind, compiled, eager, timm_net
from benchmarks.compare.photographs import find_photographs, scaled_crops
from verydeep.nets.architecture import layers
from verydeep.nets.net import VeryDeep
from verydeep.speed.accelerate import Accelerated, accelerate

_BATCHES = (1, 8)
_ROUNDS = 7


class Inference:
    """The scores of batches of crops.

    Args:
        options: of the measurement.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.notes: tuple[str, ...] = ()
        self._images: dict[int, Tensor] = {}

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions that the contenders compute in."""
        return ("fp32", "bf16") if self.options.precision == "auto" else (self.options.precision,)

    def cases(self) -> Sequence[Case]:
        """A case for each number of images."""
        macs = sum(layer.macs for layer in layers(self._net.geometry))
        return [
            Case(
                name=f"{self._net.geometry.title}, batch {batch}",
                contenders=self._contenders(batch),
                images=batch,
                rounds=_ROUNDS,
                macs=macs,
                errors=self._errors(batch),
            )
            for batch in self.options.batches or _BATCHES
        ]

    def extra(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """Nothing more."""
        return {}

    @cached_property
    def _net(self) -> VeryDeep:
        return make_net(self.options)

    @cached_property
    def _twin(self) -> nn.Module:
        return as_torchvision_builds_it(self._net)

    def _batch(self, count: int) -> Tensor:
        if count not in self._images:
            side = self._net.geometry.crop
            data = self.options.data
            self._images[count] = (
                random_images(count, side) if data is None else scaled_crops(find_photographs(data, count), side)
            )
        return self._images[count]

    def _errors(self, batch: int) -> Callable[[Any], dict[str, float]]:
        def errors(outputs: Any) -> dict[str, float]:  # noqa: ANN401 - scores by name
            images = self._batch(batch)
            net = copy.deepcopy(self._net).double()
            return scores_error(torch.cat([net(image[None]) for image in images]))(outputs)

        return errors

    def _contenders(self, batch: int) -> tuple[Contender, ...]:
        found = [self._ours(batch)]
        for precision in self.precisions:
            found += self._peers(batch, precision)
        return tuple(found)

    def _ours(self, batch: int) -> Contender:
        asked = self.options.precision

        made: list[Accelerated] = []

        def make() -> Callable[[], Tensor]:
            images, calibrate = self._batch(batch), self._calibration(batch) if asked == "int8" else None
            fast = accelerate(self._net, precision=asked, calibrate=calibrate)
            made[:] = [fast]
            return lambda: fast(images)

        return Contender(
            name=f"verydeep {version_of('verydeep')}",
            make=make,
            is_ours=True,
            precision_taken=lambda: made[0].precision,
            computed_by=lambda: made[0].engine,
        )

    def _calibration(self, batch: int) -> Tensor:
        """Images that fix the ranges of int8: others than those it is timed on where there are others."""
        data, count, side = self.options.data, max(32, batch), self._net.geometry.crop
        if data is None:
            return random_images(count + batch, side)[batch:]
        return scaled_crops(find_photographs(data, count + batch)[batch:], side)

    def _peers(self, batch: int, precision: str) -> list[Contender]:
        threads = self.options.threads

        def contender(name: str, package: str, make: Callable[[], Bind]) -> Contender:
            return Contender(
                name=f"{name} {version_of(package)}".strip(),
                make=partial(self._bound, make, batch),
                package=package,
                precision=precision,
            )

        def example() -> Tensor:
            return normalised(self._net, self._batch(batch))

        def quantisable() -> Bind:
            calibrate = normalised(self._net, self._calibration(batch)) if precision == "int8" else None
            return openvino_net(self._twin, example(), threads, precision=precision, calibrate=calibrate)

        peers = [contender("OpenVINO", "openvino", quantisable)]
        if precision == "int8":
            return peers
        peers += [
            contender(
                "torchvision, channels last,",
                "torchvision",
                lambda: eager(self._twin, channels_last=True, precision=precision),
            ),
            contender("torch.compile", "torch", lambda: compiled(self._twin, precision=precision, tune=False)),
            contender(
                "torch.compile, max-autotune,", "torch", lambda: compiled(self._twin, precision=precision, tune=True)
            ),
            contender(
                "timm, channels last,", "timm", lambda: timm_net(self._net, channels_last=True, precision=precision)
            ),
        ]
        if precision == "fp32":
            peers += [
                contender(
                    "torchvision", "torchvision", lambda: eager(self._twin, channels_last=False, precision=precision)
                ),
                contender("timm", "timm", lambda: timm_net(self._net, channels_last=False, precision=precision)),
                contender("ONNX Runtime", "onnxruntime", lambda: onnx_runtime(self._twin, example(), threads)),
                contender("ncnn", "ncnn", lambda: ncnn_net(self._twin, threads)),
            ]
        return peers

    def _bound(self, make: Callable[[], Bind], batch: int) -> Callable[[], Tensor]:
        call: Callable[[], Tensor] = make()(normalised(self._net, self._batch(batch)))
        return call


def version_of(package: str) -> str:
    """The version of a package that is installed, or nothing."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return ""
