"""A connection that is lost costs time: the answer goes on where it was, or is one clear error."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.faulty.link import FaultyLink, faulty_link
from bench.faulty.watched import Watched
from cleave import AsyncEdgeNode, EdgeNode
from cloud_node.asked.served import Served
from tests.kit.clouds import LIMIT_S, CloudThread, FakePrompt, FakeRunner, cloud_thread, limits, settle, until
from tests.kit.pictures import textured
from wire import limits as wire_limits
from wire.errors import Cancelled, DeadlineExceeded, Internal, Unavailable

PICTURE = textured(60, 40)
SMALL = limits(max_inline_bytes=100, max_chunk_bytes=1000)
PAYLOAD_BYTES = 27_648


@pytest.fixture
def link(node: CloudThread) -> Iterator[FaultyLink]:
    with faulty_link(node.address) as made:
        yield made


@pytest.fixture
def far(link: FaultyLink, bundles: Path) -> Iterator[EdgeNode]:
    """An edge behind that link."""
    with EdgeNode(link.address, bundles=bundles) as made:
        yield made


def test_answer_whose_link_is_cut_goes_on_and_is_computed_once(
    node: CloudThread, link: FaultyLink, far: EdgeNode, runner: FakeRunner
) -> None:
    answer = far.ask("one hold two", PICTURE)
    texts = iter(answer)
    beginning = next(texts)
    link.cut()
    runner.release.set()
    assert beginning + "".join(texts) == "one hold two " == answer.report.text
    assert answer.report.num_resumed == 1
    assert runner.ran == ["one hold two"]
    node.require_idle()


def test_all_answers_of_a_link_that_is_cut_many_times_are_whole(
    tiny_bundle: Path, served: Served, bundles: Path
) -> None:
    questions = [f"{number} " + "hold " * 5 + "end" for number in range(4)]
    runner = FakeRunner()

    async def run(node: CloudThread, link: FaultyLink) -> None:
        async with AsyncEdgeNode(link.address, bundles=bundles) as edge:
            answers = [edge.ask(question, PICTURE) for question in questions]
            asked = [asyncio.create_task(answer.text()) for answer in answers]
            assert await asyncio.to_thread(runner.holding.acquire, timeout=LIMIT_S)
            for _ in range(3):
                accepted = link.num_accepted
                link.cut()
                await asyncio.to_thread(link.await_connection, accepted)
            runner.release.set()
            assert await asyncio.gather(*asked) == [f"{question} " for question in questions]
        node.require_idle()

    with cloud_thread(served, tiny_bundle, runner, num_slots=4) as node, faulty_link(node.address) as link:
        settle(run(node, link))
    assert sorted(runner.ran) == questions


def num_received(node: CloudThread) -> int:
    """Bytes of all uploads that are open. What is on its way when a connection is reset is lost."""
    return sum(sum(one.received_bytes) for one in node.server._service.requests._all)


def test_upload_whose_link_is_cut_goes_on_from_the_bytes_that_came(
    tiny_bundle: Path, served: Served, bundles: Path, runner: FakeRunner
) -> None:
    with (
        cloud_thread(served, tiny_bundle, runner, limits=SMALL) as node,
        faulty_link(node.address) as link,
        EdgeNode(link.address, bundles=bundles) as edge,
    ):
        edge.ask("first", PICTURE).text()  # the head is here, and the link is open
        link.up(bytes_per_s=PAYLOAD_BYTES)
        answer = edge.ask("hi", PICTURE, split=0, codec="raw")
        watched = Watched(answer)
        node.call(until(lambda: num_received(node) >= PAYLOAD_BYTES // 2))
        link.up(bytes_per_s=None)
        link.cut()
        assert watched.end().text == "hi "
        assert answer.report.num_resumed == 1
        # What was on its way when the link was cut went twice, and nothing else did.
        assert link.passed("up") < 1.4 * PAYLOAD_BYTES + 4_000
    assert len(runner.payloads[-1]) == PAYLOAD_BYTES


def test_another_cloud_finishes_the_answer_with_the_same_text(
    tiny_bundle: Path, served: Served, link: FaultyLink, far: EdgeNode, runner: FakeRunner
) -> None:
    other = FakeRunner()
    other.release.set()
    with cloud_thread(served, tiny_bundle, other) as another:
        texts = iter(far.ask("one hold two", PICTURE, split=0, codec="raw"))
        beginning = next(texts)
        link.lead_to(another.address)
        link.cut()
        assert beginning + "".join(texts) == "one hold two "
    assert (runner.ran, other.ran) == (["one hold two"], ["one hold two"])
    assert other.payloads == runner.payloads


class Forgetful(FakeRunner):
    """A model that says something else."""

    def begin(self, prompt: FakePrompt, row: int) -> int:
        prompt.words[0] = "other"
        return super().begin(prompt, row)


def test_another_answer_is_never_the_end_of_this_one(
    tiny_bundle: Path, served: Served, link: FaultyLink, far: EdgeNode
) -> None:
    other = Forgetful()
    other.release.set()
    with cloud_thread(served, tiny_bundle, other) as another:
        texts = iter(far.ask("one hold two", PICTURE))
        next(texts)
        link.lead_to(another.address)
        link.cut()
        with pytest.raises(Internal, match="the resumed answer differs"):
            list(texts)
        another.require_idle()


def test_link_that_passes_nothing_is_noticed_and_the_answer_goes_on(
    node: CloudThread, link: FaultyLink, bundles: Path, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_limits, "KEEPALIVE_S", 0.5)
    monkeypatch.setattr(wire_limits, "KEEPALIVE_TIMEOUT_S", 0.5)
    with EdgeNode(link.address, bundles=bundles) as edge:
        answer = edge.ask("one hold two", PICTURE)
        texts = iter(answer)
        beginning = next(texts)
        rest: list[str] = []
        reading = threading.Thread(target=lambda: rest.extend(texts))
        stalled, accepted = time.monotonic(), link.num_accepted
        link.both(stalls=True)
        reading.start()
        runner.release.set()
        link.await_connection(accepted)  # it was noticed: the edge connects again
        assert time.monotonic() - stalled < 5
        link.both(stalls=False)
        reading.join(LIMIT_S)
        assert beginning + "".join(rest) == "one hold two "
        assert answer.report.num_resumed


def test_deadline_holds_on_a_link_that_passes_nothing(
    link: FaultyLink, far: EdgeNode, runner: FakeRunner
) -> None:
    far.ask("first", PICTURE).text()
    texts = iter(far.ask("one hold two", PICTURE, deadline_s=1.0))
    next(texts)
    link.both(stalls=True)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"deadline of 1 s"):
        list(texts)
    assert 0.5 < time.monotonic() - began < 5
    link.both(stalls=False)
    runner.release.set()
    assert far.ask("next", PICTURE).text() == "next "


def test_deadline_holds_while_the_cloud_is_away(link: FaultyLink, far: EdgeNode) -> None:
    texts = iter(far.ask("one hold two", PICTURE, deadline_s=1.0))
    next(texts)
    link.close_port()
    began = time.monotonic()
    with pytest.raises((DeadlineExceeded, Unavailable)) as raised:
        list(texts)
    assert isinstance(raised.value, DeadlineExceeded)
    assert time.monotonic() - began < 5


def test_cloud_that_stays_away_is_unavailable_after_so_long(link: FaultyLink, bundles: Path) -> None:
    with EdgeNode(link.address, bundles=bundles, reconnect_s=1.0) as edge:
        texts = iter(edge.ask("one hold two", PICTURE))
        next(texts)
        link.close_port()
        began = time.monotonic()
        with pytest.raises(Unavailable):
            list(texts)
        assert 0.3 < time.monotonic() - began < 5


def test_edge_that_is_closed_while_it_connects_again_ends_at_once(link: FaultyLink, bundles: Path) -> None:
    async def run() -> None:
        edge = AsyncEdgeNode(link.address, bundles=bundles)
        answer = edge.ask("one hold two", PICTURE)
        texts = aiter(answer)
        await anext(texts)
        accepted = link.num_accepted
        await asyncio.to_thread(link.close_port)
        waiting = asyncio.create_task(anext(texts))
        await asyncio.to_thread(link.await_connection, accepted)
        await edge.close()
        with pytest.raises(Cancelled, match="closed here"):
            await waiting

    settle(run())
