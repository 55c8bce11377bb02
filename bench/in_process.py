"""A cloud node on a loop in a thread of this process: real gRPC, and the model at hand to compare with."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

import grpc

from cloud_node.config import CloudConfig
from cloud_node.ready import Ready
from cloud_node.server import CloudServer

T = TypeVar("T")


@contextlib.contextmanager
def cloud_thread(models: Sequence[Ready], **config: Any) -> Iterator[str]:
    """Serves while open, on a free port; its address. `config` are fields of CloudConfig."""

    async def start() -> tuple[CloudServer, str]:
        server = CloudServer(CloudConfig(listen="127.0.0.1:0", **config), models)
        return server, await server.start()

    server, address = run_there(start())
    try:
        yield address
    finally:
        run_there(server.stop())


def run_there(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine on the same loop."""
    return asyncio.run_coroutine_threadsafe(work, _loop()).result()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for all, never closed: gRPC goes on polling for every loop that it met."""
    loop = asyncio.new_event_loop()
    # Held for ever, or gRPC's poller would be closed with the last server, while its loop still waits for it.
    grpc.aio.init_grpc_aio()
    threading.Thread(target=loop.run_forever, name="cloud", daemon=True).start()
    return loop
