"""What an edge node does not do twice: decode, encode and send a picture that it, or the cloud, has met before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cleave import AsyncEdgeNode, EdgeNode
from cloud_node.asked.served import Served
from edge_node import encoding, media
from edge_node.stream import CloudStream
from tests.kit.clouds import CloudThread, FakeRunner, cloud_thread, limits, settle, until
from tests.kit.pictures import encoded, textured
from wire.errors import BadInput
from wire.v1 import inference_pb2 as pb

PICTURE = encoded(textured(60, 40))
OTHER = encoded(textured(40, 60))


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every picture that is decoded and every one that is encoded, as it happens."""
    done: list[str] = []

    def noting(module: Any, name: str) -> None:
        real = getattr(module, name)

        def noted(*arguments: Any) -> Any:
            done.append(name)
            return real(*arguments)

        monkeypatch.setattr(module, name, noted)

    noting(media, "decode_picture")
    noting(encoding, "code")
    return done


def test_repeated_question_decodes_encodes_and_uploads_nothing(
    edge: EdgeNode, runner: FakeRunner, work: list[str]
) -> None:
    first = edge.ask("what is this", PICTURE, split=0, codec="raw")
    assert first.text() == "what is this "
    assert first.report.cache == "miss"
    assert first.report.uploaded_bytes == first.report.feature_bytes == 27_648
    work.clear()
    again = edge.ask("what is this", PICTURE, split=0, codec="raw")
    assert again.text() == first.report.text
    report = again.report
    assert work == []
    assert runner.ran == ["what is this"]
    assert (report.cache, report.uploaded_bytes, report.feature_bytes) == ("answer", 0, 27_648)
    assert 0 < report.sent_bytes < 2048
    assert (report.prompt_tokens, report.generated_tokens) == (7, 3)
    assert report.finish_reason == "stop_token"
    assert report.jpeg_bytes == first.report.jpeg_bytes > 0
    assert (report.ms["encode"], report.ms["codec"], report.ms["tail"]) == (0, 0, 0)
    assert "upload" not in report.ms
    assert 0 < report.ms["first_token"] <= report.ms["total"]


def test_second_question_about_a_picture_uploads_the_question_only(
    edge: EdgeNode, runner: FakeRunner, work: list[str]
) -> None:
    edge.ask("one", PICTURE).text()
    work.clear()
    answer = edge.ask("two", PICTURE)
    assert answer.text() == "two "
    assert work == []
    assert (answer.report.cache, answer.report.uploaded_bytes) == ("features", 0)
    assert answer.report.sent_bytes < 2048
    assert runner.payloads[0] == runner.payloads[1]


@pytest.mark.parametrize("options", [{"split": 3}, {"codec": "bf16"}, {"image": OTHER}])
def test_another_arm_or_picture_is_encoded_and_sent(
    edge: EdgeNode, work: list[str], options: dict[str, Any]
) -> None:
    edge.ask("hi", PICTURE, split=2, codec="fp16").text()
    work.clear()
    answer = edge.ask(**{"question": "hi", "image": PICTURE, "split": 2, "codec": "fp16", **options})
    assert answer.text() == "hi "
    assert work == ["code", "decode_picture"]
    assert answer.report.uploaded_bytes > 0


def test_file_that_changed_is_another_picture(edge: EdgeNode, tmp_path: Path, runner: FakeRunner) -> None:
    path = tmp_path / "photo.png"
    for data in (PICTURE, OTHER):
        path.write_bytes(data)
        answer = edge.ask("hi", path)
        answer.text()
        assert answer.report.cache == "miss"
    assert runner.payloads[0] != runner.payloads[1]


def test_picture_that_is_none_is_remembered_by_nobody(edge: EdgeNode) -> None:
    for _ in range(2):
        with pytest.raises(BadInput, match="not a picture"):
            edge.ask("hi", b"no picture").text()


def test_array_is_known_again(edge: EdgeNode, work: list[str]) -> None:
    pixels = textured(60, 40)
    edge.ask("hi", pixels).text()
    work.clear()
    answer = edge.ask("hi", pixels)
    answer.text()
    assert "code" not in work
    assert answer.report.cache == "answer"


def test_device_without_memory_asks_by_hash_when_told_to(
    node: CloudThread, bundles: Path, runner: FakeRunner
) -> None:
    with EdgeNode(node.address, bundles=bundles, memory_bytes=0) as edge:
        first = edge.ask("hi", PICTURE, hash_first=True)
        assert first.text() == "hi "
        assert first.report.uploaded_bytes == first.report.feature_bytes > 0
        told = edge.ask("hi", PICTURE, hash_first=True)
        assert told.text() == "hi "
        assert (told.report.cache, told.report.uploaded_bytes) == ("answer", 0)
        assert told.report.ms["encode"] > 0
        untold = edge.ask("hi", PICTURE, split=2)
        untold.text()
        untold = edge.ask("hi", PICTURE, split=2)
        untold.text()
        assert untold.report.cache == "answer"
        assert untold.report.uploaded_bytes == untold.report.feature_bytes
    assert len(runner.ran) == 2


def test_large_features_wait_until_the_cloud_needs_them(
    tiny_bundle: Path, served: Served, bundles: Path, runner: FakeRunner
) -> None:
    small = limits(max_inline_bytes=100, max_chunk_bytes=1000)
    with cloud_thread(served, tiny_bundle, runner, limits=small) as node:
        for uploaded in (27_648, 0):
            with EdgeNode(node.address, bundles=bundles) as edge:
                answer = edge.ask("hi", PICTURE, split=0, codec="raw")
                assert answer.text() == "hi "
                assert answer.report.uploaded_bytes == uploaded
    assert len(runner.payloads[0]) == 27_648


def test_cloud_that_has_forgotten_gets_the_features_from_memory(
    tiny_bundle: Path, served: Served, bundles: Path, runner: FakeRunner, work: list[str]
) -> None:
    with cloud_thread(served, tiny_bundle, runner) as node:
        address = node.address
        edge = EdgeNode(address, bundles=bundles)
        edge.ask("hi", PICTURE, split=0, codec="raw").text()
    work.clear()
    other = FakeRunner()
    with cloud_thread(served, tiny_bundle, other, listen=address):
        answer = edge.ask("hi", PICTURE, split=0, codec="raw")
        assert answer.text() == "hi "
        assert work == []
        assert (answer.report.cache, answer.report.uploaded_bytes) == ("miss", 27_648)
        assert other.payloads == runner.payloads
        assert answer.report.ms["upload"] > 0
    edge.close()


def test_have_in_the_middle_of_an_upload_stops_it(
    tiny_bundle: Path, served: Served, bundles: Path, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = CloudStream.send

    async def until_the_cloud_has_spoken(stream: CloudStream, up: pb.Up) -> None:
        await send(stream, up)
        if up.WhichOneof("message") == "chunk":
            await until(lambda: not stream.is_wanted(up.chunk.request_id, up.chunk.input_index))

    small = limits(max_inline_bytes=100, max_chunk_bytes=1000)

    async def run(node: CloudThread) -> None:
        async with AsyncEdgeNode(node.address, bundles=bundles, memory_bytes=0) as edge:
            await edge.ask("hi", PICTURE, split=0, codec="raw").text()
            monkeypatch.setattr(CloudStream, "send", until_the_cloud_has_spoken)
            for question, cache in (("hi", "answer"), ("other", "features")):
                answer = edge.ask(question, PICTURE, split=0, codec="raw", hash_first=False)
                assert await answer.text() == f"{question} "
                assert answer.report.cache == cache
                # Of 27,648: none where Have came before the first chunk went.
                assert answer.report.uploaded_bytes in (0, 1000)

    with cloud_thread(served, tiny_bundle, runner, limits=small) as node:
        settle(run(node))
        node.require_idle()
    assert runner.ran == ["hi", "other"]


def test_equal_questions_of_two_devices_at_once_are_computed_once(
    node: CloudThread, bundles: Path, runner: FakeRunner
) -> None:
    with EdgeNode(node.address, bundles=bundles) as one, EdgeNode(node.address, bundles=bundles) as two:
        first = iter(one.ask("hold then go", PICTURE))
        assert next(first) == "hold "
        second = two.ask("hold then go", PICTURE)
        texts = iter(second)
        assert next(texts) == "hold "
        del first
        runner.release.set()
        assert "".join(texts) == "then go "
        assert second.report.cache == "answer"
    node.require_idle()
    assert runner.ran == ["hold then go"]
