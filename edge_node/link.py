"""The link to one cloud: a channel, the calls on it, and what is uploaded on its one long-lived stream."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

import grpc

from edge_node.channel import open_channel, open_stub
from edge_node.credentials import NO_CREDENTIALS, Credentials
from edge_node.diagnosis import why_unreachable
from edge_node.stream import CloudStream
from wire import limits
from wire.chunks import split
from wire.errors import (
    CleaveError,
    MalformedMessage,
    TooLarge,
    Unavailable,
    from_rpc_error,
)
from wire.v1 import inference_pb2 as pb

CONNECT_TIMEOUT_S = 10.0
FETCH_IDLE_S = 30.0
# gRPC tries again several times within this; a cloud that restarts is caught, a wrong port told soon.
_RETRY_S = 1.0
_READY = grpc.ChannelConnectivity.READY
_TRANSIENT_FAILURE = grpc.ChannelConnectivity.TRANSIENT_FAILURE


@dataclass(slots=True)
class Sent:
    """Bytes that went up for one request."""

    by_input: Counter[int] = field(default_factory=Counter)  # of each input's payload
    message_bytes: int = 0  # the payloads' among them

    @property
    def payload_bytes(self) -> int:
        return self.by_input.total()


class CloudLink:
    """Connects on first use, and again after a stream was lost. All methods belong to one event loop."""

    def __init__(
        self,
        address: str,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        credentials: Credentials = NO_CREDENTIALS,
    ) -> None:
        self.address = address
        self._timeout_s = connect_timeout_s
        self._credentials = credentials
        self._channel = open_channel(address, credentials)
        self._stub = open_stub(self._channel, credentials)
        self._stream: CloudStream | None = None
        self._opening = asyncio.Lock()

    async def describe(self) -> pb.DescribeReply:
        """Raises Unavailable where nothing answers there, MalformedMessage where something else does."""
        await self._reach()
        try:
            reply: pb.DescribeReply = await self._stub.Describe(pb.DescribeRequest(), timeout=self._timeout_s)
            return reply
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.address) from error

    async def metrics(self) -> str:
        """The cloud's counts and measurements, in Prometheus' text format; raises what `describe` raises."""
        await self._reach()
        try:
            reply: pb.MetricsReply = await self._stub.Metrics(pb.MetricsRequest(), timeout=self._timeout_s)
            return reply.exposition
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.address) from error

    async def fetch(self, digest: str, path: str, offset: int = 0) -> AsyncGenerator[pb.BundlePart, None]:
        """One file of a bundle from a byte on, in parts; raises Unavailable where the next one does not come."""
        wanted = pb.FetchBundleRequest(bundle_digest=digest, path=path, offset=offset)
        call = self._stub.FetchBundle(wanted)
        try:
            while (part := await asyncio.wait_for(call.read(), FETCH_IDLE_S)) is not grpc.aio.EOF:
                yield part
        except TimeoutError:
            raise Unavailable(
                f"{self.address} sent no more of {path} for {FETCH_IDLE_S:g} s; ask again"
            ) from None
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.address) from error
        finally:
            call.cancel()

    async def ask(
        self, opening: pb.Open, payloads: Sequence[bytes], sent: Sent, *, hash_first: bool | None = None
    ) -> AsyncGenerator[pb.Down, None]:
        """Sends a request with a payload per input; gives what the cloud says of it, Done last.

        With `hash_first` each payload waits for the cloud's Need; None: if they do not fit inside the Open, together.
        `sent` counts along. Raises the CleaveError that the request failed with. A request that is left early is
        cancelled.
        """
        stream = await self._connected()
        fits = self._fits_inside(stream, payloads)
        waits = (not fits) if hash_first is None else hash_first
        inbox = stream.subscribe(opening.request_id)
        is_over = False
        needed: set[int] = set()
        try:
            if fits and not waits:
                for index, payload in enumerate(payloads):
                    opening.inputs[index].payload = payload
                    sent.by_input[index] += len(payload)
            await self._send(stream, pb.Up(open=opening), sent)
            if not fits and not waits:
                for index, payload in enumerate(payloads):
                    await self._upload(stream, opening.request_id, index, payload, 0, sent)
            while not is_over:
                down = await inbox.get()
                if isinstance(down, CleaveError):
                    is_over = True
                    raise down
                if waits and down.WhichOneof("message") == "need":
                    index, start = down.need.input_index, down.need.from_offset
                    if index >= len(payloads) or index in needed:
                        again = " again" if index in needed else ""
                        raise MalformedMessage(
                            f"{self.address} needs input {index} of {len(payloads)}{again}"
                        )
                    needed.add(index)
                    await self._upload(stream, opening.request_id, index, payloads[index], start, sent)
                is_over = down.WhichOneof("message") == "done"
                yield down
        finally:
            stream.unsubscribe(opening.request_id)
            if not is_over:
                with contextlib.suppress(CleaveError):
                    await stream.send(pb.Up(cancel=pb.Cancel(request_id=opening.request_id)))

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.close()
        await self._channel.close()

    def _fits_inside(self, stream: CloudStream, payloads: Sequence[bytes]) -> bool:
        """Whether all payloads can ride inside the Open; raises TooLarge where the cloud takes them in no way."""
        assert stream.limits is not None
        num_bytes = sum(map(len, payloads))
        if num_bytes > stream.limits.max_request_bytes:
            raise TooLarge(
                f"the features have {num_bytes:,} bytes, and {self.address} takes "
                f"{stream.limits.max_request_bytes:,}; use another split point or codec"
            )
        if len(payloads) > stream.limits.max_inputs:
            raise TooLarge(
                f"the request has {len(payloads)} inputs, and {self.address} takes {stream.limits.max_inputs}; ask "
                "about fewer at once"
            )
        return num_bytes <= min(stream.limits.max_inline_bytes, limits.MAX_INLINE_BYTES)

    async def _upload(
        self, stream: CloudStream, request_id: str, index: int, payload: bytes, start: int, sent: Sent
    ) -> None:
        """From byte `start` on, until the cloud has enough: it may fail the request, or find its features."""
        assert stream.limits is not None
        most = min(stream.limits.max_chunk_bytes, limits.MAX_CHUNK_BYTES)
        for offset, data, crc32 in split(payload, most, start):
            if not stream.is_wanted(request_id, index):
                return
            chunk = pb.Chunk(request_id=request_id, input_index=index, offset=offset, data=data, crc32=crc32)
            await self._send(stream, pb.Up(chunk=chunk), sent)
            sent.by_input[index] += len(data)

    async def _send(self, stream: CloudStream, up: pb.Up, sent: Sent) -> None:
        await stream.send(up)
        sent.message_bytes += up.ByteSize()

    async def _connected(self) -> CloudStream:
        async with self._opening:
            if self._stream is None or self._stream.is_lost or self._stream.is_ending:
                await self._reach()
                self._stream = await CloudStream.open(self._stub, self.address, self._timeout_s)
            return self._stream

    async def _reach(self) -> None:
        """Waits until the channel is ready; where connecting failed, retries get a moment and not the whole time."""
        deadline = time.monotonic() + self._timeout_s
        while (state := self._channel.get_state(try_to_connect=True)) is not _READY:
            has_failed = state is _TRANSIENT_FAILURE
            left_s = deadline - time.monotonic()
            try:
                wait_s = min(left_s, _RETRY_S) if has_failed else left_s
                await asyncio.wait_for(self._channel.wait_for_state_change(state), wait_s)
            except TimeoutError:
                if (
                    has_failed
                    and (known := await why_unreachable(self.address, self._credentials)) is not None
                ):
                    raise known from None
                reason = "connecting fails" if has_failed else "nothing comes back"
                raise Unavailable(
                    f"no cloud node answers at {self.address} ({reason}, given up after {wait_s:.2g} s); is the "
                    "address right, and does `cleave cloud` run there?"
                ) from None
