"""The gRPC face of the cloud: calls in, domain calls out; the one place where errors become statuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, NoReturn

from cloud_node.bundle_files import BundleFiles, find_bundle
from cloud_node.host import Host
from cloud_node.messages import describe_reply
from cloud_node.requests import OpenRequests
from cloud_node.stream import EdgeStream
from wire.errors import CleaveError, ErrorCode, Internal, Unavailable, status_of, to_trailer
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

_log = logging.getLogger(__name__)


class InferenceService(pb_grpc.InferenceServicer):
    """Serves every edge's stream, and the unary calls beside it."""

    def __init__(self, host: Host, bundles: Sequence[BundleFiles], max_detached: int) -> None:
        self._host = host
        self._bundles = bundles
        self.requests = OpenRequests(host, max_detached)
        self._streams: set[EdgeStream] = set()
        self._is_draining = False

    @property
    def num_streams(self) -> int:
        return len(self._streams)

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
        stream = EdgeStream(self._host, self.requests, is_draining=self._is_draining)
        self._streams.add(stream)
        outcome = "ok"  # where the edge goes without a word, too: a lost stream looks like an ended one
        try:
            async with aclosing(stream.run(request_iterator)) as messages:
                async for down in messages:
                    yield down
        except Exception as error:
            outcome = (error.code if isinstance(error, CleaveError) else ErrorCode.INTERNAL).name.lower()
            await _abort(context, error)
        finally:
            self._streams.discard(stream)
            self._host.metrics.stream_ended(outcome)

    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeReply:
        served = [hosted.served for hosted in self._host.models.values()]
        return describe_reply(served, self._host.bounds, self._host.server_version)

    async def Metrics(self, request: pb.MetricsRequest, context: Any) -> pb.MetricsReply:
        return pb.MetricsReply(exposition=self._host.metrics.exposition())

    async def FetchBundle(self, request: pb.FetchBundleRequest, context: Any) -> AsyncIterator[pb.BundlePart]:
        try:
            for part in find_bundle(self._bundles, request.bundle_digest).parts(request):
                yield part
        except Exception as error:
            await _abort(context, error)


async def _abort(context: Any, error: Exception) -> NoReturn:
    if not isinstance(error, CleaveError):
        # gRPC would tell the peer its text, which may hold paths or a user's data.
        _log.error("a call failed", exc_info=error)
        error = Internal(f"unforeseen {type(error).__name__}; the cloud's log says more")
    await context.abort(status_of(error), str(error), to_trailer(error))
    raise AssertionError("abort does not return")
