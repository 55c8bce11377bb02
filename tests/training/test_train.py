"""Training: resumed equals uninterrupted, losses are logged, and what is exported loads and answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from training.evaluate import answers, exact_match, held_out_samples
from training.export import export
from training.tokenizer import TOKENIZER
from training.train import train
from training.trainer import Schedule, Trainer


def _same(first: Trainer, second: Trainer) -> bool:
    pairs = [
        (getattr(first, name).state_dict(), getattr(second, name).state_dict())
        for name in ("model", "heads", "average")
    ]
    return all(torch.equal(a[key], b[key]) for a, b in pairs for key in a)


@pytest.mark.slow
def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    make_trainer: Callable[[], Trainer], tmp_path: Path
) -> None:
    whole = make_trainer()
    for _ in range(5):
        whole.step()
    first = make_trainer()
    for _ in range(3):
        first.step()
    first.save(tmp_path)
    second = make_trainer()
    assert second.restore(tmp_path)
    assert second.done == 3
    assert not _same(second, whole)
    for _ in range(2):
        second.step()
    assert _same(second, whole)


@pytest.mark.slow
def test_exported_run_loads_and_answers(make_trainer: Callable[[], Trainer], tmp_path: Path) -> None:
    trainer = make_trainer()
    train(trainer, tmp_path / "run", save_every=5, check_every=5)
    trainer.mixture.tokenizer.save_pretrained(tmp_path / "run" / TOKENIZER)
    assert export(tmp_path / "run", tmp_path / "out") == 5
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert "answers" not in lines[1]
    assert lines[-1]["answers"] > 0
    assert "exact" in lines[-1]
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(tmp_path / "out", backend="pil")
    samples = list(held_out_samples(6))
    given = answers(model, processor, samples, lambda _: None)
    assert sum(total for _, total in exact_match(samples, given).values()) == 6


def test_nothing_to_restore_is_said(make_trainer: Callable[[], Trainer], tmp_path: Path) -> None:
    assert not make_trainer().restore(tmp_path / "missing")


def test_rate_warms_up_in_both_phases_and_falls() -> None:
    schedule = Schedule(steps=1000, tower_steps=400, warmup_steps=100, rate=1.0)
    assert schedule.rate_at(0) < 0.02
    assert schedule.rate_at(100) > 0.9
    assert schedule.rate_at(400) < 0.02
    assert schedule.rate_at(500) > schedule.rate_at(900) > schedule.rate_at(999) > 0
