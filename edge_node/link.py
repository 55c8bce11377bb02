"""The link to one cloud: a channel, the calls on it, and its one long-lived stream, opened again when it is lost."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Sequence

import grpc

from edge_node.addresses import target_of
from edge_node.asking import Asking, Question, Sent
from edge_node.calls import Waits, called, fetched
from edge_node.channel import open_channel, open_stub
from edge_node.credentials import NO_CREDENTIALS, Credentials
from edge_node.diagnosis import why_unreachable
from edge_node.edge_id import METADATA_KEY
from edge_node.patience import IMPATIENT, PATIENT, Patience
from edge_node.stream import CloudStream, closed_here
from wire.errors import CleaveError, Unavailable, from_rpc_error
from wire.v1 import inference_pb2 as pb

CONNECT_TIMEOUT_S = 10.0
FETCH_IDLE_S = 30.0
# gRPC tries again several times within this; a cloud that restarts is caught, a wrong port told soon.
_RETRY_S = 1.0
_READY = grpc.ChannelConnectivity.READY
_TRANSIENT_FAILURE = grpc.ChannelConnectivity.TRANSIENT_FAILURE


class CloudLink:
    """Connects on first use, and again after a stream was lost. All methods belong to one event loop."""

    def __init__(
        self,
        address: str,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        credentials: Credentials = NO_CREDENTIALS,
        edge_id: str = "",
        patience: Patience = PATIENT,
    ) -> None:
        self.address = address
        self._patience = patience
        self.has_met = False
        self._timeout_s = connect_timeout_s
        self._credentials = credentials
        self._channel = open_channel(address, credentials, target_of(address))
        self._stub = open_stub(self._channel, credentials)
        self._edge_id = edge_id or secrets.token_hex(16)
        self._metadata = ((METADATA_KEY, self._edge_id),)
        self._stream: CloudStream | None = None
        self._connecting: asyncio.Task[CloudStream] | None = None
        self._is_closed = False

    async def describe(self, *, is_patient: bool = True) -> pb.DescribeReply:
        """Raises Unavailable where nothing answers there, MalformedMessage where something else does.

        A cloud that is busy is asked again when it says, within the link's patience; at once it is an error where
        `is_patient` is false.
        """
        waits = Waits(f"asking {self.address} what it serves", self._patience if is_patient else IMPATIENT)
        return await called(self._describe, waits)

    async def _describe(self) -> pb.DescribeReply:
        self._require_open()
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

    def fetch(self, digest: str, path: str, offset: int = 0) -> AsyncGenerator[pb.BundlePart, None]:
        """One file of a bundle from a byte on, in parts.

        Where they break off, or the cloud is busy, it goes on from there by itself, within the link's patience. Raises
        Unavailable where the next one does not come.
        """

        def parts_from(start: int, first_s: float | None) -> AsyncGenerator[pb.BundlePart, None]:
            wanted = pb.FetchBundleRequest(bundle_digest=digest, path=path, offset=start)
            return self._fetch(wanted, FETCH_IDLE_S if first_s is None else min(first_s, FETCH_IDLE_S))

        waits = Waits(f"fetching {path} from {self.address}", self._patience)
        return fetched(parts_from, offset, waits, self._may_wait)

    def _may_wait(self, error: CleaveError) -> bool:
        """Not where nothing was ever heard: maybe the address is wrong."""
        return not self._is_closed and (self.has_met or error.retry_after_s is not None)

    async def _fetch(
        self, wanted: pb.FetchBundleRequest, first_s: float
    ) -> AsyncGenerator[pb.BundlePart, None]:
        self._require_open()
        call = self._stub.FetchBundle(wanted, metadata=self._metadata)
        idle_s = first_s
        try:
            while (part := await asyncio.wait_for(call.read(), idle_s)) is not grpc.aio.EOF:
                self.has_met, idle_s = True, FETCH_IDLE_S
                yield part
        except TimeoutError:
            raise Unavailable(
                f"{self.address} sent no more of {wanted.path} for {idle_s:.3g} s; ask again"
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
        self._require_open()
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._has_connected)
        try:
            return await asyncio.shield(self._connecting)
        except asyncio.CancelledError:
            if self._is_closed:  # the one that connects was cancelled, not whoever waits
                raise closed_here(self.address) from None
            raise

    def _require_open(self) -> None:
        if self._is_closed:
            raise closed_here(self.address)

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
