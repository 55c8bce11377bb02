"""How much memory a program takes at most, measured in a process of its own: numpy's, C's and Python's alike."""

from __future__ import annotations

import subprocess
import sys

# The peak of the process itself: that of getrusage is the parent's, too, where a parent forked.
_PROGRAM = """
import gc, sys

def peak_kib():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

{prepare}
gc.collect()
open("/proc/self/clear_refs", "w").write("5")  # from here on
_before = peak_kib()
{measured}
print((peak_kib() - _before) * 1024, file=sys.stderr)
"""


def peak_bytes_of(prepare: str, measured: str, *arguments: object, limit_s: float = 60.0) -> int:
    """By which the process grew at most while it ran `measured`; both are program text. Linux only."""
    program = _PROGRAM.format(prepare=prepare, measured=measured)
    command = [sys.executable, "-c", program, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    if ended.returncode:
        raise AssertionError(ended.stderr[-2000:])
    return int(ended.stderr.splitlines()[-1])
