"""Builds the kernel of verydeep.speed, once for each kind of vector; what the compiler cannot build is left out.

Everything else about the package is in pyproject.toml. After a change of the kernel: ``pip install -e .`` again, or
``python setup.py build_ext --inplace``, which takes half a minute.
"""

import hashlib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FOLDER = Path("src/verydeep/speed")
SOURCES = sorted(str(file) for file in FOLDER.glob("*.cpp"))
HEADERS = sorted(str(file) for file in FOLDER.glob("*.h"))
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


def extension(variant: str, flags: list[str]) -> Extension:
    """The kernel for one kind of vector."""
    source = b"".join(Path(file).read_bytes() for file in [*SOURCES, *HEADERS])
    fingerprint = hashlib.sha256(source).hexdigest()[:16]
    return Extension(
        f"verydeep.speed._kernel_{variant}",
        SOURCES,
        depends=HEADERS,
        define_macros=[("VERYDEEP_SOURCE", f'"{fingerprint}"')],
        extra_compile_args=["-std=c++17", "-O3", "-fno-math-errno", "-fopenmp", *flags],
        extra_link_args=["-fopenmp"],
        language="c++",
        optional=True,
    )


setup(
    ext_modules=[extension(variant, flags) for variant, flags in VARIANTS.items()],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
)
