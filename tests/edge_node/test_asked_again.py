"""Clouds that refuse for a while, and streams that others end: the edge asks again, under the same name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest

from cleave import AsyncEdgeNode
from cloud_node.asked.served import Served
from edge_node.edge_id import METADATA_KEY
from tests.edge_node.test_link import Honest, serving
from tests.kit.clouds import limits, settle
from tests.kit.pictures import textured
from wire.errors import Overloaded, Unavailable, to_failed
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

PICTURE = textured(60, 40)


class Refusing(Honest):
    """Says `error` to the first Open."""

    error: Any = Unavailable("this cloud is closing", retry_after_s=0.01)

    async def Stream(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.Down]:
        async for down in super().Stream(self._passed(request_iterator), context):
            yield down

    async def _passed(self, messages: AsyncIterator[pb.Up]) -> AsyncIterator[pb.Up]:
        async for up in messages:
            if up.WhichOneof("message") == "open" and self.error is not None:
                error, self.error = self.error, None
                for stream in self._streams:
                    stream.put(pb.Down(failed=to_failed(up.open.request_id, error)))
                continue
            yield up


class Busy(Refusing):
    error = Overloaded("full", retry_after_s=0.01)


class EndedByAProxy(Refusing):
    error = None
    num_streams_opened = 0

    async def Stream(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.Down]:
        self.num_streams_opened += 1
        if self.num_streams_opened == 1:
            await anext(request_iterator)
            yield pb.Down(welcome=pb.Welcome(limits=limits().to_wire()))
            await anext(request_iterator)
            await context.abort(grpc.StatusCode.INTERNAL, "reset by a proxy")
        async for down in super().Stream(request_iterator, context):
            yield down


async def asked(
    service: type[Honest], served: Served, bundle: Path, bundles: Path, **options: Any
) -> tuple[str, int]:
    made = service(served, bundle)
    async with (
        serving(lambda server: pb_grpc.add_InferenceServicer_to_server(made, server)) as address,
        AsyncEdgeNode(address, bundles=bundles, **options) as edge,
    ):
        answer = edge.ask("hi", PICTURE)
        return await answer.text(), answer.report.num_resumed


@pytest.mark.parametrize("service", [Refusing, EndedByAProxy])
def test_cloud_that_closes_and_a_stream_that_is_reset_are_asked_again(
    service: type[Honest], served: Served, tiny_bundle: Path, bundles: Path
) -> None:
    assert settle(asked(service, served, tiny_bundle, bundles)) == ("hi ", 1)


def test_busy_cloud_is_asked_again_where_that_is_wanted(
    served: Served, tiny_bundle: Path, bundles: Path
) -> None:
    assert settle(asked(Busy, served, tiny_bundle, bundles, waits_when_busy=True)) == ("hi ", 1)
    with pytest.raises(Overloaded):
        settle(asked(Busy, served, tiny_bundle, bundles))


class Listening(Honest):
    said: ClassVar[set[str]] = set()

    async def Stream(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.Down]:
        self.said |= {
            f"metadata {value}" for key, value in context.invocation_metadata() if key == METADATA_KEY
        }
        async for down in super().Stream(self._heard(request_iterator), context):
            yield down

    async def _heard(self, messages: AsyncIterator[pb.Up]) -> AsyncIterator[pb.Up]:
        async for up in messages:
            if up.WhichOneof("message") == "hello":
                self.said.add(f"hello {up.hello.edge_id}")
            yield up

    async def Describe(self, request: Any, context: Any) -> pb.DescribeReply:
        self.said.add(f"describe {request.edge_id}")
        return await super().Describe(request, context)


def test_edge_says_its_id_to_the_cloud_and_to_a_balancer(
    served: Served, tiny_bundle: Path, bundles: Path
) -> None:
    settle(asked(Listening, served, tiny_bundle, bundles, edge_id="camera-7"))
    assert Listening.said == {"hello camera-7", "describe camera-7", "metadata camera-7"}
