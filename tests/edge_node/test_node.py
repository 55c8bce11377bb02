"""The edge node in Python, asynchronous and blocking, against a real cloud node whose runner a test conducts."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from cleave import AsyncEdgeNode, EdgeNode
from cloud_node.asked.request import Request
from cloud_node.asked.sequence import Sequence
from cloud_node.asked.served import Served
from cloud_node.asked.settings import Settings
from tests.kit.clouds import (
    LIMIT_S,
    SECRET,
    CloudThread,
    FakeRunner,
    settle,
)
from tests.kit.pictures import encoded, textured
from wire.errors import (
    BadInput,
    Cancelled,
    CleaveError,
    DeadlineExceeded,
    ModelFailed,
    TooLarge,
    UnknownCodec,
    UnknownModel,
    UnknownSplitPoint,
)

PICTURE = textured(60, 40)


def test_text_comes_as_it_is_made(node: CloudThread, edge: EdgeNode, runner: FakeRunner) -> None:
    texts = iter(edge.ask("hold then go", PICTURE))
    assert next(texts) == "hold "
    runner.release.set()
    assert "".join(texts) == "then go "
    node.require_idle()


def test_report_says_what_the_answer_cost(edge: EdgeNode) -> None:
    answer = edge.ask("three short words", encoded(PICTURE), split=2, codec="fp16")
    assert answer.text() == "three short words "
    report = answer.report
    assert (report.question, report.text) == ("three short words", "three short words ")
    assert (report.model, report.split_point, report.codec) == ("tiny", 2, "fp16")
    assert report.split_label == "model.vision_tower.embeddings"
    assert report.feature_bytes == report.uploaded_bytes == 1280 // 2
    assert report.uploaded_bytes < report.sent_bytes < report.uploaded_bytes + 1000
    assert report.jpeg_bytes == len(encoded(PICTURE, "JPEG", quality=90))
    assert (report.finish_reason, report.prompt_tokens, report.generated_tokens) == ("stop_token", 7, 3)
    assert report.cache == "miss"
    steps = {
        "encode",
        "codec",
        "upload",
        "cache",
        "queue",
        "payload",
        "tail",
        "prefill",
        "decode",
        "first_token",
        "total",
    }
    assert report.ms.keys() == steps
    assert 0 < report.ms["first_token"] <= report.ms["total"]
    assert report.to_dict()["ms"].keys() == steps


def test_no_named_arm_takes_the_bundles_default(edge: EdgeNode, served: Served) -> None:
    answer = edge.ask("hi", PICTURE)
    answer.text()
    arm = served.manifest.chains[0].default_arm
    assert (answer.report.split_point, answer.report.codec) == (arm.split_point, arm.codec)


def test_answer_that_is_left_early_stops_in_the_cloud_and_the_next_is_answered(
    node: CloudThread, edge: EdgeNode
) -> None:
    for text in edge.ask("hold for ever", PICTURE):
        assert text == "hold "
        break
    node.require_idle()
    assert edge.ask("next", PICTURE).text() == "next "


def test_asynchronous_answer_that_is_closed_early_stops_in_the_cloud(
    node: CloudThread, bundles: Path
) -> None:
    async def run() -> None:
        async with AsyncEdgeNode(node.address, bundles=bundles) as edge:
            async with aclosing(edge.ask("hold for ever", PICTURE)) as answer:
                async for _ in answer:
                    break
            await asyncio.to_thread(node.require_idle)
            assert await edge.ask("next", PICTURE).text() == "next "

    settle(run())


def test_asynchronous_task_that_is_cancelled_stops_in_the_cloud(
    node: CloudThread, bundles: Path, runner: FakeRunner
) -> None:
    async def run() -> None:
        async with AsyncEdgeNode(node.address, bundles=bundles) as edge:
            task = asyncio.create_task(edge.ask("hold for ever", PICTURE).text())
            await asyncio.to_thread(runner.holding.acquire)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(node.require_idle)

    settle(run())


def test_several_questions_at_once_share_one_stream(node: CloudThread, bundles: Path) -> None:
    async def run() -> None:
        async with AsyncEdgeNode(node.address, bundles=bundles) as edge:
            answers = [edge.ask(f"number {i} please", PICTURE) for i in range(6)]
            texts = await asyncio.gather(*(answer.text() for answer in answers))
            assert texts == [f"number {i} please " for i in range(6)]
            assert len(node.server._service._streams) == 1

    settle(run())


def test_two_threads_may_use_one_node(edge: EdgeNode) -> None:
    texts: dict[int, str] = {}

    def work(i: int) -> None:
        texts[i] = edge.ask(f"from thread {i}", PICTURE).text()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert texts == {i: f"from thread {i} " for i in range(4)}


def test_closing_with_an_open_answer_ends_it_for_whoever_waits(
    node: CloudThread, edge: EdgeNode, runner: FakeRunner
) -> None:
    ended: list[CleaveError] = []

    def work() -> None:
        try:
            edge.ask("hold for ever", PICTURE).text()
        except CleaveError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert runner.holding.acquire(timeout=LIMIT_S)
    edge.close()
    thread.join(LIMIT_S)
    assert [type(error) for error in ended] == [Cancelled]
    node.require_idle()


@pytest.mark.filterwarnings("error")
def test_closing_with_an_answer_half_read_leaves_no_loose_end(node: CloudThread, bundles: Path) -> None:
    edge = EdgeNode(node.address, bundles=bundles)
    texts = iter(edge.ask("hold for ever", PICTURE))
    assert next(texts) == "hold "
    edge.close()
    edge.close()
    with pytest.raises(Cancelled):
        next(texts)
    unread = edge.ask
    del texts
    gc.collect()
    with pytest.raises(Cancelled, match="closed"):
        unread("hi", PICTURE)
    with pytest.raises(Cancelled, match="closed"):
        edge.describe()
    node.require_idle()


def test_answer_that_is_never_read_costs_nothing(
    node: CloudThread, edge: EdgeNode, runner: FakeRunner
) -> None:
    edge.ask("never", PICTURE)
    assert edge.ask("read", PICTURE).text() == "read "
    assert runner.ran == ["read"]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"split": 99}, UnknownSplitPoint, "0 to 9"),
        ({"split": -1}, UnknownSplitPoint, "0 to 9"),
        ({"codec": "mp3"}, UnknownCodec, "mp3"),
        ({"codec": "int8:nothing"}, UnknownCodec, "int8:nothing"),
        ({"model": "another"}, UnknownModel, "tiny"),
        ({"max_new_tokens": 0}, BadInput, "max_new_tokens"),
        ({"max_new_tokens": 257}, BadInput, "256"),
        ({"max_new_tokens": -1}, BadInput, "max_new_tokens"),
        ({"max_new_tokens": 1 << 40}, BadInput, "max_new_tokens"),
        ({"seed": -1}, BadInput, "seed"),
        ({"temperature": -0.5}, BadInput, "temperature"),
        ({"top_k": -1}, BadInput, "top_k"),
        ({"top_p": "high"}, BadInput, "top_p"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, BadInput, "min_new_tokens"),
        ({"stop": "."}, BadInput, "list"),
        ({"stop": [""]}, BadInput, "stop string"),
        ({"stop": [5]}, BadInput, "stop"),
        ({"priority": 10}, BadInput, "0 to 9"),
        ({"priority": -1}, BadInput, "0 to 9"),
        ({"deadline_s": 0}, BadInput, "deadline"),
        ({"deadline_s": -3.0}, BadInput, "deadline"),
        ({"deadline_s": float("nan")}, BadInput, "deadline"),
        ({"deadline_s": 0.05, "question": "hold"}, DeadlineExceeded, "0.05"),
        ({"question": ""}, BadInput, "empty"),
        ({"question": "x" * 70_000}, TooLarge, "65,536"),
        ({"question": "\udcff"}, BadInput, "UTF-8"),
        ({"question": "fail"}, ModelFailed, "others go on"),
        ({"image": b""}, BadInput, "empty"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_error_and_the_next_question_is_answered(
    edge: EdgeNode, node: CloudThread, options: dict[str, Any], error: type[CleaveError], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        edge.ask(**{"question": "What?", "image": PICTURE, **options}).text()
    assert SECRET not in str(raised.value)
    assert edge.ask("next", PICTURE).text() == "next "
    node.require_idle()


def test_argument_that_is_none_is_refused(edge: EdgeNode) -> None:
    with pytest.raises(TypeError, match="colour"):
        edge.ask("What?", PICTURE, colour="red")


def test_everything_that_was_asked_for_reaches_the_cloud(
    edge: EdgeNode, node: CloudThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[Request] = []
    submit = node.engine.submit

    def noting(sequence: Sequence) -> None:
        requests.append(sequence.request)
        submit(sequence)

    monkeypatch.setattr(node.engine, "submit", noting)
    asked: dict[str, Any] = {
        "max_new_tokens": 9, "min_new_tokens": 1, "temperature": 0.5, "top_k": 3, "top_p": 0.25, "min_p": 0.125,
        "repetition_penalty": 1.5, "seed": 4, "stop": [".", "\n"],
    }  # fmt: skip
    edge.ask("hi", PICTURE, priority=3, deadline_s=7.0, **asked).text()
    edge.ask("hi", PICTURE, temperature=0.5).text()
    assert requests[0].settings == Settings(**{**asked, "stop": (".", "\n")})
    assert (requests[0].priority, requests[0].deadline_s) == (3, 7.0)
    assert requests[1].settings.seed is not None
