"""How `cleave top` looks: numbers to panels, bars and sparklines, at 80 columns or more. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cleave.terminal import printable
from cleave.top_reading import STEPS, Now, Rates, Spread

NONE = "–"
_SPARKS = "▁▂▃▄▅▆▇█"
_FULL_HEIGHT = 30  # lines
_GOOD, _BAD, _DIM, _LINE = "green", "red", "bright_black", "cyan"

STEP_NAMES = {
    "ttft": "first token",
    "tpot": "each next token",
    "total": "whole answer",
    "queue": "  queue",
    "decode_payload": "  decode payload",
    "tail": "  tail",
    "prefill": "  prefill",
    "decode": "  decode",
    # A low screen ends here.
    "cache": "  cache",
    "tail_batch": "batch of tails",
    "prefill_chunk": "prefill chunk",
    "decode_step": "decode step",
    "loop_lag": "event loop late",
}
_KINDS = {"claim": "claims", "features": "features", "answer": "answers"}


@dataclass(frozen=True, slots=True)
class View:
    """One frame: `latest` over the last interval, `window` over the last few, `history` one per interval."""

    cloud: str
    now: Now
    latest: Rates
    window: Rates
    history: Sequence[Rates]


def render(view: View, width: int = 80, height: int = 24) -> RenderableType:
    """The whole screen; on a low one, without the steps of the batch."""
    is_low = height < _FULL_HEIGHT
    spark_width = max(8, width // 2 - 24)
    pairs = Table.grid(expand=True, padding=0)
    pairs.add_column(ratio=1)
    pairs.add_column(ratio=1)
    pairs.add_row(
        _panel("requests", _requests(view, spark_width)),
        _panel("slots and tokens", _engine(view, spark_width)),
    )
    pairs.add_row(_panel("caches", _caches(view)), _panel("bytes and prompts", _link(view, spark_width)))
    title = f"time, over the last {view.window.seconds:.0f} s" if view.history else "time"
    steps = _panel(title, _steps(view.window, [*STEP_NAMES][: -5 if is_low else None], max(10, width - 65)))
    last = [] if is_low else [_dim(" Ctrl-C ends this; the cloud goes on")]
    return Group(_header(view), pairs, steps, *last)


def rows(view: View) -> list[tuple[str, str, str]]:
    """The same as plain rows: what about, what, value."""
    now, latest = view.now, view.latest
    found = [
        ("cloud", "model", printable(f"{now.model}, {now.device} {now.dtype}, cleave {now.version}")),
        ("cloud", "up", duration(now.uptime_s) + (", draining" if now.is_draining else "")),
        ("cloud", "memory, descriptors", f"{size(now.resident_bytes)}, {now.open_fds:,}"),
        ("requests", "received", rate(latest.received_per_s)),
        *(("requests", outcome, rate(value)) for outcome, value in sorted(latest.ended_per_s.items())),
        ("requests", "waited for an equal one", rate(latest.joined_per_s)),
        ("requests", "refused, resumed", f"{rate(latest.refused_per_s)}, {rate(latest.resumed_per_s)}"),
        ("requests", "open, queued", f"{now.requests_open}, {now.requests_queued}"),
        ("requests", "streams", str(now.streams_open)),
        ("engine", "slots used", f"{now.slots_used} of {now.slots}"),
        ("engine", "batch", f"{now.decoding}, on average {number(latest.mean_decode_batch)}"),
        ("engine", "decoded", f"{rate(latest.decode_tokens_per_s)} tokens"),
        ("engine", "prefilled", f"{rate(latest.prefill_tokens_per_s)} tokens"),
        ("engine", "reused", f"{rate(latest.reused_tokens_per_s)} tokens, {share(latest.reuse_share)}"),
        *(
            ("cache", kind, f"{rate(seen.per_s)}, {share(seen.hit_share)} hits")
            for kind, seen in sorted(latest.lookups.items())
        ),
        ("cache", "holds", f"{size(now.cache_bytes)} in {now.cache_entries:,} entries"),
        ("cache", "evicted", rate(latest.evictions_per_s)),
        ("cache", "prefixes", f"{size(now.prefix_bytes)} in {now.prefix_entries:,} prompts"),
        ("link", "in, out", f"{size(latest.received_bytes_per_s)}/s, {size(latest.sent_bytes_per_s)}/s"),
    ]
    for step, spread in view.window.steps.items():
        if spread.p50_s is not None:
            times = f"p50 {seconds(spread.p50_s)}, p95 {seconds(spread.p95_s)}, mean {seconds(spread.mean_s)}"
            found.append(("time", STEP_NAMES[step].strip(), times))
    return found


def _header(view: View) -> RenderableType:
    now = view.now
    line = Table.grid(expand=True)
    line.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
    line.add_column(justify="right", no_wrap=True)
    left = Text.assemble(
        (" cleave top ", "bold reverse"),
        (f"  {printable(now.model)}", "bold"),
        (f"  {printable(f'{now.device} {now.dtype}'.strip())}", _LINE),
        (f"  {view.cloud}", _DIM),
    )
    state = Text("draining ", style=_BAD) if now.is_draining else Text("")
    line.add_row(
        left, Text.assemble(state, (f"{printable(now.version)}, up {duration(now.uptime_s)} ", _DIM))
    )
    return line


def _panel(title: str, content: RenderableType) -> Panel:
    return Panel(content, title=f"[bold]{title}", title_align="left", border_style=_DIM, box=box.ROUNDED)


def _lines() -> Table:
    lines = Table.grid(padding=(0, 1), expand=True)
    lines.add_column(style=_DIM, no_wrap=True, width=8)
    lines.add_column(no_wrap=True, justify="right", width=9)
    lines.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    return lines


def _requests(view: View, spark_width: int) -> RenderableType:
    latest, now = view.latest, view.now
    failures = {name: value for name, value in latest.ended_per_s.items() if name != "done" and value > 0}
    worst = max(failures, key=failures.__getitem__, default="")
    done = _sparks([one.done_per_s for one in view.history], spark_width, _GOOD)
    lines = _lines()
    lines.add_row("done", rate(latest.done_per_s), done)
    lines.add_row(
        "failed",
        Text(rate(latest.failed_per_s), style=_BAD if failures else ""),
        Text(worst.replace("_", " "), style=_BAD),
    )
    lines.add_row("open", f"{now.requests_open:,}", _dim(f"on {_many(now.streams_open, 'stream')}"))
    lines.add_row("queued", f"{now.requests_queued:,}", _dim("of them"))
    return lines


def _engine(view: View, spark_width: int) -> RenderableType:
    latest, now = view.latest, view.now
    decoded = [one.decode_tokens_per_s for one in view.history]
    prefilled = [one.prefill_tokens_per_s for one in view.history]
    lines = _lines()
    lines.add_row("slots", f"{now.slots_used}/{now.slots}", _bar(now.slots_used, now.slots, spark_width))
    lines.add_row("batch", f"{now.decoding}", _dim(f"{number(latest.mean_decode_batch)} on average"))
    lines.add_row("decode", rate(latest.decode_tokens_per_s), _sparks(decoded, spark_width, _LINE))
    lines.add_row("prefill", rate(latest.prefill_tokens_per_s), _sparks(prefilled, spark_width, _LINE))
    return lines


def _caches(view: View) -> RenderableType:
    latest, now = view.latest, view.now
    lines = _lines()
    for kind, name in _KINDS.items():
        seen = latest.lookups.get(kind)
        hits = seen.hit_share if seen is not None else None
        lines.add_row(name, rate(seen.per_s if seen else 0.0), _share_bar(hits, "hits"))
    lines.add_row("holds", size(now.cache_bytes), _dim(_many(now.cache_entries, "entry", "entries")))
    return lines


def _link(view: View, spark_width: int) -> RenderableType:
    latest, now = view.latest, view.now
    received = [one.received_bytes_per_s for one in view.history]
    sent = [one.sent_bytes_per_s for one in view.history]
    lines = _lines()
    lines.add_row("in", f"{size(latest.received_bytes_per_s)}/s", _sparks(received, spark_width, _LINE))
    lines.add_row("out", f"{size(latest.sent_bytes_per_s)}/s", _sparks(sent, spark_width, _LINE))
    lines.add_row("reused", rate(latest.reused_tokens_per_s), _share_bar(latest.reuse_share))
    lines.add_row("kept", size(now.prefix_bytes), _dim(_many(now.prefix_entries, "prompt")))
    return lines


def _steps(window: Rates, steps: Sequence[str], width: int) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 1), header_style=_DIM, show_edge=False)
    table.add_column("", no_wrap=True, width=17)
    for name in ("p50", "p95", "mean", "per s"):
        table.add_column(name, justify="right", no_wrap=True, width=8)
    table.add_column(Text.assemble("log ", ("━", _LINE), "p50 ", ("━", _DIM), "p95"), no_wrap=True, ratio=1)
    slowest = max((spread.p95_s or 0.0 for spread in window.steps.values()), default=0.0)
    for step in steps:
        spread, name = window.steps[step], STEP_NAMES[step]
        style = _DIM if spread.p50_s is None else "" if step in STEPS else "bold"
        cells = [
            seconds(spread.p50_s),
            seconds(spread.p95_s),
            seconds(spread.mean_s),
            rate(spread.per_s)[:-2],
        ]
        table.add_row(
            Text(name, style=style),
            *(Text(cell, style=style) for cell in cells),
            _reach(spread, slowest, width),
        )
    return table


def _reach(spread: Spread, slowest: float, width: int) -> Text:
    """Two lengths in one bar, on a scale on which ten times as long is a set distance: steps differ by thousands."""
    if spread.p50_s is None or spread.p95_s is None or slowest <= 0:
        return Text("")
    least = slowest / 10_000

    def cells(value: float) -> int:
        return max(1, round(width * math.log(max(value, least) / least) / math.log(slowest / least)))

    inner, outer = cells(spread.p50_s), cells(spread.p95_s)
    return Text.assemble(("━" * inner, _LINE), ("━" * (outer - inner), _DIM))


def _bar(part: float, whole: float, width: int) -> Text:
    """How full; red where nothing is free."""
    filled = round(width * min(1.0, part / whole)) if whole > 0 else 0
    filled = max(filled, 1 if part > 0 else 0)
    return Text.assemble(("█" * filled, _BAD if part >= whole else _GOOD), ("░" * (width - filled), _DIM))


def _share_bar(part: float | None, of_what: str = "") -> Text:
    if part is None:
        return _dim(NONE)
    filled = round(6 * part)
    return Text.assemble(
        ("█" * filled, _GOOD), ("░" * (6 - filled), _DIM), f" {share(part)} ", (of_what, _DIM)
    )


def _sparks(values: Sequence[float], width: int, style: str) -> Text:
    """The last values, the highest of them at full height."""
    last = list(values)[-width:]
    most = max(last, default=0.0)
    if most <= 0:
        return Text("")
    return Text("".join(_SPARKS[round(7 * value / most)] for value in last), style=style)


def _dim(text: str) -> Text:
    return Text(text, style=_DIM)


def number(value: float | None) -> str:
    """Three digits are enough to see."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def rate(value: float) -> str:
    return f"{number(value) if value else 0}/s"


def share(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.0f} %"


def seconds(value: float | None) -> str:
    if value is None:
        return NONE
    if value < 1:
        return f"{1e3 * value:.3g} ms" if value < 0.1 else f"{1e3 * value:.0f} ms"
    return f"{value:.1f} s"


def size(num_bytes: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale:
            return f"{number(num_bytes / scale)} {unit}"
    return f"{num_bytes:.0f} B"


def duration(value_s: float) -> str:
    minutes, days = int(value_s // 60), int(value_s // 86_400)
    if minutes < 1:
        return f"{value_s:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min" if days < 2 else f"{days} days"


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"
