"""Runs a command and prints its time and its peak of memory; a program of its own, that imports next to nothing.

What starts a process decides what the system counts as the least of its memory: a process started by one of two
gigabytes is said to have had two gigabytes. So a small one starts it.
"""

import json
import os
import subprocess
import sys
import time

if __name__ == "__main__":
    start = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print("\n" + json.dumps({"seconds": seconds, "peak_memory_bytes": peak}), flush=True)
    sys.exit(os.waitstatus_to_exitcode(status) != 0)
