"""`cleave top`: a screen that fits, and the command against a real cloud."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cleave.top_reading import Snapshot, now, rates, snapshot
from cleave.top_screen import View, duration, number, rate, render, rows, seconds, share, size
from cloud_node.asked.served import Served
from cloud_node.telemetry.metrics import Metrics
from tests.cleave.expositions import some_metrics, work
from tests.kit.clouds import CloudThread, FakeRunner, cloud_thread, served_from
from tests.kit.commands import LIMIT_S, cleave, ended, started
from tests.kit.talking import opening, talk
from tests.wire.samples import make_manifest, write_bundle
from wire.manifest import dump_manifest


def view_of(metrics: Metrics) -> View:
    before = snapshot(metrics.exposition())
    work(metrics)
    after = snapshot(metrics.exposition())
    made = rates(before, after, 2.0)
    return View("127.0.0.1:50051", now(after, 0.0), made, made, [made] * 60)


def drawn(view: View, width: int, height: int) -> list[str]:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(render(view, width, height))
    return console.export_text().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 50), (120, 40), (200, 60)])
@pytest.mark.parametrize("is_idle", [False, True])
def test_screen_fits_its_terminal(width: int, height: int, is_idle: bool) -> None:
    metrics = some_metrics("a-model-with-a-name-that-is-longer-than-any-screen-" * 4)
    view = view_of(metrics)
    if is_idle:
        idle = rates(Snapshot(), Snapshot(), 0.0)
        view = replace(view, latest=idle, window=idle, history=())
    lines = drawn(view, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_screen_shows_what_happens() -> None:
    text = "\n".join(drawn(view_of(some_metrics()), 100, 40))
    for shown in ("tiny", "10.0/s", "deadline exceeded", "12/16", "10.0 MB/s", "25 %", "123 MB", "last 2 s"):
        assert shown in text, shown


def test_cloud_that_drains_says_so() -> None:
    metrics = some_metrics()
    assert "draining" not in "\n".join(drawn(view_of(metrics), 80, 24))
    metrics.watch("draining", lambda: True)
    view = view_of(metrics)
    assert "draining" in drawn(view, 80, 24)[0]
    assert any("draining" in value for _, _, value in rows(view))


def test_what_a_cloud_calls_itself_cannot_steer_the_terminal() -> None:
    view = view_of(some_metrics("\x1b[2Jevil"))
    assert "\x1b[2J" not in "\n".join(drawn(view, 80, 24))
    assert not any("\x1b" in value for _, _, value in rows(view))


def test_numbers_are_short_and_have_units() -> None:
    assert [number(None), number(1.26), number(1234.5)] == ["–", "1.3", "1,234"]
    assert [rate(0), rate(0.25), rate(120)] == ["0/s", "0.2/s", "120/s"]
    assert [share(None), share(0.256)] == ["–", "26 %"]
    assert [seconds(s) for s in (0.00123, 0.0456, 0.5, 2.34)] == ["1.23 ms", "45.6 ms", "500 ms", "2.3 s"]
    assert [size(n) for n in (12, 1500, 2.5e6, 3e9)] == ["12 B", "1.5 kB", "2.5 MB", "3.0 GB"]
    assert [duration(s) for s in (3, 61, 7440, 200_000)] == ["3 s", "1 min", "2 h 04 min", "2 days"]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[CloudThread]:
    """A cloud that has answered a request."""
    bundle = tmp_path / "bundle"
    write_bundle(bundle)
    (bundle / "manifest.json").write_bytes(dump_manifest(make_manifest()))
    served = served_from(bundle)
    with cloud_thread(served, bundle, FakeRunner(), num_slots=2) as made:
        made.call(answered(served, made.address))
        yield made


async def answered(served: Served, address: str) -> None:
    async with talk(address) as t:
        await t.welcomed()
        await t.say(open=opening(served, "two words"))
        await t.hear("done")


@pytest.mark.slow
def test_once_prints_one_table_or_one_object_and_ends(node: CloudThread, tmp_path: Path) -> None:
    asked = ("top", "--cloud", node.address, "--once", "--interval", "0.1")
    table = cleave(*asked, cache=tmp_path)
    assert (table.code, table.err) == (0, "")
    assert "0 of 2" in table.out
    told = cleave(*asked, "--json", cache=tmp_path)
    assert (told.code, told.err) == (0, "")
    (line,) = told.out.splitlines()
    found = json.loads(line)
    assert found["cloud"] == node.address
    assert (found["now"]["model"], found["now"]["slots"]) == ("tiny", 2)
    assert found["rates"]["ended_per_s"] == {"done": 0.0}
    assert found["rates"]["seconds"] == pytest.approx(0.1, rel=0.9)


@pytest.mark.slow
def test_without_a_cloud_it_is_one_sentence(tmp_path: Path) -> None:
    asked = cleave("top", "--cloud", "127.0.0.1:1", "--timeout", "0.5", cache=tmp_path)
    assert "no cloud node answers at 127.0.0.1:1" in asked.require_one_clear_error()


def test_grpc_is_told_to_be_quiet_before_it_is_imported() -> None:
    """It would tell of a cloud that goes away by itself, in a line beside ours; it listens only while imported."""
    code = """if True:
        import os, sys
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "grpc":
                    sys.exit(os.environ.get("GRPC_VERBOSITY") != "ERROR")
        sys.meta_path.insert(0, Finder())
        import cleave.cli
    """
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=LIMIT_S).returncode == 0


@pytest.mark.slow
def test_cloud_that_goes_away_is_one_sentence(node: CloudThread, tmp_path: Path) -> None:
    asked = ("top", "--cloud", node.address, "--interval", "0.1", "--timeout", "2", "--json")
    with started(*asked, cache=tmp_path) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["cloud"] == node.address
        node.call(node.server.stop())
        assert node.address in ended(process).require_one_clear_error()


@pytest.mark.slow
def test_live_screen_is_drawn_on_a_terminal_and_ctrl_c_ends_it_cleanly(
    node: CloudThread, tmp_path: Path
) -> None:
    with on_a_terminal(node.address, tmp_path) as (process, terminal):
        seen = b""
        while b"Ctrl-C ends this" not in seen:
            seen += os.read(terminal, 4096)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # how the kernel says that the other side has closed
            while chunk := os.read(terminal, 4096):
                seen += chunk
        assert process.wait(LIMIT_S) == 0
    text = seen.decode()
    assert "first token" in text
    assert "Traceback" not in text
    assert text.count("\x1b[?1049h") == text.count("\x1b[?1049l") == 1  # the other screen, and back


@contextlib.contextmanager
def on_a_terminal(address: str, cache: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`cleave top` with a terminal of 100 x 40 as its output and errors; ours of its two ends."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40", "CLEAVE_CACHE": str(cache)}
    command = [sys.executable, "-m", "cleave.cli", "top", "--cloud", address, "--interval", "0.1"]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        try:
            yield process, ours
        finally:
            process.kill()
            os.close(ours)
