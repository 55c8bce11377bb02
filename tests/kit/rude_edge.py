"""An edge that keeps no rule, and remembers what a cloud owes it for what it said."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import grpc
from hypothesis.stateful import RuleBasedStateMachine

from cloud_node.asked.served import Served
from tests.kit.clouds import CloudThread, num_left, until
from tests.kit.talking import Talk, opening
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

LIMIT_S = 10.0
IDS = ["r1", "r2", "r3", "r4"]
# The last is what gRPC's client makes of a write to a stream that has ended, whatever it ended with.
FAULTS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INTERNAL)


class RudeEdge(RuleBasedStateMachine):
    """One edge that keeps no rule. The test sets what all its lives share: gRPC binds itself to each loop for ever."""

    loop: asyncio.AbstractEventLoop
    node: CloudThread
    served: Served

    def __init__(self) -> None:
        super().__init__()
        self.channel: Any = None
        self.edge_id = ""
        self._forget()

    def _forget(self) -> None:
        """No stream, and nothing known of one."""
        self.talk: Talk | None = None
        self.opened: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.offsets: dict[str, int] = {}
        self.may_fail = False
        self.num_pings = 0

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, LIMIT_S))

    async def _channel(self) -> Any:
        return grpc.aio.insecure_channel(self.node.address)

    def _open(self, message: pb.Open) -> None:
        self._ensure()
        request_id = message.request_id[:64]
        # A second one of an id breaks the stream while the first is open: whether it still is depends on time.
        is_open = self.opened[request_id] > self.ended[request_id]
        self.may_fail = self.may_fail or is_open or not request_id
        self.opened[request_id] += 1
        self.offsets = {at: offset for at, offset in self.offsets.items() if not at.startswith(request_id)}
        self._say(pb.Up(open=message))

    def _break(self, up: pb.Up) -> None:
        """Says what must end the stream, with a status that says whose fault it was."""
        if self.talk is not None:
            self.may_fail = True
            self._say(up)
            if self.talk is not None:
                self._read_to_the_end()

    def _ensure(self) -> None:
        if self.talk is None:
            self._forget()
            self.do(self._connect())

    def _say(self, up: pb.Up) -> None:
        assert self.talk is not None
        try:
            self.do(self.talk.call.write(up))
        except (grpc.RpcError, asyncio.InvalidStateError):
            self._read_to_the_end()  # what was said before explains it

    def _hear(self, down: pb.Down) -> None:
        match down.WhichOneof("message"):
            case "done":
                self.ended[down.done.request_id] += 1
            case "failed" if not down.failed.request_id:
                assert self.may_fail, down.failed.message
            case "failed":
                assert down.failed.message
                assert down.failed.code
                self.ended[down.failed.request_id] += 1
            case "need":
                self.offsets[f"{down.need.request_id}/{down.need.input_index}"] = down.need.from_offset
        for request_id, count in self.ended.items():
            assert count <= self.opened[request_id], f"{request_id!r} ended {count} times"

    def _barrier(self) -> None:
        """Hears everything until the answer to a Ping, or to the end."""
        self.num_pings += 1
        self._say(pb.Up(ping=pb.Ping(nonce=self.num_pings)))
        # Where the write found the stream ended, there is none left to read.
        while self.talk is not None:
            down = self._next()
            if down is None:
                self._read_to_the_end()
            elif down.WhichOneof("message") == "pong" and down.pong.nonce == self.num_pings:
                return

    def _next(self) -> pb.Down | None:
        assert self.talk is not None
        try:
            down = self.do(self.talk.call.read())
        except grpc.RpcError:
            return None
        if down is grpc.aio.EOF:
            return None
        self._hear(down)
        heard: pb.Down = down
        return heard

    def _read_to_the_end(self, *, is_all_cancelled: bool = False) -> None:
        """A stream is over, or will be: it says why, and its own messages explain it.

        Of an edge that named itself, what is not whole waits for it elsewhere; all else was answered.
        """
        assert self.talk is not None
        while self._next() is not None:
            pass
        status = self.do(self.talk.call.code())
        if status != grpc.StatusCode.OK:
            assert self.may_fail, status
            assert status in FAULTS
        elif is_all_cancelled or not self.edge_id:
            assert self.ended == self.opened
        self.talk = None

    def teardown(self) -> None:
        """Whatever is open is cancelled, and everything was answered once; then nothing is left of anything."""
        try:
            if self.talk is not None:
                self._finish()
            self.node.call(until(lambda: not num_left(self.node.server) and not self._num_detached()))
            self._ask_rightly()
        finally:
            if self.channel is not None:
                self.do(self.channel.close())

    def _finish(self) -> None:
        for request_id in IDS:
            if self.talk is not None:
                self._say(pb.Up(cancel=pb.Cancel(request_id=request_id)))
        if self.talk is not None:
            self._barrier()
        if self.talk is not None:
            self.do(self.talk.call.done_writing())
            self._read_to_the_end(is_all_cancelled=True)

    def _num_detached(self) -> int:
        return self.node.server._service.requests.num_detached

    async def _begin(self) -> None:
        self.talk = Talk(pb_grpc.InferenceStub(self.channel).Stream())

    async def _connect(self) -> None:
        await self._begin()
        assert self.talk is not None
        await self.talk.hello(edge_id=self.edge_id)

    def _ask_rightly(self) -> None:
        async def ask() -> None:
            talk = Talk(pb_grpc.InferenceStub(self.channel).Stream())
            await talk.welcomed()
            await talk.say(open=opening(self.served, "in the end"))
            assert await talk.text("r1") == "in the end "
            talk.call.cancel()

        self.do(ask())
