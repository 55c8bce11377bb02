"""One process that fuzzes targets one after the other, each in a fork of its own, as libFuzzer ends its process.

`python -m tests.fuzz.child TARGET[,TARGET] SECONDS [libFuzzer's own arguments]`: `run` starts it. SECONDS of 0 leaves
the end to libFuzzer.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

# Nothing of the project is imported here: only what is imported under `instrument_imports` is measured.
PACKAGES = ["wire", "edge_node", "cloud_node"]
# What the targets import, imported once and with every branch counted.
_MODULES = (
    "cloud_node.access.callers", "cloud_node.access.tokens", "cloud_node.asked.request", "cloud_node.caching.cache",
    "cloud_node.streams.upload", "cloud_node.streams.hello", "cloud_node.streams.messages", "edge_node.node",
    "wire.manifest", "wire.codecs", "wire.media.pictures", "wire.media.sounds",
)  # fmt: skip
# What the fuzzer itself takes beside the decoder: its corpus and its tables.
_OWN_BYTES = 96 << 20


def main(names: list[str], seconds: float, flags: list[str]) -> int:
    """The exit codes of all forks, or-ed."""
    import atheris

    with atheris.instrument_imports(include=PACKAGES, enable_loader_override=False):
        for module in _MODULES:
            importlib.import_module(module)
    if len(names) == 1:
        _fuzz(names[0], seconds, flags)
    code = 0
    for name in names:
        child = os.fork()
        if child == 0:
            _fuzz(name, seconds, flags)
        code |= os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code


def _fuzz(name: str, seconds: float, flags: list[str]) -> None:
    """Does not come back."""
    import atheris

    from tests.fuzz.target import check
    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    run = target.make()
    stop_s = time.monotonic() + seconds if seconds else float("inf")
    num_runs = 0

    def one(data: bytes) -> None:
        nonlocal num_runs
        if time.monotonic() > stop_s:
            # Not by libFuzzer's own end: that joins threads which a fork does not have.
            print(f"\n{name}: {num_runs} runs", file=sys.stderr, flush=True)
            os._exit(0)
        num_runs += 1
        check(target, run, data)

    flags = [flag.replace("{target}", name) for flag in flags]
    limits = [
        f"-rss_limit_mb={(_rss_bytes() + _OWN_BYTES + target.memory_bytes) >> 20}",
        f"-timeout={int(2 * target.seconds)}",
        f"-max_len={target.max_input_bytes}",
    ]
    print(f"\n{name}: begins", file=sys.stderr, flush=True)
    atheris.Setup([sys.argv[0], *limits, *flags], one)
    atheris.Fuzz()


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1].split(","), float(sys.argv[2]), sys.argv[3:]))
