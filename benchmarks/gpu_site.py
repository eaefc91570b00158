"""Unpacks the wheels that were carried along and are needed here: python benchmarks/gpu_site.py WHEELS SITE.

A machine with a GPU may have no network, and of the packages only some. A wheel is unpacked into SITE when the machine
has no such distribution or an older one; SITE then goes on PYTHONPATH. Nothing that is installed is changed.
"""

import re
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def release(text: str) -> tuple[int, ...]:
    """The numbers of a version, to compare by."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0]))


def is_needed(wheel: Path) -> bool:
    """Whether the machine has not got the distribution of a wheel, or an older one."""
    name, carried = wheel.name.split("-")[:2]
    try:
        return release(version(name.replace("_", "-"))) < release(carried)
    except PackageNotFoundError:
        return True


def main() -> None:
    """Unpacks what is needed and says what it was."""
    wheels, site = (Path(argument) for argument in sys.argv[1:3])
    needed = [wheel for wheel in sorted(wheels.glob("*.whl")) if is_needed(wheel)]
    site.mkdir(parents=True, exist_ok=True)
    for wheel in needed:
        zipfile.ZipFile(wheel).extractall(site)
    print(f"unpacked into {site}: {', '.join('-'.join(wheel.name.split('-')[:2]) for wheel in needed) or 'nothing'}")


if __name__ == "__main__":
    main()
