"""Real Redis servers on free ports of loopback, of each kind that is installed, that a test can pause and kill."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from cleave.redis_process import free_port, redis_command, redis_programs, wait_until_ready
from cloud_node.caching.redis_settings import RedisSettings, parse_redis_url


def server_programs() -> dict[str, str]:
    """Debian's, and the one that comes with pip, by name; at least one of them is there."""
    programs = redis_programs()
    assert programs, "no Redis server is installed: make setup brings one"
    return programs


each_server = pytest.mark.parametrize("program", server_programs().values(), ids=server_programs())


class RedisServer:
    """One that is killed and started again keeps its port and loses its values."""

    def __init__(self, program: str, folder: Path, options: Sequence[str] = ()) -> None:
        self.port = free_port()
        self._command = redis_command(program, self.port, folder, options)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def settings(self, **changes: Any) -> RedisSettings:
        """With a timeout that a busy machine keeps, unless it is what a test is about."""
        return replace(parse_redis_url(self.url), **{"timeout_s": 5.0, **changes})

    def client(self) -> redis.Redis:
        """For what a test does behind the cloud's back."""
        return redis.Redis(port=self.port)

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        if not wait_until_ready(self._process, self.port):
            self.kill()
            raise AssertionError("the Redis server did not start")

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

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextlib.contextmanager
def redis_server(program: str | None = None, *options: str) -> Iterator[RedisServer]:
    """Ends it whatever happens; Debian's, where both kinds are there and none is named."""
    with tempfile.TemporaryDirectory(prefix="cleave-redis-") as folder:
        server = RedisServer(program or next(iter(server_programs().values())), Path(folder), options)
        try:
            yield server
        finally:
            server.kill()
