"""Calls beside the stream that break off, or that a busy cloud refuses: made again by themselves, not for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.faulty.link import faulty_link
from cleave import AsyncEdgeNode
from cloud_node.access.statuses import abort
from cloud_node.asked.served import Served
from edge_node import calls
from edge_node.link import CloudLink
from edge_node.patience import PATIENT, Patience
from tests.edge_node.test_bundle_resume import CONTENT, PART, PATH, Bundle
from tests.edge_node.test_link import PICTURE, Honest, serving
from tests.kit.clouds import settle
from wire.errors import CleaveError, Denied, LimitReached, Overloaded, Unavailable
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(tmp_path / "served")


@contextlib.asynccontextmanager
async def linked(service: Any, patience: Patience = PATIENT) -> AsyncIterator[CloudLink]:
    async with serving(lambda server: pb_grpc.add_InferenceServicer_to_server(service, server)) as address:
        link = CloudLink(address, patience=patience)
        try:
            yield link
        finally:
            await link.close()


def test_file_whose_link_is_cut_goes_on_and_no_byte_comes_twice(tmp_path: Path, bundle: Bundle) -> None:
    told: list[int] = []

    async def run() -> None:
        bundle.service.stall_after = 2 * PART
        half = asyncio.Event()

        def hear(path: str, done: int, total: int) -> None:
            told.append(done)
            if done == 2 * PART:
                half.set()

        async with linked(bundle.service) as direct:
            with faulty_link(direct.address) as cable:
                link = CloudLink(cable.address)
                fetching = asyncio.ensure_future(bundle.fetch(tmp_path / "kept", link, hear))
                await half.wait()
                bundle.service.stall_after = len(CONTENT)
                await asyncio.to_thread(cable.cut)
                await fetching
                await link.close()

    settle(run())
    assert (tmp_path / "kept" / bundle.digest / PATH).read_bytes() == CONTENT
    assert bundle.service.asked == [("manifest.json", 0), (PATH, 0), (PATH, 2 * PART)]
    assert told[-4:] == [PART, 2 * PART, 3 * PART, len(CONTENT)]


class Breaking(pb_grpc.InferenceServicer):
    """Sends `step` bytes of a file of `num_bytes`, and ends the call as a link that is lost does, or with `error`."""

    def __init__(self, step: int, num_bytes: int, error: CleaveError | None = None) -> None:
        self.offsets: list[int] = []
        self._step = step
        self._num_bytes = num_bytes
        self._error = error or Unavailable("lost")

    async def FetchBundle(self, request: pb.FetchBundleRequest, context: Any) -> AsyncIterator[pb.BundlePart]:
        self.offsets.append(request.offset)
        left = self._num_bytes - request.offset
        if self._step or not left:
            data = bytes(min(self._step, left))
            yield pb.BundlePart(path=request.path, offset=request.offset, data=data)
        if left:
            await abort(context, self._error)


async def fetched(service: Breaking, patience: Patience = PATIENT) -> list[int]:
    """The sizes of the parts."""
    async with linked(service, patience) as link:
        link.has_met = True
        return [len(part.data) async for part in link.fetch("ab" * 32, "file")]


def test_file_that_breaks_off_at_its_very_end_is_whole_and_has_no_empty_part() -> None:
    service = Breaking(step=3, num_bytes=3)
    assert settle(fetched(service)) == [3]
    assert service.offsets == [0, 3]


def test_empty_file_has_its_empty_part() -> None:
    assert settle(fetched(Breaking(step=0, num_bytes=0))) == [0]


def test_file_that_brings_nothing_is_given_up_in_time() -> None:
    service = Breaking(step=0, num_bytes=3)
    with pytest.raises(Unavailable, match="lost"):
        settle(fetched(service, Patience(reconnect_s=0.5)))
    assert 2 <= len(service.offsets) <= 6


def test_file_that_breaks_off_again_and_again_is_given_up_though_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "MOST_BREAKS", 3)
    service = Breaking(step=1, num_bytes=1_000_000)
    with pytest.raises(Unavailable, match="lost"):
        settle(fetched(service, Patience(reconnect_s=0.2)))
    assert 3 <= len(service.offsets) <= 8


def test_nothing_is_fetched_again_without_patience_or_where_the_cloud_says_no() -> None:
    for error, patience in ((Unavailable("lost"), Patience(0.0)), (Denied("no"), PATIENT)):
        service = Breaking(step=0, num_bytes=1, error=error)
        with pytest.raises(type(error)):
            settle(fetched(service, patience))
        assert service.offsets == [0]


def test_address_at_which_nobody_was_ever_met_is_not_called_again() -> None:
    service = Breaking(step=0, num_bytes=1)

    async def run() -> None:
        async with linked(service) as link:
            async for _ in link.fetch("ab" * 32, "file"):
                pass

    with pytest.raises(Unavailable, match="lost"):
        settle(run())
    assert service.offsets == [0]


class Refusals:
    """Of each kind of call beside the stream the first `times` are refused with `error`."""

    def __init__(self, error: CleaveError, times: int) -> None:
        self.error = error
        self.left = {"Describe": times, "FetchBundle": times}
        self.num_asked = 0

    async def decide(self, kind: str, context: Any) -> None:
        self.num_asked += 1
        self.left[kind] -= 1
        if self.left[kind] >= 0:
            await abort(context, self.error)


class Refusing(Honest):
    def __init__(self, served: Served, bundle: Path, refusals: Refusals) -> None:
        super().__init__(served, bundle)
        self._refusals = refusals

    async def Describe(self, request: Any, context: Any) -> pb.DescribeReply:
        await self._refusals.decide("Describe", context)
        return await super().Describe(request, context)

    async def FetchBundle(self, request: Any, context: Any) -> AsyncIterator[pb.BundlePart]:
        await self._refusals.decide("FetchBundle", context)
        async for part in super().FetchBundle(request, context):
            yield part


# Asks questions of a cloud that refuses so; what it answers, and the options are the edge's.
Ask = Callable[..., Coroutine[Any, Any, list[str]]]


@pytest.fixture
def ask(served: Served, tiny_bundle: Path, tmp_path: Path) -> Ask:
    async def asked(refusals: Refusals, questions: Iterable[str] = ("hi",), **options: Any) -> list[str]:
        service = Refusing(served, tiny_bundle, refusals)
        async with (
            serving(lambda server: pb_grpc.add_InferenceServicer_to_server(service, server)) as address,
            AsyncEdgeNode(address, bundles=tmp_path, **options) as edge,
        ):
            return [await edge.ask(question, PICTURE).text() for question in questions]

    return asked


@pytest.mark.parametrize("error", [LimitReached, Overloaded])
def test_call_that_is_refused_for_a_while_is_made_again_and_a_person_is_told_why(
    ask: Ask, caplog: pytest.LogCaptureFixture, error: type[CleaveError]
) -> None:
    refusals = Refusals(error("64 calls are open", retry_after_s=0.01), 2)
    assert settle(ask(refusals)) == ["hi "]
    told = [record.getMessage() for record in caplog.records if record.name == calls.__name__]
    # Once for each call, however often it is refused.
    assert ["what it serves" in told[0], "manifest.json" in told[1], len(told)] == [True, True, 2]
    assert all(one.endswith("64 calls are open") for one in told)


def test_cloud_that_refuses_for_ever_is_an_error_in_time(ask: Ask) -> None:
    refusals = Refusals(LimitReached("64 calls are open", retry_after_s=0.01), 1_000_000)
    with pytest.raises(LimitReached, match="64 calls"):
        settle(ask(refusals, reconnect_s=0.5))
    assert 2 <= refusals.num_asked <= 8


def test_refusal_that_does_not_say_for_how_long_is_an_error_at_once(ask: Ask) -> None:
    refusals = Refusals(Overloaded("full"), 1)
    with pytest.raises(Overloaded):
        settle(ask(refusals))
    assert refusals.num_asked == 1


@pytest.mark.usefixtures("always_asks")
def test_question_does_not_wait_to_hear_again_what_is_served(ask: Ask) -> None:
    refusals = Refusals(Overloaded("full", retry_after_s=30.0), 0)

    def questions() -> Iterator[str]:
        yield "first"
        refusals.left["Describe"] = 1
        yield "second"

    assert settle(ask(refusals, questions())) == ["first ", "second "]
    assert refusals.left["Describe"] == 0
