"""A link that breaks on demand: a TCP proxy before a cloud, whose faults are switched in the middle of traffic."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_LIMIT_S = 20.0
_PIECE_BYTES = 16_384
# A slow link passes on small pieces often, as a real one does, and not a large one now and then.
_PIECES_PER_S = 20


@dataclass(slots=True)
class Way:
    """One direction, as it is now. Counts run from the moment when they are set, over all connections."""

    stalls: bool = False  # what comes is kept, and goes on when this ends
    bytes_per_s: float | None = None
    flip_after: int | None = None  # one bit of the byte after so many
    cut_after: int | None = None  # the whole link, once so many have passed
    passed: int = 0  # since the link was made


class FaultyLink:
    """Made by `faulty_link`. Any thread may set what its ways do, by `up`, `down` and `both`; `cut` ends connections.

    Every change is made on the proxy's own loop, and is in force when the call returns.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, target: str) -> None:
        self._loop = loop
        self._target = target
        self._open: set[_Connection] = set()
        self._is_closed = False
        self._has_changed = asyncio.Event()
        self._ways = {"up": Way(), "down": Way()}
        self.address = ""
        self.num_accepted = 0
        self._accepting = threading.Condition()

    def up(self, **changes: object) -> None:
        """Sets fields of the way from the edge to the cloud."""
        self._on_loop(lambda: self._change("up", changes))

    def down(self, **changes: object) -> None:
        self._on_loop(lambda: self._change("down", changes))

    def both(self, **changes: object) -> None:
        self.up(**changes)
        self.down(**changes)

    def passed(self, way: str) -> int:
        """Bytes that went this way."""
        return self._ways[way].passed

    def cut(self) -> None:
        """Resets every connection (RST); new ones are accepted."""
        self._on_loop(self._cut)

    def close_port(self) -> None:
        """Cuts, and resets every new connection until `open_port`."""
        self._on_loop(lambda: self._set_closed(True))

    def open_port(self) -> None:
        self._on_loop(lambda: self._set_closed(False))

    def lead_to(self, target: str) -> None:
        """Where new connections go."""
        self._on_loop(lambda: setattr(self, "_target", target))

    def await_connection(self, after: int, timeout_s: float = _LIMIT_S) -> None:
        """Waits until more than so many connections were made; raises TimeoutError."""
        with self._accepting:
            if not self._accepting.wait_for(lambda: self.num_accepted > after, timeout_s):
                raise TimeoutError(f"no connection came after the first {after} within {timeout_s:g} s")

    def _on_loop(self, work: Callable[[], None]) -> None:
        async def do() -> None:
            work()

        asyncio.run_coroutine_threadsafe(do(), self._loop).result(_LIMIT_S)

    def _change(self, name: str, changes: dict[str, object]) -> None:
        for field_name, value in changes.items():
            setattr(self._ways[name], field_name, value)
        self._has_changed.set()
        self._has_changed = asyncio.Event()

    def _set_closed(self, is_closed: bool) -> None:
        self._is_closed = is_closed
        if is_closed:
            self._cut()

    def _cut(self) -> None:
        for connection in list(self._open):
            connection.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._accepting:
            self.num_accepted += 1
            self._accepting.notify_all()
        connection = _Connection([writer])
        if self._is_closed:
            connection.reset()
            return
        self._open.add(connection)
        try:
            await self._pass_on(connection, reader, writer)
        except (OSError, asyncio.CancelledError):
            connection.reset()
        finally:
            self._open.discard(connection)
            connection.close()

    async def _pass_on(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        host, _, port = self._target.rpartition(":")
        cloud_reader, cloud_writer = await asyncio.open_connection(host, int(port))
        connection.writers.append(cloud_writer)
        await asyncio.gather(
            self._pump(reader, cloud_writer, self._ways["up"]),
            self._pump(cloud_reader, writer, self._ways["down"]),
        )

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        while data := await reader.read(self._piece_bytes(way)):
            while way.stalls:
                await self._has_changed.wait()
            if way.bytes_per_s is not None:
                await asyncio.sleep(len(data) / way.bytes_per_s)
            data = _flipped(data, way)
            writer.write(data)
            way.passed += len(data)
            await writer.drain()
            if way.cut_after is not None:
                way.cut_after -= len(data)
                if way.cut_after <= 0:
                    way.cut_after = None
                    self._cut()
        with contextlib.suppress(OSError):
            writer.write_eof()

    @staticmethod
    def _piece_bytes(way: Way) -> int:
        if way.bytes_per_s is None:
            return _PIECE_BYTES
        return max(1, min(_PIECE_BYTES, int(way.bytes_per_s / _PIECES_PER_S)))


@dataclass(eq=False, slots=True)
class _Connection:
    """Both ends of what passes through."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def reset(self) -> None:
        for writer in self.writers:
            made: socket.socket | None = writer.get_extra_info("socket")
            if made is not None:
                with contextlib.suppress(OSError):  # closed meanwhile
                    # Zero seconds to linger: closing sends RST.
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def close(self) -> None:
        for writer in self.writers:
            writer.close()


def _flipped(data: bytes, way: Way) -> bytes:
    if way.flip_after is None:
        return data
    at, way.flip_after = way.flip_after, way.flip_after - len(data)
    if at >= len(data):
        return data
    way.flip_after = None
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


@contextlib.contextmanager
def faulty_link(target: str) -> Iterator[FaultyLink]:
    """A proxy on a free port of loopback, on a loop in a thread of its own, that leads to `target`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="faulty-link", daemon=True)
    thread.start()

    async def start() -> tuple[FaultyLink, asyncio.Server]:
        link = FaultyLink(loop, target)
        server = await asyncio.start_server(link._accept, "127.0.0.1", 0)
        link.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return link, server

    async def stop() -> None:
        server.close()
        link._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    try:
        link, server = asyncio.run_coroutine_threadsafe(start(), loop).result(_LIMIT_S)
        try:
            yield link
        finally:
            asyncio.run_coroutine_threadsafe(stop(), loop).result(_LIMIT_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
