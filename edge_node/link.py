"""The link to one cloud: a channel, the calls on it, and its one long-lived stream, opened again when it is lost."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Sequence

import grpc

from edge_node.addresses import target_of
from edge_node.asking import Asking, Question, Sent
from edge_node.edge_id import METADATA_KEY
from edge_node.patience import PATIENT, Patience
from edge_node.stream import CloudStream, closed_here
from wire import limits
from wire.errors import Unavailable, from_rpc_error
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

CONNECT_TIMEOUT_S = 10.0
FETCH_IDLE_S = 30.0
# gRPC tries again several times within this; a cloud that restarts is caught, a wrong port told soon.
_RETRY_S = 1.0
_READY = grpc.ChannelConnectivity.READY
_TRANSIENT_FAILURE = grpc.ChannelConnectivity.TRANSIENT_FAILURE


class CloudLink:
    """Connects on first use, and again after a stream was lost. All methods belong to one event loop."""

    def __init__(self, address: str, connect_timeout_s: float = CONNECT_TIMEOUT_S, edge_id: str = "") -> None:
        self.address = address
        self.has_met = False
        self._timeout_s = connect_timeout_s
        self._edge_id = edge_id or secrets.token_hex(16)
        self._metadata = ((METADATA_KEY, self._edge_id),)
        self._channel = grpc.aio.insecure_channel(target_of(address), options=grpc_channel_options())
        self._stub = pb_grpc.InferenceStub(self._channel)
        self._stream: CloudStream | None = None
        self._connecting: asyncio.Task[CloudStream] | None = None
        self._is_closed = False

    async def describe(self) -> pb.DescribeReply:
        """Raises Unavailable where nothing answers there, MalformedMessage where something else does."""
        await self._reach()
        try:
            reply: pb.DescribeReply = await self._stub.Describe(
                pb.DescribeRequest(edge_id=self._edge_id), timeout=self._timeout_s, metadata=self._metadata
            )
            self.has_met = True
            return reply
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.address) from error

    async def metrics(self) -> str:
        """The cloud's counts and measurements, in Prometheus' text format; raises what `describe` raises."""
        await self._reach()
        try:
            reply: pb.MetricsReply = await self._stub.Metrics(
                pb.MetricsRequest(), timeout=self._timeout_s, metadata=self._metadata
            )
            return reply.exposition
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.address) from error

    async def fetch(self, digest: str, path: str, offset: int = 0) -> AsyncGenerator[pb.BundlePart, None]:
        """One file of a bundle from a byte on, in parts; raises Unavailable where the next one does not come."""
        wanted = pb.FetchBundleRequest(bundle_digest=digest, path=path, offset=offset)
        call = self._stub.FetchBundle(wanted, metadata=self._metadata)
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

    def ask(
        self,
        opening: pb.Open,
        payloads: Sequence[bytes],
        sent: Sent,
        *,
        hash_first: bool | None = None,
        patience: Patience = PATIENT,
    ) -> AsyncGenerator[pb.Down, None]:
        """Sends a request with a payload per input; gives what the cloud says of it, each token once, Done last.

        With `hash_first` each payload waits for the cloud's Need; None: if they do not fit inside the Open, together.
        A connection that is lost in the middle is made again, as `patience` says, and the request goes on. `sent`
        counts along. Raises the CleaveError that the request failed with. A request that is left early is cancelled.
        """
        return Asking(self, Question(opening, payloads, hash_first), sent, patience).downs()

    async def close(self) -> None:
        """Ends what is being asked with Cancelled, and every call."""
        self._is_closed = True
        if (connecting := self._connecting) is not None:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
        if self._stream is not None:
            await self._stream.close()
        await self._channel.close()

    async def connected(self) -> CloudStream:
        """The stream, opened if need be: by one, whoever waits for it. Raises Unavailable, or what refused it."""
        if self._stream is not None and not self._stream.is_lost and not self._stream.is_ending:
            return self._stream
        if self._is_closed:
            raise closed_here(self.address)
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._has_connected)
        try:
            return await asyncio.shield(self._connecting)
        except asyncio.CancelledError:
            if self._is_closed:  # the one that connects was cancelled, not whoever waits
                raise closed_here(self.address) from None
            raise

    async def _connect(self) -> CloudStream:
        await self._reach()
        self._stream = await CloudStream.open(
            self._stub, self.address, self._timeout_s, self._edge_id, self._metadata
        )
        self.has_met = True
        return self._stream

    def _has_connected(self, task: asyncio.Task[CloudStream]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # whoever waited has it, and maybe nobody did

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
                reason = "connecting fails" if has_failed else "nothing comes back"
                raise Unavailable(
                    f"no cloud node answers at {self.address} ({reason}, given up after {wait_s:.2g} s); is the "
                    "address right, and does `cleave cloud` run there?"
                ) from None


def grpc_channel_options() -> list[tuple[str, int]]:
    """The shared options, and a fast first failure: whoever asks wants to know now."""
    return [
        *limits.grpc_options(),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]
