"""Trains the speech model: seeded, one command, resumable, on one CPU core. Needs espeak-ng.

    python -m training.speech.train --fsdd ZIP --out build/speech [--resume]

It logs a line per step and, every few, how many words of the validation recordings the averaged weights get wrong.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import Progress, TextColumn

from training.speech.batches import Mixture, Source
from training.speech.evaluate import SINGLE, STRINGS, Sound, report, sounds_of
from training.speech.model import Shape, make_processor
from training.speech.recordings import read_recordings
from training.speech.strings import Clip, at_speeds, clips_of
from training.speech.tokenizer import make_tokenizer
from training.speech.trainer import Schedule, Trainer
from training.speech.voices import spoken_phrases, spoken_words

_DEFAULT = Schedule()
_SPEEDS = (0.85, 0.92, 1.0, 1.08, 1.17)
_NUM_VOICES, _NUM_PHRASES = 60, 600
_SHARES = {"one speaker": 0.65, "many speakers": 0.1, "voices": 0.1, "phrases": 0.15}
_CHECKED_STRINGS = 3  # of each length and speaker


def sources_of(fsdd: Path, seed: int) -> list[Source]:
    """fsdd's training recordings, strings of one speaker mostly, and espeak-ng's voices."""
    clips = at_speeds(clips_of(read_recordings(fsdd, "train")), _SPEEDS)
    return [
        *_by_speaker(clips, _SHARES["one speaker"]),
        Source(clips, _SHARES["many speakers"]),
        *_by_speaker(list(spoken_words(seed, _NUM_VOICES)), _SHARES["voices"]),
        Source(list(spoken_phrases(seed, _NUM_PHRASES)), _SHARES["phrases"]),
    ]


def _by_speaker(clips: Sequence[Clip], share: float) -> list[Source]:
    spoken: dict[str, list[Clip]] = {}
    for clip in clips:
        spoken.setdefault(clip.speaker, []).append(clip)
    return [Source(own, share / len(spoken)) for own in spoken.values()]


def train(
    trainer: Trainer, out: Path, checked: Sequence[Sound], *, save_every: int, check_every: int
) -> None:
    """Steps until the schedule's end, with a log, checkpoints and checks in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    steps = trainer.schedule.steps
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[note]}"))
    with Progress(*columns) as bars, (out / "log.jsonl").open("a") as log:
        bar = bars.add_task("training", total=steps, completed=trainer.done, note="")
        while trainer.done < steps:
            started = time.perf_counter()
            line: dict[str, Any] = {"step": trainer.done + 1, **trainer.step()}
            line["step_s"] = time.perf_counter() - started
            is_last = trainer.done == steps
            if trainer.done > trainer.schedule.encoder_steps and (trainer.done % check_every == 0 or is_last):
                line["error_rate"] = _check(trainer, checked)
            log.write(json.dumps(line) + "\n")
            log.flush()
            bars.update(bar, completed=trainer.done, note=_note(line))
            if trainer.done % save_every == 0 or is_last:
                trainer.save(out)


def _check(trainer: Trainer, checked: Sequence[Sound]) -> dict[str, float]:
    processor = make_processor(trainer.mixture.shape, trainer.mixture.tokenizer)
    found = report(trainer.average, processor, checked, ("en",))
    return {kind: round(found.error_rate(kind, "en"), 4) for kind in found.kinds}


def _note(line: dict[str, Any]) -> str:
    return ", ".join(f"{name} {line[name]:.3f}" for name in ("placing", "writing", "right") if name in line)


def main(
    fsdd: Annotated[Path, typer.Option(help="fsdd's recordings, as one zip.")],
    out: Annotated[Path, typer.Option(help="Where the checkpoint and the log go.")],
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in --out.")] = False,
    steps: Annotated[int, typer.Option(help="Steps of the whole schedule.")] = _DEFAULT.steps,
    seed: Annotated[int, typer.Option(help="Of the weights and the sounds.")] = _DEFAULT.seed,
    rate: Annotated[float, typer.Option(help="The highest learning rate.")] = _DEFAULT.rate,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    check_every: Annotated[int, typer.Option(help="Steps between checks on validation recordings.")] = 300,
) -> None:
    """Train the speech model."""
    torch.set_num_threads(1)
    mixture = Mixture(Shape(), make_tokenizer(), sources_of(fsdd, seed))
    trainer = Trainer(mixture, Schedule(steps=steps, seed=seed, rate=rate))
    if resume:
        trainer.restore(out)
    sounds = sounds_of(read_recordings(fsdd, "validation"), _CHECKED_STRINGS)
    checked = [sound for sound in sounds if sound.kind in (SINGLE, STRINGS)]
    train(trainer, out, checked, save_every=save_every, check_every=check_every)


if __name__ == "__main__":
    typer.run(main)
