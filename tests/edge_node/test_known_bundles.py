"""known_bundles.json: bounded, whole whatever happens, one truth for several processes, and never taken for empty."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_node import known_bundles
from edge_node.known_bundles import (
    MAX_DIGESTS,
    MAX_FILE_BYTES,
    KnownBundle,
    KnownBundles,
    digests_of,
    with_entry,
    without,
)
from wire.errors import BadInput

CLOUD = "127.0.0.1:50051"


def known(number: int, cloud: str = CLOUD, model: str = "tiny") -> KnownBundle:
    return KnownBundle(cloud, model, f"{number:064x}", "2026-01-01T00:00:00+00:00", "first use")


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_written_is_read_by_people_and_by_others(tmp_path: Path) -> None:
    file = KnownBundles(tmp_path / "bundles", now=lambda: 0.0)
    entry = file.entry(CLOUD, "tiny", "ab" * 32, "first use")
    assert file.change(lambda now: with_entry(now, entry)) == [entry]
    text = file.path.read_text()
    assert '"first_seen": "1970-01-01T00:00:00+00:00"' in text
    assert json.loads(text)["bundles"][0]["digest"] == "ab" * 32
    assert KnownBundles(tmp_path / "bundles").read() == [entry]
    assert files_in(tmp_path / "bundles") == {"known_bundles.json", "known_bundles.lock"}


def test_one_that_is_used_again_goes_to_the_end_and_keeps_its_beginning() -> None:
    first, second, other = known(1), known(2), known(1, model="other")
    both = with_entry(with_entry([other], first), second)
    again = KnownBundle(CLOUD, "tiny", first.digest, "2027-01-01T00:00:00+00:00", "user")
    assert with_entry(both, again) == [other, second, first]
    assert with_entry(both, second) == both
    assert digests_of(both, CLOUD, "tiny") == [first.digest, second.digest]


def test_oldest_of_many_are_forgotten_and_those_of_others_are_not() -> None:
    listed: list[KnownBundle] = [known(0, cloud="other:1")]
    for number in range(MAX_DIGESTS + 5):
        listed = with_entry(listed, known(number))
    assert [one.digest for one in listed[1:]] == [
        known(number).digest for number in range(5, MAX_DIGESTS + 5)
    ]
    assert listed[0].cloud == "other:1"


def test_forgetting_is_of_one_model_or_of_the_whole_cloud() -> None:
    listed = [known(1), known(2, model="other"), known(3, cloud="other:1")]
    assert without(listed, CLOUD, "tiny") == listed[1:]
    assert without(listed, CLOUD) == listed[2:]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"format_version":2,"bundles":[]}',
        b'{"format_version":1,"bundles":[{}]}',
        b'{"format_version":1}',
    ],
)
def test_damaged_file_is_an_error_and_not_an_empty_one(tmp_path: Path, data: bytes) -> None:
    file = KnownBundles(tmp_path)
    file.path.write_bytes(data)
    with pytest.raises(BadInput, match="not valid"):
        file.read()
    with pytest.raises(BadInput, match="not valid"):
        file.change(lambda now: with_entry(now, known(1)))
    assert file.path.read_bytes() == data


def test_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = KnownBundles(tmp_path)
    file.path.write_bytes(b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(BadInput, match="more than"):
        file.read()


def test_name_that_could_not_be_read_again_costs_nothing_that_is_known(tmp_path: Path) -> None:
    file = KnownBundles(tmp_path)
    kept = file.change(lambda now: with_entry(now, known(1)))
    for model in ("", "x" * 513):
        with pytest.raises(BadInput, match="cannot be remembered"):
            file.change(lambda now, model=model: with_entry(now, known(2, model=model)))  # type: ignore[misc]
    assert file.read() == kept


def test_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = KnownBundles(tmp_path)
    kept = file.change(lambda now: with_entry(now, known(1)))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match="No space left"):
        file.change(lambda now: with_entry(now, known(2)))
    assert file.read() == kept
    assert files_in(tmp_path) == {"known_bundles.json", "known_bundles.lock"}


def test_lock_that_another_never_gives_back_is_an_error_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_bundles, "_LOCK_TIMEOUT_S", 0.02)
    with (tmp_path / "known_bundles.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BadInput, match="another process"):
            KnownBundles(tmp_path).change(lambda now: with_entry(now, known(1)))


WRITER = """
import sys
from pathlib import Path
from edge_node.known_bundles import KnownBundles, with_entry
file = KnownBundles(Path(sys.argv[1]))
sys.stdin.read()
for number in range(20):
    entry = file.entry("127.0.0.1:50051", f"{sys.argv[2]}-{number}", "ab" * 32, "first use")
    file.change(lambda now: with_entry(now, entry))
"""


@pytest.mark.slow
def test_processes_that_write_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(i)], stdin=subprocess.PIPE) for i in range(3)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    models = {one.model for one in KnownBundles(tmp_path).read()}
    assert models == {f"{i}-{number}" for i in range(3) for number in range(20)}
