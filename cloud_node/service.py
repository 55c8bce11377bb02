"""The gRPC face of the cloud: calls in, domain calls out."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Any

from cloud_node.access.callers import CALLER, Caller
from cloud_node.access.statuses import abort
from cloud_node.asked.tenants import Tenant
from cloud_node.bundle_files import BundleFiles, find_bundle
from cloud_node.streams.host import Host
from cloud_node.streams.requests import OpenRequests
from cloud_node.streams.stream import EdgeStream
from cloud_node.streams.stuck import Stuck
from wire.errors import CleaveError, Denied, ErrorCode, Overloaded, Unavailable
from wire.limits import check_edge_id
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

# Enough for a status to be on its way, where there is room for it.
_LAST_WORD_S = 0.1


class InferenceService(pb_grpc.InferenceServicer):
    """Serves every edge's stream, and the unary calls beside it."""

    def __init__(
        self, host: Host, bundles: Sequence[BundleFiles], max_detached: int, max_streams: int = 4096
    ) -> None:
        self._host = host
        self._bundles = bundles
        self._max_streams = max_streams
        self.requests = OpenRequests(host, max_detached)
        self._streams: set[EdgeStream] = set()
        self._cutting: set[asyncio.Task[None]] = set()
        self._is_draining = False

    @property
    def num_streams(self) -> int:
        return len(self._streams)

    @property
    def num_held_bytes(self) -> int:
        """Of payloads, reserved."""
        return self._host.held.num_bytes

    def streams(self) -> Iterable[EdgeStream]:
        return self._streams

    def go_away(self, reason: str, drain_s: float) -> None:
        """Tells every edge that this cloud will close; opens no further stream."""
        self._is_draining = True
        for stream in self._streams:
            stream.go_away(reason, drain_s)

    async def wait_idle(self, timeout_s: float) -> None:
        """Waits until no stream has an open request, at most that long."""
        waiting = [asyncio.ensure_future(stream.idle.wait()) for stream in self._streams]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=timeout_s)
            for task in late:
                task.cancel()

    def finish(self) -> None:
        """Ends the streams, and all that is open."""
        for stream in self._streams:
            stream.finish(
                Unavailable("the cloud closed before the answer was whole; ask again", retry_after_s=5.0)
            )
        self.requests.close()

    async def Stream(self, request_iterator: AsyncIterator[pb.Up], context: Any) -> AsyncIterator[pb.Down]:
        caller = CALLER.get()
        outcome = "ok"  # where the edge goes without a word, too: a lost stream looks like an ended one
        call = asyncio.current_task()
        assert call is not None

        def give_up() -> None:
            nonlocal outcome
            outcome = ErrorCode.UNAVAILABLE.name.lower()
            self._cut(call, context)

        stuck = Stuck(self._host.bounds.limits.stream_idle_s, give_up)
        try:
            with self._host.quotas.stream(caller.tenant(), time.monotonic()), self._opened(caller) as stream:
                async with aclosing(stream.run(request_iterator)) as messages:
                    async for down in messages:
                        stuck.offered()
                        yield down
                        stuck.taken()
        except Exception as error:
            outcome = (error.code if isinstance(error, CleaveError) else ErrorCode.INTERNAL).name.lower()
            await abort(context, error)
        finally:
            stuck.close()
            self._host.metrics.stream_ended(outcome)

    def _cut(self, call: asyncio.Task[Any], context: Any) -> None:
        """Ends the call of an edge that takes nothing; what it had open goes on where it can come back to it."""
        error = Unavailable(
            f"this edge took nothing of what it was told for {self._host.bounds.limits.stream_idle_s:g} s; read, or "
            "close the stream"
        )
        cutting = asyncio.get_running_loop().create_task(_cut(call, context, error))
        self._cutting.add(cutting)
        cutting.add_done_callback(self._cutting.discard)

    @contextmanager
    def _opened(self, caller: Caller) -> Iterator[EdgeStream]:
        if len(self._streams) >= self._max_streams:
            raise Overloaded(
                f"this cloud has {self._max_streams:,} streams, which is its limit; come back later, or elsewhere",
                retry_after_s=5.0 + 5.0 * random.random(),
            )
        stream = EdgeStream(self._host, self.requests, caller, is_draining=self._is_draining)
        self._streams.add(stream)
        try:
            yield stream
        finally:
            self._streams.discard(stream)

    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeReply:
        try:
            return self._host.describe(check_edge_id(request.edge_id))
        except Exception as error:
            await abort(context, error)

    async def Metrics(self, request: pb.MetricsRequest, context: Any) -> pb.MetricsReply:
        try:
            _require_operator(CALLER.get().tenant())
        except Exception as error:
            await abort(context, error)
        return pb.MetricsReply(exposition=self._host.metrics.exposition())

    async def FetchBundle(self, request: pb.FetchBundleRequest, context: Any) -> AsyncIterator[pb.BundlePart]:
        try:
            parts = _read(find_bundle(self._bundles, request.bundle_digest), request)
            async with aclosing(parts):
                async for part in parts:
                    yield part
        except Exception as error:
            await abort(context, error)


async def _read(files: BundleFiles, request: pb.FetchBundleRequest) -> AsyncGenerator[pb.BundlePart, None]:
    """Off the loop: a disk may take its time."""
    parts = await asyncio.to_thread(files.parts, request)
    while (part := await asyncio.to_thread(next, parts, None)) is not None:
        yield part


async def _cut(call: asyncio.Task[Any], context: Any, error: CleaveError) -> None:
    """The status is for an edge that reads again; it waits behind what was not taken, so nobody waits for it here."""
    with suppress(Exception):  # whatever the call's end raises: it has ended
        async with asyncio.timeout(_LAST_WORD_S):
            await abort(context, error)
    call.cancel()


def _require_operator(tenant: Tenant) -> None:
    if not tenant.sees_metrics:
        raise Denied(
            f"tenant {tenant.name} may not see the metrics, as they tell of all tenants; ask this cloud's operator for "
            "a token of a tenant with `metrics = true`"
        )
