"""The metrics over HTTP, for a Prometheus that scrapes: GET /metrics on an address of its own."""

from __future__ import annotations

import asyncio
import logging
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

from cloud_node.metrics import Metrics
from wire.addresses import is_loopback
from wire.errors import BadInput

_log = logging.getLogger(__name__)


class MetricsEndpoint:
    """Listens on exactly that host, in a thread; raises BadInput where it cannot. Port 0 takes a free one.

    It has no authentication, and tells no user's data: numbers, names of models and tenants, and the version.
    """

    def __init__(self, metrics: Metrics, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        self._server: WSGIServer
        self._thread: Thread
        try:
            self._server, self._thread = start_http_server(
                int(port), addr=host.strip("[]"), registry=metrics.registry
            )
        except OSError as error:
            raise BadInput(
                f"cannot serve metrics on {listen} ({error.strerror or error}); is the address taken, or not of "
                "this machine?"
            ) from error
        self.address = f"{host}:{self._server.server_port}"
        if not is_loopback(listen):
            _log.warning(
                "metrics are told to whoever reaches %s, without asking who they are; let only Prometheus reach it",
                self.address,
            )

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
