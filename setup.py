"""Builds the C++ sources, once for each kind of vector; what the compiler cannot build is left out.

Everything else about the package is in pyproject.toml. After a change of one of them: ``pip install -e .`` again, or
``python setup.py build_ext --inplace``, which takes half a minute.
"""

import hashlib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

LIBRARIES = {
    "verydeep.speed._kernel": "src/verydeep/speed/kernel",
    "verydeep.images._resample": "src/verydeep/images",
    "verydeep.localisation._merging": "src/verydeep/localisation",
}
"""The libraries, each with the folder of its sources."""

OF_ONE_KIND = ("verydeep.localisation._merging",)
"""Those that choose their vectors themselves; they round as NumPy does, so without fused operations."""

VARIANTS = {
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"],
    "avx2": ["-mavx2", "-mfma"],
    "plain": [],
}


class BuildKernels(build_ext):
    """Names the libraries as they are: no module of Python, the same for every Python."""

    def get_ext_filename(self, fullname: str) -> str:
        """The path of a library, such as ``verydeep/speed/_kernel_avx2.so``."""
        return fullname.replace(".", "/") + ".so"


class Wheel(bdist_wheel):
    """Names the wheel for its platform and for every Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        """The tags of the wheel's name."""
        return "py3", "none", super().get_tag()[2]


def extension(library: str, folder: str, variant: str, flags: list[str]) -> Extension:
    """A library for one kind of vector."""
    sources, headers = (sorted(str(file) for file in Path(folder).glob(kind)) for kind in ("*.cpp", "*.h"))
    written = b"".join(Path(file).read_bytes() for file in [*sources, *headers])
    fingerprint = hashlib.sha256(written).hexdigest()[:16]
    flags = [*flags, "-ffp-contract=off"] if library in OF_ONE_KIND else flags
    threads = ["-fopenmp"] if library.endswith("_kernel") else []  # the other may be loaded before torch and its OpenMP
    return Extension(
        f"{library}_{variant}",
        sources,
        depends=headers,
        define_macros=[("VERYDEEP_SOURCE", f'"{fingerprint}"')],
        extra_compile_args=["-std=c++17", "-O3", "-fno-math-errno", *threads, *flags],
        extra_link_args=threads,
        language="c++",
        optional=True,
    )


setup(
    ext_modules=[
        extension(library, folder, variant, flags)
        for library, folder in LIBRARIES.items()
        for variant, flags in VARIANTS.items()
        if variant == "plain" or library not in OF_ONE_KIND
    ],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
)
