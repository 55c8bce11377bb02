"""The least that gRPC can do in Python: a stream on which every message gets one reply of the noop model's length."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc

from bench.noop import REPLY
from wire.limits import grpc_options
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc


class Echo(pb_grpc.InferenceServicer):
    """Messages are read and made by protobuf, as everywhere."""

    async def Stream(self, request_iterator: AsyncIterator[pb.Up], context: Any) -> AsyncIterator[pb.Down]:
        async for up in request_iterator:
            delta = pb.Delta(request_id=up.open.request_id, text=REPLY, num_tokens=1)
            yield pb.Down(deltas=pb.DeltaBatch(deltas=[delta]))


async def main() -> None:
    """Until SIGTERM."""
    server = grpc.aio.server(options=[*grpc_options(), ("grpc.so_reuseport", 0)])
    pb_grpc.add_InferenceServicer_to_server(Echo(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await ending.wait()
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main())
