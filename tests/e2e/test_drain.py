"""SIGTERM to a real cloud process: what it has accepted is answered, what is new is told when to come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from cleave.processes import child
from cloud_node.asked.served import Served
from tests.cloud_node.telemetry.test_health import get
from tests.kit.clouds import served_from
from tests.kit.talking import Talk, chunk, opening, talk
from wire.v1 import inference_pb2 as pb

pytestmark = pytest.mark.slow

LIMIT_S = 60.0


@pytest.fixture
def served(tiny_bundle: Path) -> Served:
    return served_from(tiny_bundle)


@contextlib.contextmanager
def cloud_of_one_slot(
    checkpoint: Path, bundle: Path, drain_s: float
) -> Iterator[tuple[str, str, subprocess.Popen[str], IO[str]]]:
    """Address, the address of its metrics, process and log; the test ends it."""
    command = ("cloud", "--model", str(checkpoint), "--bundle", str(bundle), "--name", "tiny")
    settings = ("--slots", "1", "--drain-s", str(drain_s), "--cache-mb", "0", "--log-format", "json")
    listen = ("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
    with child([*command, *settings, *listen]) as (process, log):
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("listening on ").strip()
        yield address, _metrics_address(log), process, log


def lines(log: IO[str]) -> list[dict[str, object]]:
    log.seek(0)
    return [json.loads(line) for line in log.read().splitlines()]


def _metrics_address(log: IO[str]) -> str:
    (line,) = [str(line["message"]) for line in lines(log) if "metrics at" in str(line["message"])]
    return line.removeprefix("metrics at http://").removesuffix("/metrics")


def long_question(served: Served, request_id: str, *, is_inline: bool = True) -> pb.Open:
    asked = opening(served, "what?", request_id=request_id, split_point=2, is_inline=is_inline)
    asked.settings.max_new_tokens = 256
    asked.settings.min_new_tokens = 256
    return asked


async def exit_code(process: subprocess.Popen[str]) -> int:
    return await asyncio.to_thread(process.wait, LIMIT_S)


def test_sigterm_loses_no_request_whatever_state_it_is_in(
    tiny_checkpoint: Path, tiny_bundle: Path, served: Served
) -> None:
    """One generates, one waits for the only slot, and of one only half of the upload has come."""
    uploading = long_question(served, "uploading", is_inline=False)
    payload = bytes(uploading.inputs[0].total_bytes)
    half = len(payload) // 2
    drain_s = 50.0

    async def run(address: str, metrics: str, process: subprocess.Popen[str]) -> None:
        async with talk(address) as t:
            await t.welcomed("edge-1")
            await t.say(open=uploading)
            await t.hear("need", "uploading")
            await t.say(chunk=chunk("uploading", 0, payload[:half]))
            await t.say(open=long_question(served, "generating"))
            await t.hear("deltas")
            await t.say(open=long_question(served, "queued"))
            await t.hear("ack", "queued")
            sent_s = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert (await t.hear("go_away")).drain_s == drain_s
            assert await asyncio.to_thread(get, metrics, "/healthz") == (200, "draining\n")
            assert await asyncio.to_thread(get, metrics, "/readyz") == (503, "draining\n")
            await t.say(open=long_question(served, "new"))
            await t.say(chunk=chunk("uploading", half, payload[half:]))
            endings = await _endings(t, 4)
            refused = endings.pop("new")
            assert isinstance(refused, pb.Failed)
            assert (refused.code, refused.retry_after_s > 0) == (pb.ERROR_CODE_UNAVAILABLE, True)
            assert {name: _tokens(ending) for name, ending in endings.items()} == {
                "generating": 256, "queued": 256, "uploading": 256
            }  # fmt: skip
            assert await exit_code(process) == 0
            assert time.monotonic() - sent_s < drain_s

    with cloud_of_one_slot(tiny_checkpoint, tiny_bundle, drain_s) as (address, metrics, process, log):
        asyncio.run(asyncio.wait_for(run(address, metrics, process), LIMIT_S))
        said = {line["request_id"]: line["outcome"] for line in lines(log) if "outcome" in line}
    assert said == {"generating": "done", "queued": "done", "uploading": "done", "new": "unavailable"}


def test_second_sigterm_ends_what_is_left_with_a_clear_error(
    tiny_checkpoint: Path, tiny_bundle: Path, served: Served
) -> None:
    async def run(address: str, process: subprocess.Popen[str]) -> None:
        async with talk(address) as t:
            await t.welcomed("edge-1")
            await t.say(open=long_question(served, "uploading", is_inline=False))
            await t.hear("need")
            process.send_signal(signal.SIGTERM)
            await t.hear("go_away")
            process.send_signal(signal.SIGTERM)
            failed = await t.hear("failed", "uploading")
            assert (failed.code, failed.retry_after_s > 0) == (pb.ERROR_CODE_UNAVAILABLE, True)
            assert "closed before the answer was whole" in failed.message
            assert await exit_code(process) == 0

    with cloud_of_one_slot(tiny_checkpoint, tiny_bundle, 10 * LIMIT_S) as (address, _, process, _log):
        asyncio.run(asyncio.wait_for(run(address, process), LIMIT_S))


def test_process_that_does_not_end_by_itself_is_ended() -> None:
    """A step of the model that never comes back keeps a thread, and with it the interpreter, for ever."""
    program = (
        "import threading\n"
        "from cloud_node.shutdown import exit_anyway_after\n"
        "exit_anyway_after(0.1)\n"
        "threading.Event().wait()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT_S)
    assert ended.returncode == 1
    assert "did not end within 0.1 s" in ended.stderr


async def _endings(t: Talk, count: int) -> dict[str, pb.Done | pb.Failed]:
    """How so many requests end."""
    found: dict[str, pb.Done | pb.Failed] = {}
    while len(found) < count:
        down = await t.next()
        kind = down.WhichOneof("message")
        if kind in ("done", "failed"):
            message = getattr(down, kind)
            found[message.request_id] = message
    return found


def _tokens(ending: pb.Done | pb.Failed) -> int:
    assert isinstance(ending, pb.Done), ending
    return ending.generated_tokens
