"""Trains the default model: seeded, one command, resumable, on a CPU or a GPU.

    python -m training.train --out build/training [--easy-vqa ZIP] [--resume]

It logs a line per step and, every few, how many held-out questions the averaged weights answer exactly.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import Progress, TextColumn

from training.batches import Mixture
from training.easy_vqa import read_easy_vqa
from training.model import Shape
from training.questions import questions
from training.scenes import FIRST_HELD_OUT_SEED
from training.tokenizer import TOKENIZER, make_tokenizer
from training.trainer import Schedule, Trainer

_DEFAULT = Schedule()
_NUM_CHECKED = 64  # held-out scenes, eight questions each
# Far from the held-out scenes that the final figures are measured on.
_FIRST_CHECKED = FIRST_HELD_OUT_SEED + (1 << 32)


def train(trainer: Trainer, out: Path, *, save_every: int, check_every: int) -> None:
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
            if trainer.done > trainer.schedule.tower_steps and (trainer.done % check_every == 0 or is_last):
                line["exact"] = _check(trainer)
            log.write(json.dumps(line) + "\n")
            log.flush()
            bars.update(bar, completed=trainer.done, note=_note(line))
            if trainer.done % save_every == 0 or is_last:
                trainer.save(out)


def _check(trainer: Trainer) -> dict[str, float]:
    scenes_alone = Mixture(trainer.mixture.shape, trainer.mixture.tokenizer, (), ask=questions)
    exact = trainer.exact_match(scenes_alone.batch(_FIRST_CHECKED, _NUM_CHECKED))
    return {kind: round(share, 3) for kind, share in exact.items()}


def _note(line: dict[str, Any]) -> str:
    return ", ".join(f"{name} {line[name]:.3f}" for name in ("answers", "dense") if name in line)


def main(
    out: Annotated[Path, typer.Option(help="Where the checkpoint and the log go.")],
    easy_vqa: Annotated[
        Path | None, typer.Option(help="easy-VQA's archive; scenes alone without it.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in --out.")] = False,
    steps: Annotated[int, typer.Option(help="Steps of the whole schedule.")] = _DEFAULT.steps,
    tower_steps: Annotated[
        int, typer.Option(help="Of these, for the vision tower alone.")
    ] = _DEFAULT.tower_steps,
    seed: Annotated[int, typer.Option(help="Of the weights and the scenes.")] = _DEFAULT.seed,
    rate: Annotated[float, typer.Option(help="The highest learning rate.")] = _DEFAULT.rate,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    check_every: Annotated[int, typer.Option(help="Steps between checks on held-out scenes.")] = 200,
    workers: Annotated[int, typer.Option(help="Replicas, one thread each; 0: one per core, 1 on a GPU.")] = 0,
) -> None:
    """Train the default model."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    num_workers = workers or (1 if device == "cuda" else min(4, os.cpu_count() or 1))
    pictures = read_easy_vqa(easy_vqa, "train") if easy_vqa is not None else []
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(out / TOKENIZER)
    schedule = Schedule(steps=steps, tower_steps=min(tower_steps, steps // 2), seed=seed, rate=rate)
    trainer = Trainer(Mixture(Shape(), tokenizer, pictures), schedule, device, num_workers)
    if resume:
        trainer.restore(out)
    train(trainer, out, save_every=save_every, check_every=check_every)


if __name__ == "__main__":
    typer.run(main)
