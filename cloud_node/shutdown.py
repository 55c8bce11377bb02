"""How a cloud process ends: the first signal drains, the second hurries, and nothing keeps it for ever."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading

_log = logging.getLogger(__name__)


class Signals:
    """SIGTERM and SIGINT, from now on. Made on the loop that they are heard on."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.hurry = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._hear)

    def _hear(self) -> None:
        if self.drain.is_set():
            self.hurry.set()
        self.drain.set()


def exit_anyway_after(seconds: float) -> None:
    """Ends the process with exit code 1 unless it has ended by then: a step of a model may never come back."""

    def end() -> None:
        _log.error("the process did not end within %g s, and is ended", seconds)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
