"""A cloud process that is killed, stopped and started again where it was, and what it holds at any time."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import grpc

from bench.faulty.sabotage import SABOTAGED, Sabotage, told
from bench.readings import read_metrics
from cleave.processes import PROGRAM, cloud_process
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

# What must be as before, once nothing is asked any more.
GAUGES = (
    "cleave_requests_open", "cleave_requests_queued", "cleave_slots_used", "cleave_sequences_decoding",
    "cleave_sequences_prefilling", "cleave_held_bytes", "cleave_streams_open",
)  # fmt: skip
_SETTLE_S = 20.0


class Cloud:
    """`cleave cloud` for a model; made by `running`."""

    def __init__(
        self, model: str, bundle: Path, arguments: tuple[str, ...], sabotage: Sabotage | None
    ) -> None:
        self._model, self._bundle, self._arguments, self._sabotage = model, bundle, arguments, sabotage
        self._stack = contextlib.ExitStack()
        self.address = "127.0.0.1:0"
        self.pid = 0

    def start(self) -> None:
        """Waits until it listens: where it listened before, or on a free port."""
        program = PROGRAM if self._sabotage is None else SABOTAGED
        process = cloud_process(
            self._model, self._bundle, "--listen", self.address, *self._arguments, program=program
        )
        with told(self._sabotage):
            self.address, self.pid = self._stack.enter_context(process)

    def kill(self) -> None:
        """SIGKILL: nothing is said to anybody."""
        os.kill(self.pid, signal.SIGKILL)
        self._stack.close()

    def pause(self) -> None:
        """SIGSTOP: its port takes connections, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """SIGTERM, and waits."""
        self._stack.close()

    def counts(self) -> dict[str, float]:
        """What it holds of requests, and its file descriptors with those of its metrics' caller."""
        with grpc.insecure_channel(self.address) as channel:
            reply = pb_grpc.InferenceStub(channel).Metrics(
                pb.MetricsRequest(), timeout=10, wait_for_ready=True
            )
            values = read_metrics(reply.exposition)
            num_files = len(os.listdir(f"/proc/{self.pid}/fd"))
        return {**{name: values[name] for name in GAUGES}, "file descriptors": num_files}


def above(count: Callable[[], Mapping[str, float]], before: Mapping[str, float]) -> dict[str, float]:
    """What is more than it was, after some time in which it may go back; empty where nothing is."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        now = count()
        left = {name: now[name] - value for name, value in before.items() if now[name] > value}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


@contextlib.contextmanager
def running(model: str, bundle: Path, *arguments: str, sabotage: Sabotage | None = None) -> Iterator[Cloud]:
    """One that listens on a free port of loopback."""
    cloud = Cloud(model, bundle, arguments, sabotage)
    try:
        cloud.start()
        yield cloud
    finally:
        cloud.end()
