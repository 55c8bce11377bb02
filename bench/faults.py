"""What breaks, and what a user sees of it: every fault in the middle of real requests to real processes."""

from __future__ import annotations

import itertools
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.faulty import breaks, devices, store
from bench.faulty.sabotage import Sabotage
from bench.faulty.scene import SHORT, Scene, scene
from bench.faulty.watched import Seen
from bench.report import Bar, Result, Table
from bench.subjects import make_subject
from cleave.terminal import Report
from training.evaluate import Sample, held_out_samples
from wire import limits

MAX_RECOVERY_S = 5.0
_NUM_PICTURES = 4
_NUM_FLIPS, _QUICK_FLIPS = 64, 8
_FLIP_WITHIN = {"up": 30_000, "down": 600}  # bytes of a short question and its answer
# Noticed by keepalive alone, so that the fault lasts as long as that takes.
_SILENT = (breaks.link_stalled, breaks.cloud_hangs)
_QUICK_KEEPALIVE_S = 2.0


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """One cloud for what it survives, others for what kills it or its Redis."""
    if quick:
        limits.KEEPALIVE_S = limits.KEEPALIVE_TIMEOUT_S = _QUICK_KEEPALIVE_S
    with tempfile.TemporaryDirectory(prefix="cleave-faults-") as name:
        seen: list[Seen] = []
        for one in _all(Path(name), _QUICK_FLIPS if quick else _NUM_FLIPS):
            seen.append(one)
            progress("faults", len(seen), _NUM_ROWS)
    settings = {
        "quick": quick, "model": "default", "flips": _QUICK_FLIPS if quick else _NUM_FLIPS,
        "keepalive_s": limits.KEEPALIVE_S, "keepalive_timeout_s": limits.KEEPALIVE_TIMEOUT_S,
    }  # fmt: skip
    return _result(settings, seen)


_NUM_ROWS = 17


def _all(folder: Path, num_flips: int) -> Iterator[Seen]:
    subject = make_subject("default", folder)
    pictures = _pictures(folder)
    clock = folder / "clock"
    clock.write_text("0")
    model, bundle, edges = str(subject.checkpoint), subject.bundle, folder / "bundles"
    sabotage = Sabotage(clock_file=str(clock), fails_on=devices.FAILS_ON)
    with scene(model, bundle, edges, pictures, sabotage=sabotage) as one:
        lasting: list[Callable[[Scene], Seen]] = [
            breaks.edge_killed, breaks.link_cut, *_SILENT, breaks.link_slow, breaks.cloud_lost_for_another,
            devices.tail_raises, devices.client_never_reads,
        ]  # fmt: skip
        for fault in lasting:
            yield fault(one)
        yield _flipped(one, num_flips)
        yield devices.disk_full(one, folder / "full")
        yield devices.head_fails(one, folder / "broken")
        yield devices.clock_jumps(one, clock)
    with scene(model, bundle, edges, pictures) as one:
        yield breaks.cloud_killed_in_mid_upload(one)
        yield breaks.cloud_killed_in_mid_answer(one)
    with (
        store.own_redis() as redis,
        scene(model, bundle, edges, pictures, "--cache-mb", "64", "--redis", redis.url) as one,
    ):
        questions = store.Questions(one)
        questions.settle()
        one.settle()
        for break_store in (store.redis_killed, store.redis_paused, store.redis_restarted_empty):
            yield break_store(questions, redis)


def _pictures(folder: Path) -> list[Path]:
    """Files, as a command takes them."""
    paths = []
    for index, sample in enumerate(_of_different_scenes()):
        paths.append(folder / f"{index}.png")
        sample.image.save(paths[-1])
    return paths


def _of_different_scenes() -> Iterator[Sample]:
    questions_each = 4
    return itertools.islice(held_out_samples(_NUM_PICTURES * questions_each), 0, None, questions_each)


def _flipped(one: Scene, count: int) -> Seen:
    """Single bits at random places, by turns up and down; each is followed by a question."""
    draw, started = random.Random(0), Counter[str]()
    worst = Seen("", "", 0.0, 0.0)
    for index in range(count):
        way = ("up", "down")[index % 2]
        seen = breaks.bit_flipped(one, way, draw.randrange(_FLIP_WITHIN[way]))
        following = one.ask(**SHORT).end()
        started["the whole answer" if seen.saw.startswith("the whole") else seen.saw.split(":")[0]] += 1
        worst = replace(
            worst,
            recovered_s=max(worst.recovered_s, seen.recovered_s),
            num_wrong=worst.num_wrong + seen.num_wrong + (following.text != one.expected(**SHORT)),
            num_lost=worst.num_lost + seen.num_lost + (following.error is not None),
            num_resumed=worst.num_resumed + seen.num_resumed,
        )
    saw = ", ".join(f"{number} times {what}" for what, number in started.most_common())
    return one.after(replace(worst, fault=f"one bit flipped, {count} times", saw=saw))


def _result(settings: dict[str, Any], seen: list[Seen]) -> Result:
    silent = [one for one in seen if "until the edge noticed" in one.fault]
    flips = [one for one in seen if one.fault.startswith("one bit")]
    others = [one for one in seen if one not in flips and "1 kB/s" not in one.fault]
    noticed_s = limits.KEEPALIVE_S + limits.KEEPALIVE_TIMEOUT_S + limits.KEEPALIVE_TIMEOUT_S
    bars = [
        Bar("wrong answers", sum(one.num_wrong for one in seen), 0, "at most"),
        Bar("requests that were lost", sum(one.num_lost for one in seen), 0, "at most"),
        Bar("things left behind", sum(sum(one.left.values()) for one in seen), 0, "at most"),
        Bar(
            "longest recovery once the fault is over, s", max(one.recovered_s for one in others), MAX_RECOVERY_S,
            "at most",
        ),
        Bar("longest silence that went unnoticed, s", max(one.lasted_s for one in silent), noticed_s, "at most"),
    ]  # fmt: skip
    rows = [(one.fault, one.saw, f"{one.lasted_s:.1f}", f"{one.recovered_s:.2f}", _lost(one)) for one in seen]
    columns = ("fault", "what the user saw", "lasted, s", "recovered after, s", "lost")
    return Result(
        "faults", settings, 0, bars, [Table("faults", columns, rows)], {"seen": [asdict(one) for one in seen]}
    )


def _lost(one: Seen) -> str:
    if one.is_ok:
        return "nothing"
    left = ", ".join(f"{count:g} {name} left" for name, count in one.left.items())
    return ", ".join(filter(None, (f"{one.num_wrong} wrong", f"{one.num_lost} lost", left)))
