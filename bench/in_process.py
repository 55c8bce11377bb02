"""A cloud node on a loop in a thread of this process: real gRPC, and the model at hand to compare with."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from cloud_node.config import CloudConfig
from cloud_node.server import CloudServer, Ready


@contextlib.contextmanager
def cloud_thread(models: Sequence[Ready], **config: Any) -> Iterator[str]:
    """Serves while open, on a free port; its address. `config` are fields of CloudConfig."""
    loop = _loop()

    async def start() -> tuple[CloudServer, str]:
        server = CloudServer(CloudConfig(listen="127.0.0.1:0", **config), models)
        return server, await server.start()

    server, address = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield address
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for all, never closed: gRPC goes on polling for the first loop that it met."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="cloud", daemon=True).start()
    return loop
