"""`cleave listen`: speech from a file or a microphone's pipe, its text shown while it is spoken."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.live import Live
from rich.text import Text

from cleave.connecting import Connection
from cleave.terminal import printable
from edge_node.hearing import Speech, pieces, read_recording
from edge_node.listening import Heard

_CHUNK_S = 0.1


def listen_and_print(
    connection: Connection,
    sound: Path,
    *,
    rate_hz: int,
    realtime: bool,
    every_s: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Prints what is heard: one line that is revised, or one JSON object per revision; the final text last."""
    asyncio.run(_listen(connection, sound, rate_hz, realtime, every_s, as_json, options))


async def _listen(
    connection: Connection,
    sound: Path,
    rate_hz: int,
    realtime: bool,
    every_s: float,
    as_json: bool,
    options: dict[str, Any],
) -> None:
    speech: Speech
    if str(sound) == "-":
        speech = _microphone(rate_hz)
    else:
        recording = read_recording(sound)
        rate_hz = recording.sample_rate_hz
        speech = _spoken(recording) if realtime else pieces(recording)
    show = _Json() if as_json else _Line()
    async with connection.async_edge() as edge:
        with show:
            async with aclosing(edge.listen(speech, rate_hz, every_s=every_s, **options)) as heard:
                async for one in heard:
                    show.update(one)


async def _spoken(recording: Any) -> AsyncIterator[NDArray[np.float32]]:
    """A recording at the speed at which it was spoken."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    for index, samples in enumerate(pieces(recording, _CHUNK_S)):
        await asyncio.sleep(max(0.0, started + (index + 1) * _CHUNK_S - loop.time()))
        yield samples


async def _microphone(rate_hz: int) -> AsyncIterator[NDArray[np.float32]]:
    """Standard input: signed 16-bit little-endian samples of one channel, until it ends."""
    num_bytes = 2 * round(_CHUNK_S * rate_hz)
    while data := await asyncio.to_thread(sys.stdin.buffer.read, num_bytes):
        yield np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / np.float32(32768)


class _Json:
    """One object per line."""

    def __enter__(self) -> _Json:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to tidy."""

    def update(self, heard: Heard) -> None:
        print(
            json.dumps({"text": heard.text, "final": heard.is_final, "seconds": round(heard.seconds, 3)}),
            flush=True,
        )


class _Line:
    """The text so far, revised in place on a terminal; elsewhere the final text alone."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        )
        self._last = ""

    def __enter__(self) -> _Line:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        print(self._last, flush=True)

    def update(self, heard: Heard) -> None:
        self._last = printable(heard.text)
        if self._live is not None:
            shown = Text(self._last, style="" if heard.is_final else "dim")
            self._live.update(Text.assemble((f"{heard.seconds:6.1f} s  ", "cyan"), shown), refresh=True)
