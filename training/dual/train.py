"""Trains the dual encoder: seeded, one command, resumable, on one CPU core.

    python -m training.dual.train --out build/dual [--resume]

It renders its pictures once, logs a line per step and, every few, the recall among held-out scenes.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import Progress, TextColumn

from training.dual.batches import Batches
from training.dual.evaluate import HeldOut, held_out, recall_of
from training.dual.model import Shape
from training.dual.pictures import rendered
from training.dual.tokenizer import make_tokenizer
from training.dual.trainer import Schedule, Trainer
from training.scenes import FIRST_HELD_OUT_SEED

TOKENIZER = "tokenizer"
_DEFAULT = Schedule()
_NUM_CHECKED = 500
# Far from the held-out scenes that the final figures are measured on.
_FIRST_CHECKED = FIRST_HELD_OUT_SEED + (3 << 32)


def train(trainer: Trainer, out: Path, *, save_every: int, check_every: int, num_checked: int) -> None:
    """Steps until the schedule's end, with a log, checkpoints and checks in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    steps = trainer.schedule.steps
    checked = held_out(_FIRST_CHECKED, num_checked, "partial")
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[note]}"))
    with Progress(*columns) as bars, (out / "log.jsonl").open("a") as log:
        first = bars.add_task("fixed layers", total=len(trainer.batches.pictures.things), note="")
        trainer.prepare(lambda number: bars.advance(first, number))
        bar = bars.add_task("training", total=steps, completed=trainer.done, note="")
        while trainer.done < steps:
            started = time.perf_counter()
            line: dict[str, Any] = {"step": trainer.done + 1, **trainer.step()}
            line["step_s"] = time.perf_counter() - started
            is_last = trainer.done == steps
            if trainer.done % check_every == 0 or is_last:
                line |= _check(trainer, checked)
            log.write(json.dumps(line) + "\n")
            log.flush()
            note = ", ".join(f"{name} {line[name]:.3f}" for name in ("contrast", "scene"))
            bars.update(bar, completed=trainer.done, note=note)
            if trainer.done % save_every == 0 or is_last:
                trainer.save(out)


def _check(trainer: Trainer, checked: HeldOut) -> dict[str, float]:
    found = recall_of(trainer.average, trainer.batches.tokenizer, checked)
    return {"text_to_picture": found.text_to_picture[1], "picture_to_text": found.picture_to_text[1]}


def main(
    out: Annotated[Path, typer.Option(help="Where pictures, the checkpoint and the log go.")],
    default: Annotated[
        Path, typer.Option(help="The default model, whose vision tower is where learning starts.")
    ] = Path("assets/default"),
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in --out.")] = False,
    steps: Annotated[int, typer.Option(help="Steps of the whole schedule.")] = _DEFAULT.steps,
    num_pictures: Annotated[int, typer.Option(help="Scenes to render and learn from.")] = 30_720,
    seed: Annotated[int, typer.Option(help="Of the weights and the captions.")] = _DEFAULT.seed,
    rate: Annotated[float, typer.Option(help="The highest learning rate.")] = _DEFAULT.rate,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    check_every: Annotated[int, typer.Option(help="Steps between checks on held-out scenes.")] = 100,
    threads: Annotated[int, typer.Option(help="Of the CPU.")] = 1,
) -> None:
    """Train the dual encoder."""
    torch.set_num_threads(threads)
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(out / TOKENIZER)
    schedule = Schedule(steps=steps, seed=seed, rate=rate)
    with Progress() as bars:
        bar = bars.add_task("pictures", total=num_pictures)
        pictures = rendered(out / "pictures", num_pictures, lambda number: bars.advance(bar, number))
    batches = Batches(pictures, tokenizer, schedule.batch_size, schedule.seed)
    trainer = Trainer(batches, Shape(), schedule, default)
    if resume:
        trainer.restore(out)
    train(trainer, out, save_every=save_every, check_every=check_every, num_checked=_NUM_CHECKED)


if __name__ == "__main__":
    typer.run(main)
