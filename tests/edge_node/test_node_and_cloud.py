"""The edge node against clouds that refuse, fill up, drain, end and change."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from cleave import EdgeNode
from cloud_node.asked.served import Served
from tests.kit.clouds import (
    LIMIT_S,
    CloudThread,
    FakeRunner,
    cloud_thread,
    limits,
    until,
)
from tests.kit.pictures import textured
from wire.errors import (
    BadInput,
    Overloaded,
    TooLarge,
    Unavailable,
    UnknownSplitPoint,
)

PICTURE = textured(60, 40)


def test_refused_split_point_says_why(tiny_bundle: Path, served: Served, bundles: Path) -> None:
    served.refused[served.manifest.chains[0].chain_id] = {3: "its tail misses the probe by 0.5"}
    with (
        cloud_thread(served, tiny_bundle, FakeRunner()) as node,
        EdgeNode(node.address, bundles=bundles) as edge,
    ):
        with pytest.raises(UnknownSplitPoint, match="misses the probe"):
            edge.ask("hi", PICTURE, split=3).text()
        assert edge.ask("hi", PICTURE, split=4).text() == "hi "


def test_large_features_go_in_chunks(tiny_bundle: Path, served: Served, bundles: Path) -> None:
    small = limits(max_inline_bytes=100, max_chunk_bytes=1000)
    runner = FakeRunner()
    with (
        cloud_thread(served, tiny_bundle, runner, limits=small) as node,
        EdgeNode(node.address, bundles=bundles) as edge,
    ):
        answer = edge.ask("hi", PICTURE, split=0, codec="raw")
        assert answer.text() == "hi "
        assert len(runner.payloads[0]) == answer.report.uploaded_bytes == 27_648


def test_features_over_the_clouds_limit_are_not_sent(
    tiny_bundle: Path, served: Served, bundles: Path
) -> None:
    runner = FakeRunner()
    with (
        cloud_thread(served, tiny_bundle, runner, limits=limits(max_request_bytes=1000)) as node,
        EdgeNode(node.address, bundles=bundles) as edge,
        pytest.raises(TooLarge, match="another split point or codec"),
    ):
        edge.ask("hi", PICTURE, split=0, codec="raw").text()
    assert runner.ran == []


def test_full_cloud_is_an_error_that_says_when_to_ask_again(
    tiny_bundle: Path, served: Served, bundles: Path, runner: FakeRunner
) -> None:
    with (
        cloud_thread(served, tiny_bundle, runner, max_queue=1) as node,
        EdgeNode(node.address, bundles=bundles) as edge,
    ):
        first = iter(edge.ask("hold", PICTURE))
        next(first)
        second = threading.Thread(target=edge.ask("waits", PICTURE).text)
        second.start()
        node.call(_waiting(node))
        with pytest.raises(Overloaded) as raised:
            edge.ask("too many", PICTURE).text()
        assert raised.value.retry_after_s
        runner.release.set()
        second.join(LIMIT_S)
        assert runner.ran == ["hold", "waits"]


async def _waiting(node: CloudThread) -> None:
    await until(lambda: node.engine.num_waiting == 1)


def test_cloud_that_ends_in_mid_answer_is_unavailable_and_the_next_cloud_is_found(
    tiny_bundle: Path, served: Served, bundles: Path, runner: FakeRunner
) -> None:
    with cloud_thread(served, tiny_bundle, runner) as node:
        address = node.address
        edge = EdgeNode(address, bundles=bundles, reconnect_s=0)
        texts = iter(edge.ask("hold for ever", PICTURE))
        next(texts)
    with pytest.raises(Unavailable):
        next(texts)
    with cloud_thread(served, tiny_bundle, FakeRunner(), listen=address):
        assert edge.ask("again", PICTURE).text() == "again "
    edge.close()


def test_request_on_a_draining_cloud_ends_and_a_new_one_is_refused(
    node: CloudThread, edge: EdgeNode, bundles: Path, runner: FakeRunner
) -> None:
    texts = iter(edge.ask("hold then end", PICTURE))
    next(texts)
    with EdgeNode(node.address, bundles=bundles, reconnect_s=0) as impatient:
        impatient.describe()
        drained = asyncio.run_coroutine_threadsafe(node.server.drain(), node.loop)
        node.call(_draining(node))
        with pytest.raises(Unavailable):
            impatient.ask("new", PICTURE).text()
    runner.release.set()
    assert "".join(texts) == "then end "
    drained.result(LIMIT_S)


async def _draining(node: CloudThread) -> None:
    await until(lambda: node.server._service._is_draining)


@pytest.mark.parametrize("address", ["", "localhost", ":50051", "localhost:", "localhost:http"])
def test_address_that_is_none_is_refused_before_anything_is_opened(address: str) -> None:
    with pytest.raises(BadInput, match="host:port"):
        EdgeNode(address)


def test_describing_needs_no_stream_and_no_bundle(node: CloudThread, tmp_path: Path) -> None:
    with EdgeNode(node.address, bundles=tmp_path) as edge:
        assert edge.describe().models[0].name == "tiny"
    assert [path.name for path in tmp_path.iterdir()] == ["edge_id"]
