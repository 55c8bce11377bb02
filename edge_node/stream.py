"""The long-lived stream to a cloud: what goes up, and what comes down told apart by request id."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import grpc

from edge_node.inbox import Inbox, StreamLost
from wire import limits
from wire.codecs import all_codecs
from wire.errors import (
    Cancelled,
    CleaveError,
    Corrupt,
    MalformedMessage,
    Unavailable,
    from_failed,
    from_rpc_error,
)
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

# A cloud that is there reads a few messages within this.
_GOODBYE_S = 1.0

Metadata = Sequence[tuple[str, str | bytes]]
_MAX_SATISFIED = 1024  # inputs that one request can have, several times over


class CloudStream:
    """The long-lived call: one reader task hands every message to the request it belongs to."""

    def __init__(self, call: Any, address: str) -> None:
        self._call = call
        self._address = address
        self._inboxes: dict[str, Inbox] = {}
        self._satisfied: dict[
            str, set[int | None]
        ] = {}  # inputs whose payload the cloud needs no more; None: all
        self._sending = asyncio.Lock()
        self._writing: set[asyncio.Future[None]] = set()
        self._reader: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._num_sent = 0  # messages up
        self._num_heard = 0  # and down
        self._heard_s = 0.0  # when the last came, monotonic
        self._is_broken_by: CleaveError | None = None
        self._is_closed = False  # here
        self.limits: pb.Limits | None = None
        self.is_lost = False
        # The cloud will close: what is open ends here, the next request connects anew.
        self.is_ending = False

    @classmethod
    async def open(
        cls, stub: pb_grpc.InferenceStub, address: str, timeout_s: float, edge_id: str, sent_along: Metadata
    ) -> CloudStream:
        """Says Hello and waits for Welcome."""
        stream = cls(stub.Stream(metadata=sent_along), address)
        hello = pb.Hello(
            protocol_version=limits.PROTOCOL_VERSION,
            codecs=[str(codec) for codec in all_codecs()],
            client_name="cleave",
            client_version=metadata.version("cleave"),
            edge_id=edge_id,
            takes_batches=True,
        )
        await stream.send(pb.Up(hello=hello))
        try:
            first = await asyncio.wait_for(stream._call.read(), timeout_s)
        except TimeoutError:
            stream._call.cancel()
            raise Unavailable(
                f"{address} took a stream and did not welcome it within {timeout_s:g} s"
            ) from None
        except grpc.RpcError as error:
            raise from_rpc_error(error, address) from error
        try:
            stream.limits = _welcomed(first, address)
        except CleaveError:
            stream._call.cancel()
            raise
        stream._num_heard, stream._heard_s = 1, time.monotonic()
        stream._reader = asyncio.create_task(stream._read())
        stream._watcher = asyncio.create_task(stream._watch())
        return stream

    def subscribe(self, request_id: str) -> Inbox:
        self._inboxes[request_id] = inbox = Inbox()
        return inbox

    def unsubscribe(self, request_id: str) -> None:
        self._inboxes.pop(request_id, None)
        self._satisfied.pop(request_id, None)

    def is_wanted(self, request_id: str, input_index: int) -> bool:
        """Whether the cloud still needs an input's payload: not once it has refused it, or found it elsewhere."""
        satisfied = self._satisfied.get(request_id, ())
        is_satisfied = input_index in satisfied or None in satisfied
        return request_id in self._inboxes and not is_satisfied and not self.is_lost

    def break_off(self, error: CleaveError) -> None:
        """Ends the stream here, as one that cannot be trusted: what is open on it may go on elsewhere."""
        self._is_broken_by = self._is_broken_by or error
        self.is_lost = True
        self._call.cancel()

    def give_up(self, request_id: str, error: CleaveError) -> None:
        """Ends one request here with `error`; the cloud is not told."""
        self._put(request_id, error)

    async def send(self, up: pb.Up) -> None:
        if self.is_lost:
            raise self._lost()
        # gRPC ends the whole call, and with it every request, where a write is cancelled: who leaves lets it finish.
        writing = asyncio.ensure_future(self._write(up))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        try:
            await asyncio.shield(writing)
        except (grpc.RpcError, asyncio.InvalidStateError) as error:
            # gRPC calls a write to a stream that has ended an internal error. The reader may not have heard yet.
            self.is_lost = True
            raise self._lost() from error
        except asyncio.CancelledError:
            # So gRPC ends a write, too, whose call is broken off: whoever waited for that is not cancelled.
            if _is_leaving() or not writing.cancelled():
                raise
            self.is_lost = True
            raise self._lost() from None

    def _lost(self) -> CleaveError:
        if self._is_closed:
            return closed_here(self._address)
        return Unavailable(f"the stream to {self._address} is lost; ask again")

    async def _write(self, up: pb.Up) -> None:
        async with self._sending:
            if up.HasField("ping"):
                up.ping.sent_messages = self._num_sent
            await self._call.write(up)
            self._num_sent += 1

    async def close(self) -> None:
        """Nobody wants what is open any more: the cloud is told, as it would wait for an edge that is only lost."""
        left = list(self._inboxes)
        self._is_closed = True
        self._end(closed_here(self._address))
        if left:
            try:
                async with asyncio.timeout(_GOODBYE_S):
                    await self._say_goodbye(left)
            except (TimeoutError, grpc.RpcError, asyncio.InvalidStateError):
                pass
            except asyncio.CancelledError:
                if _is_leaving():
                    raise
        self._call.cancel()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _say_goodbye(self, request_ids: Sequence[str]) -> None:
        for request_id in request_ids:
            await self._write(pb.Up(cancel=pb.Cancel(request_id=request_id)))
        async with self._sending:
            await self._call.done_writing()
        if self._reader is not None:  # a call that is cancelled at once takes back what was not read yet
            await asyncio.shield(self._reader)

    async def _read(self) -> None:
        ending: CleaveError = Unavailable(f"{self._address} closed the stream; ask again")
        try:
            while (down := await self._call.read()) is not grpc.aio.EOF:
                if isinstance(down, Corrupt):
                    self.break_off(down)
                    break
                self._hand_out(down)
                self._num_heard += 1
                self._heard_s = time.monotonic()
        except grpc.RpcError as error:
            ending = from_rpc_error(error, self._address)
        except asyncio.CancelledError:  # so gRPC says that the call was
            if self._is_broken_by is None:
                raise
        finally:
            self._end(StreamLost(self._is_broken_by or ending))

    async def _watch(self) -> None:
        """Asks for a sign of life where requests wait and nothing comes, and breaks off where none comes then.

        gRPC's keepalive asks the next hop, which may be a balancer, and a peer's network threads, which may live while
        it hangs.
        """
        while not self.is_lost:
            await asyncio.sleep(
                max(0.0, self._heard_s + limits.KEEPALIVE_S - time.monotonic()) or limits.KEEPALIVE_S
            )
            heard_s = self._heard_s
            if not self._inboxes or time.monotonic() < heard_s + limits.KEEPALIVE_S:
                continue
            with contextlib.suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(limits.KEEPALIVE_TIMEOUT_S):
                    await self.send(pb.Up(ping=pb.Ping()))
                    await asyncio.Event().wait()
            if self._heard_s == heard_s:
                quiet_s = limits.KEEPALIVE_S + limits.KEEPALIVE_TIMEOUT_S
                self.break_off(Unavailable(f"{self._address} said nothing for {quiet_s:g} s; ask again"))

    def _end(self, item: CleaveError | StreamLost) -> None:
        self.is_lost = True
        if self._watcher is not None:
            self._watcher.cancel()
        for inbox in self._inboxes.values():
            inbox.put(item)
        self._inboxes.clear()

    def _hand_out(self, down: pb.Down) -> None:
        kind = down.WhichOneof("message")
        if kind == "batch":
            for one in down.batch.downs:
                if one.WhichOneof("message") != "batch":
                    self._hand_out(one)
        elif kind == "deltas":
            for delta in down.deltas.deltas:
                self._put(delta.request_id, pb.Down(deltas=pb.DeltaBatch(deltas=[delta])))
        elif kind == "failed":
            self._put(down.failed.request_id, from_failed(down.failed))
        elif kind == "have":
            if down.have.request_id in self._inboxes:
                is_answer = down.have.what == pb.Have.WHAT_ANSWER
                found = self._satisfied.setdefault(down.have.request_id, set())
                if len(found) < _MAX_SATISFIED:
                    found.add(None if is_answer else down.have.input_index)
            self._put(down.have.request_id, down)
        elif kind == "pong":
            if down.pong.sent_messages and down.pong.sent_messages != self._num_heard:
                counts = f"{down.pong.sent_messages} messages, and {self._num_heard} came"
                self.break_off(Corrupt(f"{self._address} sent {counts}; ask again"))
        elif kind == "go_away":
            self.is_ending = True
        elif kind is not None and hasattr(getattr(down, kind), "request_id"):
            self._put(getattr(down, kind).request_id, down)

    def _put(self, request_id: str, item: pb.Down | CleaveError) -> None:
        inbox = self._inboxes.get(request_id)
        if inbox is None:
            return
        if isinstance(inbox.put(item), CleaveError):
            self.unsubscribe(request_id)


def _welcomed(first: Any, address: str) -> pb.Limits:
    """The limits in a cloud's first message; raises what it says otherwise."""
    if isinstance(first, Corrupt):
        raise first
    if first is not grpc.aio.EOF and first.WhichOneof("message") == "failed":
        raise from_failed(first.failed)
    if first is grpc.aio.EOF or first.WhichOneof("message") != "welcome":
        raise MalformedMessage(f"{address} did not answer Hello with Welcome; is it a cleave cloud node?")
    limits: pb.Limits = first.welcome.limits
    if not limits.max_chunk_bytes:
        raise MalformedMessage(f"{address} takes chunks of 0 bytes, so that nothing can be sent to it")
    return limits


def _is_leaving() -> bool:
    """Whether somebody cancels the task that asks."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def closed_here(address: str) -> Cancelled:
    return Cancelled(f"the link to {address} was closed here")
