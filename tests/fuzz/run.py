"""`python -m tests.fuzz.run --seconds N [--target X] [--seed S] [--grow]`: fuzzes every decoder of a peer's bytes.

The time is for all targets together. Each begins with its seeds and its kept corpus. Findings are written to
build/fuzz; put the file into tests/fuzz/corpus/TARGET once it is mended, so that it never comes back. `--grow` keeps
what reached further than the kept corpus, as few and as short inputs as reach it.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.seeds import CORPUS, seeds, written
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
FINDINGS = ROOT / "build" / "fuzz"
CAN_FUZZ = importlib.util.find_spec("atheris") is not None
_KEPT_BYTES = 32 * 1024  # of one target: the whole corpus stays far under a megabyte


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """How far it got, and what it found."""

    code: int
    log: str
    findings: list[Path]

    def num_runs(self, target: str) -> int:
        found = re.search(rf"^{target}: (\d+) runs", self.log, re.MULTILINE)
        return int(found[1]) if found else 0

    def row(self, target: str) -> str:
        """Runs, edges of the project's own code that were reached, and inputs that are worth keeping."""
        log = self.log.partition(f"{target}: begins")[2].partition(": begins")[0]
        reached = re.findall(r"cov: (\d+) ft: \d+ corp: (\d+)", log) or [("0", "0")]
        return f"{target:10} {self.num_runs(target):>9} runs {reached[-1][0]:>6} edges {reached[-1][1]:>6} inputs"


def fuzz(names: Sequence[str], seconds: float, seed: int, folder: Path) -> Fuzzed:
    """In a process of its own; `folder` gets what was reached, by target."""
    for target, data in seeds():
        if target in names:
            written(folder / "seeds", target, data)
    for name in names:
        for path in (folder / "new" / name, folder / "seeds" / name, CORPUS / name):
            path.mkdir(parents=True, exist_ok=True)
    FINDINGS.mkdir(parents=True, exist_ok=True)
    before = set(FINDINGS.iterdir())
    corpora = [f"{folder}/new/{{target}}", f"{folder}/seeds/{{target}}", f"{CORPUS}/{{target}}"]
    ended = _child(
        names, seconds / len(names), [f"-seed={seed}", f"-artifact_prefix={FINDINGS}/{{target}}-", *corpora]
    )
    findings = sorted(set(FINDINGS.iterdir()) - before)
    return Fuzzed(ended.returncode, ended.stderr + ended.stdout, findings)


def grow(name: str, folder: Path) -> None:
    """Keeps the fewest, shortest inputs that reach all that was reached; those that are kept already stay."""
    kept, merged = CORPUS / name, folder / "merged" / name
    merged.mkdir(parents=True)
    # libFuzzer starts its own program again for this, by its first argument.
    again = folder / f"again-{name}"
    again.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.fuzz.child {name} 0 "$@"\n')
    again.chmod(0o755)
    command = [again, "-merge=1", merged, folder / "seeds" / name, kept, folder / "new" / name]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    there = {path.read_bytes() for path in (folder / "seeds" / name).iterdir()}
    total = sum(path.stat().st_size for path in kept.iterdir())
    for path in sorted(merged.iterdir(), key=lambda path: path.stat().st_size):
        data = path.read_bytes()
        total += len(data)
        if data not in there and total <= _KEPT_BYTES:
            written(CORPUS, name, data)


def _child(names: Sequence[str], seconds: float, flags: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz.child", ",".join(names), str(seconds), *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--target", choices=sorted(TARGETS), action="append")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--grow", action="store_true")
    given = parser.parse_args()
    if not CAN_FUZZ:
        sys.exit("error: atheris is not installed (it exists for Linux only); the tests replay the corpus")
    folder = Path(tempfile.mkdtemp(prefix="cleave-fuzz-"))
    try:
        names = given.target or list(TARGETS)
        fuzzed = fuzz(names, given.seconds, given.seed, folder)
        for name in names:
            print(fuzzed.row(name))
            if given.grow:
                grow(name, folder)
        if fuzzed.code:
            print(fuzzed.log[-6000:], *fuzzed.findings, sep="\n", file=sys.stderr)
        return min(fuzzed.code, 1)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
