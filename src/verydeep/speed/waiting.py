"""How the threads that compute wait for each other: awake for a moment, then asleep, so that other processes go on."""

import os
from pathlib import Path

SETTINGS = {
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "1000",
    "KMP_BLOCKTIME": "1",
}
"""What OpenMP's libraries read when they load: libgomp the first two, libomp, which torch has on macOS, the last.

Two threads that wait awake beside a busy process fall to a fortieth of their speed, for the one that has the core waits
for the one that has not.
"""


def wait_politely() -> bool:
    """Lets threads that wait for each other go to sleep, so that a machine shared with others is not slowed down.

    Changes the environment of the process: the command line calls it, an import never does. What the user has set
    stays. To be called before torch, scikit-learn or a net is used: their OpenMP reads it once.

    Returns:
        Whether it came in time; False where an OpenMP library is loaded already.
    """
    if SETTINGS.keys().isdisjoint(os.environ):
        os.environ.update(SETTINGS)
    try:
        loaded = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return "libgomp" not in loaded and "libomp" not in loaded
