"""The compiled kernel: found, chosen for this processor, and called.

The C++ in ``kernel/`` is built once for each kind of vector, and the best that the processor has is loaded. The
environment variable ``VERYDEEP_KERNEL`` names another: avx512, avx2 or plain, or none to compute without.

It needs no torch. Where torch is in the process, before or after it, both compute with one libgomp.
"""

import ctypes
import hashlib
import os
from ctypes import c_char_p, c_float, c_int, c_long, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, Float64, Num
from numpy import ndarray

from verydeep.device import num_threads
from verydeep.errors import UsageError
from verydeep.machine import cpu_features, l2_cache
from verydeep.speed.checks import check_shape
from verydeep.speed.memory import Buffer, huge_pages

KERNELS = {
    "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl"),
    "avx2": ("avx2", "fma"),
    "plain": (),
}
"""The kernels, the fastest first, with what the processor must have for each."""

VARIABLE = "VERYDEEP_KERNEL"
_HERE = Path(__file__).parent

_FUNCTIONS: dict[str, tuple[type | None, list[type]]] = {
    "channels": (c_int, [c_int]),
    "most_channels": (c_int, []),
    "pack_winograd": (None, [c_void_p, c_void_p, c_int, c_int, c_void_p, c_int]),
    "pack_direct": (None, [c_void_p, c_void_p, c_int, c_int, c_int, c_int, c_void_p]),
    "winograd_floats": (c_size_t, [c_long, c_int, c_int, c_int, c_long]),
    "winograd": (None, [c_void_p, *[c_int] * 5, c_void_p, c_void_p, c_int, c_void_p, c_void_p, c_int, c_long]),
    "direct_floats": (c_size_t, [c_int] * 5),
    "direct": (None, [c_void_p, *[c_int] * 6, c_void_p, c_void_p, c_int, c_void_p, c_void_p, c_int]),
    "first": (
        None,
        [c_void_p, c_int, *[c_void_p] * 3, *[c_int] * 5, c_void_p, c_void_p, c_int, c_void_p, c_void_p, c_int],
    ),
    "normalise_and_pool": (None, [c_void_p, *[c_int] * 4, c_float, c_float, c_void_p, c_int]),
    "fully_connected_floats": (c_size_t, [c_long, c_int]),
    "pack_for_training": (None, [c_void_p, *[c_int] * 3, c_void_p, c_int]),
    "training_forward": (
        None,
        [c_void_p, *[c_int] * 5, c_void_p, c_void_p, c_int, c_int, *[c_void_p] * 3, c_int, c_long],
    ),
    "input_gradient": (None, [*[c_void_p] * 3, *[c_int] * 5, *[c_void_p] * 3, c_int, c_long]),
    "weight_gradient_floats": (c_size_t, [c_long, c_int, c_int]),
    "weight_gradient": (None, [*[c_void_p] * 4, *[c_int] * 5, *[c_void_p] * 3, c_int]),
    "fully_connected": (None, [c_void_p, c_long, c_long, c_int, c_void_p, c_void_p, c_int, c_void_p, c_void_p, c_int]),
}


class NoKernelError(Exception):
    """There is no kernel to compute with: the message says why, and the remedy."""


@dataclass(frozen=True)
class Packed:
    """The weights of one convolution, laid out for the kernel: for Winograd's algorithm, or in panels."""

    kernel: int  # its side
    weights: Float32[ndarray, "floats"]
    bias: Float32[ndarray, "k"]  # padded
    is_winograd: bool

    def check(self, channels: int, *, is_winograd: bool) -> None:
        """Refuses what a convolution of a map of some channels would read past the end of."""
        floats = channels * len(self.bias) * (36 if is_winograd else self.kernel**2)
        if self.is_winograd != is_winograd or len(self.weights) != floats:
            raise UsageError(f"weights of {len(self.weights):,} numbers: a map of {channels} channels takes {floats:,}")


class Kernel:
    """One of the libraries, loaded.

    Maps are n,y,x,c with the channels rounded up to ``channels``; those that are not there are zero. Every method
    computes with ``threads``, gives a view of the buffer it was given, and raises UsageError for arrays of another kind
    or whose shapes do not fit: the native code would read past their end. What a method takes as ``result`` is where
    its map goes; ``work`` is overwritten.

    Args:
        name: a key of ``KERNELS``.

    Raises:
        NoKernelError: it was not built, or from another source.
    """

    _several_in: ClassVar[int | None] = None
    """The process that has computed with several threads, by its number."""

    def __init__(self, name: str) -> None:
        self.name = name
        file = _HERE / f"_kernel_{name}.so"
        if not file.exists():
            raise NoKernelError(f"the kernel {name} was not built: install a C++ compiler, then verydeep again")
        try:
            library = _load(file)
        except OSError as error:
            remedy = "install libgomp (apt install libgomp1)" if "libgomp" in str(error) else "install verydeep again"
            raise NoKernelError(f"the kernel {name} cannot be loaded ({error}): {remedy}") from error
        self._call = {}
        library.verydeep_source.restype = c_char_p
        if library.verydeep_source().decode() != _fingerprint():
            raise NoKernelError(f"the kernel {name} was built from another source: install verydeep again")
        for function, (result, arguments) in _FUNCTIONS.items():
            call = getattr(library, f"verydeep_{function}")
            call.restype, call.argtypes = result, arguments
            self._call[function] = call
        self.cache = l2_cache()
        self.most_channels: int = self._call["most_channels"]()

    def call(self, function: str, *arguments: object) -> Any:  # noqa: ANN401 - what C gives
        """Calls a function of the library: arrays as the addresses of their memory, which stays theirs."""
        return self._call[function](
            *(argument.ctypes.data if isinstance(argument, ndarray) else argument for argument in arguments)
        )

    def threads(self) -> int:
        """Number of threads to compute with, on which no sum depends.

        It is 1 in a process forked from one that has computed with several: libgomp would wait there for threads that
        did not come along.
        """
        count, process = num_threads(), os.getpid()
        if count > 1 and Kernel._several_in is None:
            Kernel._several_in = process
        return count if Kernel._several_in in (None, process) else 1

    def channels(self, count: int) -> int:
        """Rounds a number of channels up to what maps have."""
        rounded: int = self._call["channels"](count)
        return rounded

    def pack(
        self,
        weight: Float32[ndarray, "k c s s"],
        bias: Float64[ndarray, "k"],
        factor: Float64[ndarray, "k"],
        *,
        padded: bool = True,
    ) -> Packed:
        """Lays out weights times a factor for each output channel; those of images have input channels not padded."""
        if weight.ndim != 4 or weight.shape[2] % 2 == 0:
            raise UsageError(f"weight of shape {tuple(weight.shape)}: give k,c,s,s of an odd s")
        k, c, side, _ = weight.shape
        if not 0 < min(k, c) <= max(k, c) <= self.most_channels:
            raise UsageError(f"weight of {k} and {c} channels: the kernel takes 1 to {self.most_channels:,}")
        check_shape(weight, "weight", (k, c, side, side))
        check_shape(bias, "bias", (k,), "float64")
        check_shape(factor, "factor", (k,), "float64")
        given, out = self.channels(c) if padded else c, self.channels(k)
        weight, factor = np.ascontiguousarray(weight), np.ascontiguousarray(factor)
        padded_bias = np.zeros(out, np.float32)
        padded_bias[:k] = bias
        is_winograd = side == 3 and padded
        packed = huge_pages(given * out * (36 if is_winograd else side * side))
        if is_winograd:
            self.call("pack_winograd", weight, factor, k, c, packed, self.threads())
        else:
            self.call("pack_direct", weight, factor, k, c, given, side, packed)
        return Packed(kernel=side, weights=packed, bias=padded_bias, is_winograd=is_winograd)

    def first(
        self,
        images: Num[ndarray, "n 3 h w"],
        mean: Float32[ndarray, "3"],
        divisor: Float32[ndarray, "3"],
        packed: Packed,
        *,
        pool: bool,
        result: Buffer,
        work: Buffer,
    ) -> Float32[ndarray, "n i j k"]:
        """Normalises images of any memory layout, uint8 or float32, convolves, rectifies, pools where asked for."""
        is_bytes = images.dtype == np.uint8
        check_shape(images, "images", (None, 3, None, None), "uint8" if is_bytes else "float32")
        check_shape(mean, "mean", (3,), contiguous=True)
        check_shape(divisor, "divisor", (3,), contiguous=True)
        packed.check(3, is_winograd=False)
        (n, _, height, width), out, threads = images.shape, len(packed.bias), self.threads()
        to = result.take(n, *_pooled(height, width, pool), out)
        space = work.take(self.call("direct_floats", width, 3, out, packed.kernel, threads))
        if any(stride % images.itemsize for stride in images.strides):
            images = images.copy()
        strides = (c_long * 4)(*(stride // images.itemsize for stride in images.strides))
        source = [images, is_bytes, strides, mean, divisor]
        sizes = [n, height, width, out, packed.kernel]
        self.call("first", *source, *sizes, packed.weights, packed.bias, pool, to, space, threads)
        return to

    def convolve(
        self, map_: Float32[ndarray, "n y x c"], packed: Packed, *, pool: bool, result: Buffer, work: Buffer
    ) -> Float32[ndarray, "n i j k"]:
        """Convolves with stride 1 so that the resolution stays, adds the bias, rectifies, pools where asked for."""
        check_shape(map_, "map", (None, None, None, None), contiguous=True)
        packed.check(map_.shape[3], is_winograd=packed.is_winograd)
        (n, height, width, c), out, threads = map_.shape, len(packed.bias), self.threads()
        to = result.take(n, *_pooled(height, width, pool), out)
        sizes = [n, height, width, c, out]
        weights = [packed.weights, packed.bias, pool, to]
        if packed.is_winograd:
            space = work.take(self.call("winograd_floats", tiles(n, height, width), c, out, threads, self.cache))
            self.call("winograd", map_, *sizes, *weights, space, threads, self.cache)
        else:
            space = work.take(self.call("direct_floats", width, c, out, packed.kernel, threads))
            self.call("direct", map_, *sizes, packed.kernel, *weights, space, threads)
        return to

    def normalise_and_pool(
        self, map_: Float32[ndarray, "n y x c"], alpha: float, k: float, result: Buffer
    ) -> Float32[ndarray, "n i j c"]:
        """Local response normalisation over five channels with beta 0.75, alpha on the plain sum of squares; pools.

        Paper: section 2.1.
        """
        check_shape(map_, "map", (None, None, None, None), contiguous=True)
        n, height, width, channels = map_.shape
        to = result.take(n, height // 2, width // 2, channels)
        self.call("normalise_and_pool", map_, n, height, width, channels, alpha, k, to, self.threads())
        return to

    def fully_connected(
        self,
        rows: Float32[ndarray, "r c"],
        weight: Float32[ndarray, "k c"],
        bias: Float32[ndarray, "k"],
        *,
        rectify: bool,
        result: Buffer,
        work: Buffer,
    ) -> Float32[ndarray, "r k"]:
        """Multiplies rows with weights as PyTorch has them, adds the bias, rectifies where asked for."""
        check_shape(rows, "rows", (None, None), contiguous=True)
        check_shape(weight, "weight", (None, rows.shape[1]), contiguous=True)
        check_shape(bias, "bias", (len(weight),), contiguous=True)
        (count, length), out, threads = rows.shape, len(weight), self.threads()
        to = result.take(count, out)
        space = work.take(self.call("fully_connected_floats", count, threads))
        self.call("fully_connected", rows, count, length, out, weight, bias, rectify, to, space, threads)
        return to


_loaded = cache(Kernel)


def _load(file: Path) -> Any:  # noqa: ANN401 - a CDLL, whose functions have no types
    """Loads a library with the system's libgomp, or with torch's where the system has none; torch is not imported."""
    try:
        return ctypes.CDLL(str(file))
    except OSError as error:
        found = find_spec("torch") if "libgomp" in str(error) else None
        if found is None or found.origin is None:
            raise
        ctypes.CDLL(str(Path(found.origin).parent / "lib/libgomp.so.1"))
        return ctypes.CDLL(str(file))


def find_kernel() -> Kernel:
    """Finds the fastest kernel that was built and that this processor can run, or the one that was asked for.

    Raises:
        NoKernelError: there is none, or none is wanted.
        UsageError: the environment asks for one that there is not.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "none":
        raise NoKernelError(f"{VARIABLE}=none asks for it")
    if wanted and wanted not in KERNELS:
        raise UsageError(f"{VARIABLE}={wanted}: choose one of {', '.join(KERNELS)} or none")
    runnable = [name for name, needs in KERNELS.items() if cpu_features().issuperset(needs)]
    if wanted:
        if wanted not in runnable:
            raise UsageError(f"{VARIABLE}={wanted}: this processor can run {', '.join(runnable)}")
        try:
            return _loaded(wanted)
        except NoKernelError as error:
            raise UsageError(f"{VARIABLE}={wanted}: {error}") from error
    reasons = []
    for name in runnable:
        try:
            return _loaded(name)
        except NoKernelError as error:
            reasons.append(error)
    raise reasons[0]


def has_kernel() -> bool:
    """Whether there is a kernel to compute with; raises UsageError as ``find_kernel`` does."""
    try:
        find_kernel()
    except NoKernelError:
        return False
    return True


@cache
def _fingerprint() -> str:
    sources = _HERE / "kernel"
    files = [*sorted(sources.glob("*.cpp")), *sorted(sources.glob("*.h"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def tiles(n: int, height: int, width: int) -> int:
    """Counts the tiles of 4x4 places that Winograd's algorithm cuts maps into."""
    return n * -(-height // 4) * -(-width // 4)


def _pooled(height: int, width: int, pool: bool) -> tuple[int, int]:
    return (height // 2, width // 2) if pool else (height, width)
