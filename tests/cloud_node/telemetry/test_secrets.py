"""Nothing that a user asked, sent or proved is in the log, in the metrics or in a trace, whatever goes wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_node.asked.sequence import Sequence
from cloud_node.asked.served import Served
from cloud_node.bundle_files import BundleFiles
from cloud_node.streams.stream import EdgeStream
from cloud_node.telemetry.log_lines import JsonLines, TextLines
from cloud_node.telemetry.outside import Outside
from tests.cloud_node.telemetry.test_spans import Kept
from tests.kit.clouds import SECRET, FakeRunner, cloud, settle, until
from tests.kit.talking import channel, opening, talk
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

TOKEN = "bearer-token-of-a-tenant"
FILE = "holiday-with-anna.jpg"
_PAYLOAD = b"what the camera saw"


class _Lines(logging.Handler):
    """Every record of every logger, as both formats write it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += [TextLines().format(record), JsonLines().format(record)]


@pytest.fixture
def log() -> Iterator[list[str]]:
    handler, root = _Lines(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler.lines
    root.setLevel(level)
    root.removeHandler(handler)


def require_no_secret(text: str) -> None:
    for secret in (SECRET, TOKEN, FILE, _PAYLOAD.decode(), "camera", "anna"):
        assert secret not in text, secret


def test_requests_that_end_well_and_badly_tell_no_secret(
    served: Served, bundle: Path, log: list[str]
) -> None:
    runner, kept = FakeRunner(), Kept()
    asked = {
        "done": SECRET,
        "model-raises": f"{SECRET} fail",
        "not-prepared": "unprepared",
        "no-prompt": " ",
    }

    async def run() -> str:
        async with cloud(served, bundle, runner, Outside(spans=kept)) as server, talk(server.address) as t:
            await t.welcomed("edge-1")
            for request_id, prompt in asked.items():
                await t.say(open=opening(served, prompt, request_id=request_id))
                await t.hear("done" if request_id == "done" else "failed", request_id)
            bad_id = opening(served, SECRET, request_id=f"{FILE} {SECRET}"[:64])
            await t.say(open=bad_id)
            await t.hear("failed")
            unknown = opening(served, SECRET, request_id="unknown-model")
            unknown.model = f"model-{FILE}"
            await t.say(open=unknown)
            await t.hear("failed", "unknown-model")
            wrong = opening(served, SECRET, request_id="wrong-payload", payload=_PAYLOAD)
            await t.say(open=wrong)
            await t.hear("failed", "wrong-payload")
            return server.metrics.exposition()

    exposition = settle(run())
    assert SECRET in runner.ran, "the secret never came to the model"
    lines = "\n".join(log)
    for request_id in (*asked, "unknown-model", "wrong-payload"):
        assert f"request_id={request_id} " in lines, request_id
    assert "RuntimeError" in lines
    require_no_secret(lines)
    require_no_secret(exposition)
    require_no_secret(repr(kept.spans))
    assert len(kept.spans) == 3  # done, and those that failed inside the model


def test_bugs_of_our_own_tell_no_secret(
    served: Served, bundle: Path, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a stream, in a call, in the engine, and in a task that nobody waits for."""

    def broken(self: object, *given: object) -> None:
        raise KeyError(f"{SECRET} {TOKEN} {FILE}")

    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server:
            with monkeypatch.context() as patched:
                patched.setattr(EdgeStream, "_take", broken)
                async with talk(server.address) as t:
                    await t.welcomed()
                    await t.say(ping=pb.Ping())
                    await t.status()
            with monkeypatch.context() as patched:
                patched.setattr(Sequence, "prepare", broken)
                async with talk(server.address) as t:
                    await t.welcomed()
                    await t.say(open=opening(served, SECRET))
                    await t.hear("failed", "r1")
            monkeypatch.setattr(BundleFiles, "parts", broken)
            async with channel(server.address) as made:
                request = pb.FetchBundleRequest(
                    bundle_digest=served.bundle_digest, path="stages/image/000.onnx"
                )
                with pytest.raises(Exception, match="unforeseen"):
                    async for _ in pb_grpc.InferenceStub(made).FetchBundle(request):
                        pass

    settle(run())
    lines = "\n".join(log)
    assert "KeyError" in lines
    require_no_secret(lines)


def test_task_that_nobody_waits_for_tells_no_secret(log: list[str]) -> None:
    from cloud_node.server import note_failed_task

    async def fail() -> None:
        raise KeyError(SECRET)

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(note_failed_task)
        task = asyncio.ensure_future(fail())
        await until(task.done)
        del task

    settle(run())
    lines = "\n".join(log)
    assert "KeyError" in lines
    require_no_secret(lines)
