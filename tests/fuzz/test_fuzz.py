"""Every decoder of a peer's bytes holds: over its seeds, its kept corpus, and what a fuzzer makes of them in a while.

Where there is no atheris (it exists for Linux only) the corpus alone is replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.run import CAN_FUZZ, fuzz
from tests.fuzz.seeds import CORPUS, seeds
from tests.fuzz.target import Finding, Target, check
from tests.fuzz.targets import TARGETS
from tests.wire.test_hostile import peak_bytes
from wire.errors import MalformedMessage

# Of all targets together. `make fuzz` goes on for as long as one likes.
SECONDS = 12.0


def inputs_of(name: str) -> list[bytes]:
    kept = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    return [data for target, data in seeds() if target == name] + kept


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_corpus_raise_nothing_but_our_errors_in_bounded_memory(name: str) -> None:
    target = TARGETS[name]
    run = target.make()
    inputs = inputs_of(name)
    assert inputs
    for data in [b"", *inputs]:
        assert peak_bytes(lambda data=data: check(target, run, data)) <= target.memory_bytes  # type: ignore[misc]


@pytest.mark.parametrize("name", TARGETS)
def test_some_seed_of_every_target_is_right(name: str) -> None:
    """A target that refuses all it is given would find nothing."""
    run = TARGETS[name].make()

    def passes(data: bytes) -> bool:
        try:
            run(data)
        except TARGETS[name].errors:
            return False
        return True

    assert any(passes(data) for data in inputs_of(name))


def test_corpus_is_small_and_all_of_it_is_used() -> None:
    kept = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in kept} <= set(TARGETS)
    assert sum(path.stat().st_size for path in kept) < 1 << 20


def _raises(error: Exception) -> Callable[[bytes], object]:
    def run(data: bytes) -> None:
        raise error

    return run


def test_error_that_is_not_ours_is_a_finding() -> None:
    target = Target("anything", lambda: bytes)
    check(target, _raises(MalformedMessage("ours")), b"")
    with pytest.raises(Finding, match="KeyError came out"):
        check(target, _raises(KeyError("theirs")), b"")


@pytest.mark.slow
@pytest.mark.skipif(not CAN_FUZZ, reason="atheris is not installed: the corpus alone was replayed")
def test_fuzzing_for_a_while_finds_nothing(tmp_path: Path) -> None:
    fuzzed = fuzz(list(TARGETS), SECONDS, seed=1, folder=tmp_path)
    assert fuzzed.code == 0, (fuzzed.log[-4000:], fuzzed.findings)
    assert all(fuzzed.num_runs(name) for name in TARGETS), fuzzed.log[-4000:]
