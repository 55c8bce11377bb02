"""Measures the servers of bench/overhead.py, in turns: python -m bench.programs.noop_client '{"servers": [...], ...}'.

One client for all of them: it sends bytes that were made beforehand, and reads until the last reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil

from bench.noop import Message, MessageMaker, Work
from wire.limits import PROTOCOL_VERSION, grpc_options
from wire.v1 import inference_pb2 as pb

METHOD = "/wire.v1.Inference/Stream"


@dataclass(frozen=True, slots=True)
class Server:
    """`pool` is the number of different requests that are sent to it by turns."""

    name: str
    address: str
    pid: int
    is_echo: bool
    pool: int


@dataclass(frozen=True, slots=True)
class Reading:
    """Of one server and one work in one round."""

    round: int
    server: str
    work: Work
    alone_s: list[float]  # each request's time, one client
    alone_cpu_s: float  # of the server, per request
    together_per_s: float  # requests, all clients
    together_cpu_s: float


class Line:
    """One stream; the servers' replies are told apart by nothing but their last one."""

    def __init__(self, call: Any, server: Server) -> None:
        self._call = call
        self._last = "deltas" if server.is_echo else "done"

    async def hello(self, edge_id: str) -> None:
        """Every line is an edge of its own, as their requests have the same ids."""
        hello = pb.Up(hello=pb.Hello(protocol_version=PROTOCOL_VERSION, edge_id=edge_id, takes_batches=True))
        await self._call.write(hello.SerializeToString())
        assert await self._next() == ["welcome"]

    async def ask(self, message: Message) -> None:
        for part in message.parts:
            await self._call.write(part)
        while self._last not in await self._next():
            pass

    async def _next(self) -> list[str]:
        """The kinds of the messages that came."""
        down = await self._call.read()
        assert down is not grpc.aio.EOF, "the stream ended"
        downs = down.batch.downs or [down]
        kinds = [one.WhichOneof("message") for one in downs]
        assert "failed" not in kinds, downs
        return kinds


@contextlib.asynccontextmanager
async def lines(server: Server, count: int) -> AsyncIterator[list[Line]]:
    """So many edges, each on a connection of its own."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for number in range(count):
            options = [*grpc_options(), ("grpc.use_local_subchannel_pool", 1)]
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(server.address, options=options)
            )
            method = channel.stream_stream(METHOD, response_deserializer=pb.Down.FromString)
            line = Line(method(), server)
            if not server.is_echo:
                await line.hello(f"edge-{number}")
            made.append(line)
        yield made


async def measure(told: dict[str, Any]) -> list[Reading]:
    """Round by round, every server and work in turn; the first round only warms up."""
    servers = [Server(**one) for one in told["servers"]]
    maker = MessageMaker(Path(told["bundle"]))
    pools: dict[tuple[str, Work], list[Message]] = {
        (server.name, work): [
            (maker.to_echo if server.is_echo else maker.to_cloud)(work, f"r{number}")
            for number in range(server.pool)
        ]
        for server in servers
        for work in told["works"]
    }
    readings = []
    for number in range(told["rounds"] + 1):
        for work in told["works"]:
            for server in servers if number % 2 else servers[::-1]:
                counts = [max(1, count // (1 if number else 4)) for count in told["counts"][work]]
                reading = await _read(number, server, work, pools[server.name, work], counts, told["clients"])
                readings += [reading] if number else []
        print(json.dumps({"done": number, "of": told["rounds"]}), flush=True)
    return readings


async def _read(
    number: int, server: Server, work: Work, pool: list[Message], counts: list[int], clients: int
) -> Reading:
    process = psutil.Process(server.pid)
    num_alone, num_together = counts
    alone: list[float] = []
    async with lines(server, 1) as (line,):
        before = _cpu_s(process)
        for index in range(num_alone):
            started = time.perf_counter()
            await line.ask(pool[index % len(pool)])
            alone.append(time.perf_counter() - started)
        alone_cpu_s = (_cpu_s(process) - before) / num_alone
    async with lines(server, clients) as some:
        before, started = _cpu_s(process), time.perf_counter()
        upcoming = iter(range(num_together))

        async def client(line: Line) -> None:
            for index in upcoming:
                await line.ask(pool[index % len(pool)])

        await asyncio.gather(*map(client, some))
        took_s = time.perf_counter() - started
        together_cpu_s = (_cpu_s(process) - before) / num_together
    return Reading(number, server.name, work, alone, alone_cpu_s, num_together / took_s, together_cpu_s)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    found = asyncio.run(measure(json.loads(sys.argv[1])))
    print(json.dumps({"readings": [asdict(one) for one in found]}), flush=True)
