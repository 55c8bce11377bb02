"""`cleave top`: asks a cloud for its metrics again and again, and shows what happens there."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict

from rich.console import Console
from rich.live import Live

from cleave.connecting import Connection
from cleave.terminal import print_table
from cleave.top_reading import Rates, Snapshot, now, rates, snapshot
from cleave.top_screen import View, render, rows
from edge_node.blocking import EdgeNode

# Quantiles of one interval jump where few requests end in it, so they are taken over this many.
_WINDOW = 10
_HISTORY = 60


def top_and_print(connection: Connection, *, interval_s: float, once: bool, as_json: bool) -> None:
    """Shows the cloud's state until Ctrl-C, or `once`; raises Unavailable where it cannot be reached or goes away."""
    try:
        with connection.edge() as edge:
            views = _views(edge, connection.cloud, interval_s)
            first = next(views)
            console = Console()
            if once:
                _print(next(views), as_json=as_json)
            elif as_json or not console.is_terminal:
                for view in views:
                    _print(view, as_json=as_json)
            else:
                _show_live(console, first, views)
    except KeyboardInterrupt:
        return


def _show_live(console: Console, first: View, views: Iterator[View]) -> None:
    live = Live(render(first, *console.size), console=console, screen=True, auto_refresh=False)
    try:
        with _uninterrupted():
            live.start(refresh=True)
        for view in views:
            with _uninterrupted():
                live.update(render(view, *console.size), refresh=True)
    finally:
        with _uninterrupted():
            live.stop()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C has to wait: in the middle of drawing it would leave the terminal on the other screen."""
    held: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if held:
        raise KeyboardInterrupt


def _views(edge: EdgeNode, cloud: str, interval_s: float) -> Iterator[View]:
    """One at once, without rates, and then one per interval."""
    readings: deque[tuple[float, Snapshot]] = deque(maxlen=_WINDOW + 1)
    history: deque[Rates] = deque(maxlen=_HISTORY)
    next_s = time.monotonic()
    while True:
        time.sleep(max(0.0, next_s - time.monotonic()))
        # Counted from when this one was due, so that the asking itself does not slow the beat.
        next_s = max(next_s + interval_s, time.monotonic())
        readings.append((time.monotonic(), snapshot(edge.metrics())))
        latest = _rates(readings[max(0, len(readings) - 2)], readings[-1])
        if len(readings) > 1:
            history.append(latest)
        view_now = now(readings[-1][1], time.time())
        yield View(cloud, view_now, latest, _rates(readings[0], readings[-1]), tuple(history))


def _rates(before: tuple[float, Snapshot], after: tuple[float, Snapshot]) -> Rates:
    return rates(before[1], after[1], after[0] - before[0])


def _print(view: View, *, as_json: bool) -> None:
    if as_json:
        told = {"cloud": view.cloud, "now": asdict(view.now), "rates": asdict(view.latest)}
        print(json.dumps(told), flush=True)
    else:
        print_table(f"{view.cloud}, over {view.latest.seconds:.1f} s", ("of", "what", "value"), rows(view))
