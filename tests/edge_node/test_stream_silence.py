"""A stream from which nothing comes, or not everything, is noticed, and its requests go on elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cleave import AsyncEdgeNode
from cloud_node.asked.served import Served
from tests.edge_node.test_link import Honest, serving
from tests.kit.clouds import settle
from tests.kit.pictures import textured
from wire import limits
from wire.checked import add_checked_servicer
from wire.errors import Unavailable
from wire.v1 import inference_pb2 as pb

PICTURE = textured(60, 40)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEEPALIVE_S", 0.2)
    monkeypatch.setattr(limits, "KEEPALIVE_TIMEOUT_S", 0.3)
    Broken.num_streams_made = 0


class Broken(Honest):
    """The first stream with a request is not honest."""

    num_streams_made: ClassVar[int] = 0

    async def Stream(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.Down]:
        Broken.num_streams_made += 1
        is_first = Broken.num_streams_made == 1
        async for down in super().Stream(request_iterator, context):
            async for one in self.passed(down) if is_first else _whole(down):
                yield one

    async def passed(self, down: pb.Down) -> AsyncIterator[pb.Down]:
        yield down


async def _whole(down: pb.Down) -> AsyncIterator[pb.Down]:
    yield down


class HangsAfterWelcome(Broken):
    """Its network threads live; nothing else does."""

    async def passed(self, down: pb.Down) -> AsyncIterator[pb.Down]:
        if down.WhichOneof("message") != "welcome":
            await asyncio.Event().wait()
        yield down


class LosesItsEnd(Broken):
    """A frame with the last message is dropped on its way."""

    async def passed(self, down: pb.Down) -> AsyncIterator[pb.Down]:
        for one in down.batch.downs or (down,):
            if one.WhichOneof("message") != "done":
                yield one


class LosesText(Broken):
    """A frame with a delta is dropped on its way."""

    num_lost = 0

    async def passed(self, down: pb.Down) -> AsyncIterator[pb.Down]:
        for one in down.batch.downs or (down,):
            if one.WhichOneof("message") == "deltas" and not self.num_lost:
                self.num_lost += 1
                continue
            yield one


async def asked(
    service: type[Honest], served: Served, bundle: Path, bundles: Path, **options: Any
) -> tuple[str, int]:
    made = service(served, bundle)
    async with (
        serving(lambda server: add_checked_servicer(made, server)) as address,
        AsyncEdgeNode(address, bundles=bundles, **options) as edge,
    ):
        answer = edge.ask("one two three", PICTURE)
        return await answer.text(), answer.report.num_resumed


@pytest.mark.parametrize("service", [HangsAfterWelcome, LosesItsEnd, LosesText])
def test_request_on_a_stream_that_is_silent_or_has_holes_goes_on_on_another(
    service: type[Honest], served: Served, tiny_bundle: Path, bundles: Path
) -> None:
    assert settle(asked(service, served, tiny_bundle, bundles)) == ("one two three ", 1)


def test_silence_says_how_long_it_was(served: Served, tiny_bundle: Path, bundles: Path) -> None:
    with pytest.raises(Unavailable, match=r"said nothing for 0\.5 s"):
        settle(asked(HangsAfterWelcome, served, tiny_bundle, bundles, reconnect_s=0))
