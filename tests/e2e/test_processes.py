"""Cloud and edge as processes that are ended, killed and started on the wrong thing."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cleave import EdgeNode
from cleave.processes import child
from tests.kit.clouds import settle
from tests.kit.commands import LIMIT_S, cleave, started
from tests.kit.talking import talk
from wire.errors import Unavailable
from wire.v1 import inference_pb2 as pb

pytestmark = pytest.mark.slow

DRAIN_S = 20.0
# A stop string changes no answer that it is not in, and makes it another answer to the cache: it is computed.
NEVER_SAID = [f"(never said: {number})" for number in range(4)]


@contextlib.contextmanager
def cloud_of_its_own(checkpoint: Path, bundle: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Address and process; the test ends it."""
    arguments = ["cloud", "--model", str(checkpoint), "--bundle", str(bundle), "--listen", "127.0.0.1:0"]
    # Without a cache, so that equal questions are work.
    with child([*arguments, "--drain-s", str(DRAIN_S), "--cache-mb", "0"]) as (process, _):
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening on ").strip(), process


@pytest.fixture
def long_answer() -> dict[str, int | str]:
    return {"split": 2, "codec": "raw", "max_new_tokens": 256}


def test_sigterm_lets_accepted_requests_end_refuses_a_new_one_and_exits_with_0(
    tiny_checkpoint: Path, tiny_bundle: Path, cache: Path, pictures: list[Path], long_answer: dict[str, int]
) -> None:
    with (
        cloud_of_its_own(tiny_checkpoint, tiny_bundle) as (address, process),
        EdgeNode(address, bundles=cache / "bundles") as edge,
        EdgeNode(address, bundles=cache / "bundles", reconnect_s=0) as impatient,
    ):
        expected = edge.ask("what?", pictures[0], **long_answer).text()
        impatient.describe()
        texts: list[str] = []

        def ask() -> None:
            texts.append(edge.ask("what?", pictures[0], **long_answer).text())

        threads = [threading.Thread(target=ask) for _ in range(8)]
        with grpc.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service="wire.v1.Inference")
            )
            assert next(health).status == health_pb2.HealthCheckResponse.SERVING
            for thread in threads:
                thread.start()
            newest = iter(edge.ask("what?", pictures[0], **long_answer))
            beginning = next(newest)  # it was asked last, so all are accepted
            sent = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(Unavailable, match="closing"):
            impatient.ask("late?", pictures[0], **long_answer).text()
        assert beginning + "".join(newest) == expected
        for thread in threads:
            thread.join(LIMIT_S)
        assert texts == [expected] * len(threads)
        assert process.wait(DRAIN_S) == 0
        assert time.monotonic() - sent < DRAIN_S


def test_cloud_that_is_killed_for_good_is_unavailable_in_time(
    tiny_checkpoint: Path, tiny_bundle: Path, cache: Path, pictures: list[Path], long_answer: dict[str, int]
) -> None:
    with (
        cloud_of_its_own(tiny_checkpoint, tiny_bundle) as (address, process),
        EdgeNode(address, bundles=cache / "bundles", connect_timeout_s=1.0, reconnect_s=2.0) as edge,
    ):
        texts = iter(edge.ask("what?", pictures[0], **long_answer))
        next(texts)
        process.kill()
        process.wait()
        began = time.monotonic()
        with pytest.raises(Unavailable):
            list(texts)
        with pytest.raises(Unavailable):
            edge.ask("again?", pictures[0]).text()
        assert time.monotonic() - began < 10


def test_edge_that_is_killed_in_mid_answer_costs_the_others_nothing(
    cloud: str, cache: Path, pictures: list[Path], long_answer: dict[str, int]
) -> None:
    with EdgeNode(cloud, bundles=cache / "bundles") as edge:
        expected = edge.ask("what?", pictures[0], **long_answer).text()
        command = ("ask", "what?", "--cloud", cloud, "--image", pictures[0], "--split", 2, "--codec", "raw")
        with started(*command, "--stop", NEVER_SAID[0], cache=cache) as doomed:
            assert doomed.stdout is not None
            assert doomed.stdout.read(1)
            doomed.kill()
            assert edge.ask("what?", pictures[0], **long_answer, stop=NEVER_SAID[1:2]).text() == expected


def test_edges_at_once_are_all_answered_as_if_alone(cloud: str, cache: Path, pictures: list[Path]) -> None:
    def ask(edge: EdgeNode, picture: Path, stop: Sequence[str] = ()) -> str:
        return edge.ask("what?", picture, split=5, codec="raw", max_new_tokens=16, stop=stop).text()

    texts: dict[int, list[str]] = {}

    def work(i: int) -> None:
        with EdgeNode(cloud, bundles=cache / "bundles") as edge:
            texts[i] = [ask(edge, picture, NEVER_SAID[i : i + 1]) for picture in pictures]

    with EdgeNode(cloud, bundles=cache / "bundles") as edge:
        alone = [ask(edge, picture) for picture in pictures]
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert texts == dict.fromkeys(range(4), alone)


def test_cloud_does_not_start_on_a_bundle_that_was_tampered_with(
    tiny_checkpoint: Path, tiny_bundle: Path, cache: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    stage = bundle / "stages/image/000.onnx"
    data = bytearray(stage.read_bytes())
    data[len(data) // 2] ^= 1
    stage.write_bytes(data)
    result = cleave(
        "cloud", "--model", tiny_checkpoint, "--bundle", bundle, "--listen", "127.0.0.1:0", cache=cache
    )
    assert "stages/image/000.onnx does not have its SHA-256" in result.require_one_clear_error()


def test_cloud_that_logs_much_is_not_held_up_by_whoever_started_it(cloud: str) -> None:
    async def run() -> None:
        async with talk(cloud) as t:
            await t.welcomed()
            for i in range(2000):
                await t.say(open=pb.Open(request_id=f"refused-{i}-{'x' * 40}"))
                await t.hear("failed")

    settle(run())
