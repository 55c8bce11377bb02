"""What is asked over HTTP: /metrics for a Prometheus that scrapes, /healthz and /readyz for whoever probes."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable
from http import HTTPStatus
from socket import AF_INET6, SHUT_RDWR, socket
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import make_wsgi_app

from cloud_node.telemetry.health import Health
from cloud_node.telemetry.metrics import Metrics
from wire.addresses import is_loopback
from wire.errors import BadInput

_log = logging.getLogger(__name__)
# Of one request, from the connection to its last byte: whoever is slower holds a thread no longer.
TIMEOUT_S = 10.0
MAX_CONNECTIONS = 64
# How soon it hears that it is to end.
_POLL_S = 0.1


class MetricsEndpoint:
    """Listens on exactly that host, in a thread; raises BadInput where it cannot. Port 0 takes a free one.

    It has no authentication, and tells no user's data: numbers, names of models and tenants, the version. It may listen
    before there is anything to measure: while models load, it says that the process is alive and not ready.
    """

    def __init__(self, listen: str, health: Health) -> None:
        host, _, port = listen.rpartition(":")
        kind = _Server6 if host.startswith("[") else _Server
        self._health = health
        self._metrics: WSGIApplication | None = None
        try:
            self._server = make_server(host.strip("[]"), int(port), self._answer, kind, _Handler)
        except OSError as error:
            raise BadInput(
                f"cannot serve metrics on {listen} ({error.strerror or error}); is the address taken, or not of "
                "this machine?"
            ) from error
        self._thread = Thread(target=self._server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True)
        self._thread.start()
        self.address = f"{host}:{self._server.server_port}"
        if not is_loopback(listen):
            _log.warning(
                "metrics are told to whoever reaches %s, without asking who they are; let only Prometheus reach it",
                self.address,
            )

    def show(self, metrics: Metrics) -> None:
        """From now on these are what /metrics gives."""
        self._metrics = make_wsgi_app(metrics.registry)

    def close(self) -> None:
        """Waits until the thread has ended."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        stage = self._health.stage.value
        match environ.get("PATH_INFO", ""):
            case "/healthz":
                return _say(start, self._health.is_alive, stage)
            case "/readyz":
                return _say(start, self._health.is_ready, stage)
            case "/metrics" if self._metrics is not None:
                return self._metrics(environ, start)
            case "/metrics":
                return _say(start, False, stage)
        start(_status(HTTPStatus.NOT_FOUND), [("Content-Type", "text/plain")])
        return [b"ask for /metrics, /healthz or /readyz\n"]


def _say(start: StartResponse, is_so: bool, text: str) -> Iterable[bytes]:
    start(
        _status(HTTPStatus.OK if is_so else HTTPStatus.SERVICE_UNAVAILABLE), [("Content-Type", "text/plain")]
    )
    return [f"{text}\n".encode()]


def _status(status: HTTPStatus) -> str:
    return f"{status.value} {status.phrase}"


class _Server(ThreadingMixIn, WSGIServer):
    """A thread per request, so that a slow scraper holds up no probe; more than so many at once are not heard."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._until_s: dict[socket, float] = {}  # on the monotonic clock
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._until_s) >= MAX_CONNECTIONS:
            self.shutdown_request(request)
            return
        self._until_s[request] = time.monotonic() + TIMEOUT_S
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._until_s.pop(request, None)

    def service_actions(self) -> None:
        """Every poll: a byte now and then resets a socket's timeout, and not this one."""
        now_s = time.monotonic()
        for request, until_s in self._until_s.copy().items():
            if now_s > until_s:
                with contextlib.suppress(OSError):  # it has just ended by itself
                    request.shutdown(SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that went, or was cut off, is no error of ours, and gets no traceback on stderr."""
        _log.debug("a request for metrics or health ended early", exc_info=True)


class _Server6(_Server):
    address_family = AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:
        """Every probe would be a line."""
