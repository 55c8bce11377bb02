"""Speech: word error rate of the committed model, and how soon after the last word the final text is there.

Recordings are fsdd's official test part (`--data` names the folder that holds it). Word error rates come from the
model's own `generate`. Streaming is measured at the speed of speech, over gRPC on loopback, against sending the same
whole recording once it has ended: as Opus, and as features; both cut at its pauses, since the model hears 8 s.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.in_process import cloud_thread
from bench.report import Bar, Result, Table
from cleave.assets import resolve_model
from cleave.terminal import Report
from cloud_node.model.serving import serve
from cloud_node.ready import Ready
from edge_node.hearing import pieces
from edge_node.node import AsyncEdgeNode
from edge_node.preprocess import preprocess
from partitioner.partition import Wishes, partition
from splitmodel.loading import load
from training.speech.evaluate import SINGLE, STRINGS, evaluate, num_word_errors, sounds_of
from training.speech.evaluate import Report as Found
from training.speech.recordings import SAMPLING_RATE, read_recordings
from training.speech.words import LANGUAGES, Language, text_of
from wire.errors import BadInput
from wire.media.sounds import Sound

Kind = tuple[str, Language]  # of sounds, and the language of their text

MOST_ERRORS = 0.05
_ARCHIVE = "fsdd/fsdd_recordings.zip"
_PAUSE_S = 0.8
_STRINGS_PER_TALK = 3  # with pauses between them: as someone reads numbers out


def run(*, quick: bool, data: Path | None, progress: Report) -> Result:
    """Raises BadInput without fsdd's recordings."""
    archive = _archive(data)
    model = Path(resolve_model("speech"))
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("word error rate", done, max(done, 1))

    found = evaluate(model, archive, num_strings=1 if quick else 10, advance=advance)
    with tempfile.TemporaryDirectory(prefix="cleave-speech-") as folder:
        talks = _talks(archive, count=3 if quick else 12)
        streamed = asyncio.run(_streamed(model, Path(folder), talks, progress))
    rates = {
        (kind, language): found.error_rate(kind, language) for kind in found.kinds for language in LANGUAGES
    }
    latency = {name: median(times) for name, times in streamed["seconds"].items()}
    return Result(
        name="speech",
        settings={"quick": quick, "talks": len(talks), "codec": "the bundle's default"},
        seed=0,
        bars=_bars(rates, latency, streamed["error_rate"]),
        tables=_tables(found, rates, latency),
        measured={
            "word_error_rate": {f"{kind}, {language}": rate for (kind, language), rate in rates.items()},
            "by_speaker": {
                one: {
                    f"{kind}, {language}": found.error_rate(kind, language, one) for kind, language in rates
                }
                for one in found.speakers
            },
            "streaming": streamed,
        },
    )


def _bars(rates: Mapping[Kind, float], latency: Mapping[str, float], heard: float) -> list[Bar]:
    ratio = latency["listening"] / latency["afterwards, as Opus"]
    return [
        *(
            Bar(f"word error rate, {kind}, {language}", rates[kind, language], MOST_ERRORS, "at most")
            for kind in (SINGLE, STRINGS)
            for language in LANGUAGES
        ),
        Bar(
            "final text after the last word: listening / the whole afterwards as Opus", ratio, 1.0, "at most"
        ),
        Bar("word error rate of what was heard while it was spoken", heard, MOST_ERRORS, "at most"),
    ]


def _tables(found: Found, rates: Mapping[Kind, float], latency: Mapping[str, float]) -> list[Table]:
    rows = [
        (
            kind,
            language,
            *(f"{100 * found.error_rate(kind, language, one):.2f}" for one in (*found.speakers, None)),
        )
        for kind, language in rates
    ]
    ways = [
        (name, f"{1e3 * seconds:.0f}", f"{seconds / latency['listening']:.2f}")
        for name, seconds in latency.items()
    ]
    columns = ("sounds", "language", *found.speakers, "all")
    return [
        Table("word error rate, %, fsdd's official test part", columns, rows),
        Table("from the last word to the final text", ("way", "median ms", "of listening"), ways),
    ]


def _talks(archive: Path, count: int) -> list[tuple[tuple[int, ...], NDArray[np.float32]]]:
    """Digits and samples: several strings of one speaker's, a pause between them."""
    strings = [one for one in sounds_of(read_recordings(archive, "test"), 4) if one.kind == STRINGS]
    rng = np.random.default_rng(5)
    talks = []
    for index in range(count):
        speaker = sorted({one.speaker for one in strings})[index % len({one.speaker for one in strings})]
        own = [one for one in strings if one.speaker == speaker]
        chosen = [own[i] for i in rng.choice(len(own), _STRINGS_PER_TALK, replace=False)]
        pause = (3e-4 * rng.standard_normal(int(_PAUSE_S * SAMPLING_RATE))).astype(np.float32)
        parts = [part for one in chosen for part in (one.samples, pause)][:-1]
        talks.append((tuple(digit for one in chosen for digit in one.digits), np.concatenate(parts)))
    return talks


async def _streamed(
    model: Path, folder: Path, talks: Sequence[tuple[tuple[int, ...], NDArray[np.float32]]], progress: Report
) -> dict[str, Any]:
    """Seconds from the last sample to the final text, by way; and the words that listening got wrong."""
    checkpoint = load(str(model))
    bundle = partition(checkpoint, folder / "bundle", preprocess, Wishes(name="speech")).folder
    served, runner = serve(checkpoint, bundle)
    seconds: dict[str, list[float]] = {
        "listening": [],
        "afterwards, as features": [],
        "afterwards, as Opus": [],
    }
    errors, words, partials = 0, 0, []
    with cloud_thread([Ready(served, runner, bundle)], cache_bytes=0) as address:
        async with AsyncEdgeNode(address, bundles=folder / "kept", num_threads=1, memory_bytes=0) as edge:
            await edge.transcribe((talks[0][1], SAMPLING_RATE))
            for done, (digits, samples) in enumerate(talks):
                text, after_s, num_partials = await _listened(edge, samples)
                seconds["listening"].append(after_s)
                partials.append(num_partials)
                errors += num_word_errors(text_of(digits, "en"), text)
                words += len(digits)
                seconds["afterwards, as features"].append(
                    await _timed(edge.transcribe((samples, SAMPLING_RATE)))
                )
                seconds["afterwards, as Opus"].append(await _timed(_sent_whole(edge, samples)))
                progress("streaming", done + 1, len(talks))
    return {
        "seconds": seconds,
        "error_rate": errors / words,
        "revisions": median(partials),
        "talk_s": [len(samples) / SAMPLING_RATE for _, samples in talks],
    }


async def _listened(edge: AsyncEdgeNode, samples: NDArray[np.float32]) -> tuple[str, float, int]:
    ended = 0.0

    async def spoken() -> AsyncIterator[NDArray[np.float32]]:
        nonlocal ended
        started = time.perf_counter()
        for index, part in enumerate(pieces(Sound(samples[None], SAMPLING_RATE))):
            await asyncio.sleep(max(0.0, started + (index + 1) * 0.1 - time.perf_counter()))
            yield part
        ended = time.perf_counter()

    text, count = "", 0
    async with aclosing(edge.listen(spoken(), SAMPLING_RATE)) as heard:
        async for one in heard:
            text, count = one.text, count + 1
    return text, time.perf_counter() - ended, count


async def _sent_whole(edge: AsyncEdgeNode, samples: NDArray[np.float32]) -> None:
    """Without a head: Opus at split point 0, window after window, as a device without one would."""
    await edge.transcribe((samples, SAMPLING_RATE), split=0, codec="opus:24")


async def _timed(work: Any) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


def _archive(data: Path | None) -> Path:
    path = data / _ARCHIVE if data is not None and data.is_dir() else data
    if path is None or not path.is_file():
        raise BadInput(
            f"the recordings are not there; give --data, the folder that holds {_ARCHIVE}, or the archive"
        )
    return path
