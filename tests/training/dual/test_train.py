"""Training: resumed equals uninterrupted, fixed layers stay, and what is exported loads and is evaluated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training.dual.evaluate import evaluate
from training.dual.export import export
from training.dual.train import TOKENIZER, train
from training.dual.trainer import Schedule, Trainer


def _run(trainer: Trainer, steps: int) -> Trainer:
    trainer.prepare(lambda _: None)
    for _ in range(steps):
        trainer.step()
    return trainer


def _same(first: Trainer, second: Trainer) -> bool:
    pairs = [
        (getattr(first, name).state_dict(), getattr(second, name).state_dict())
        for name in ("model", "heads", "average")
    ]
    return all(torch.equal(a[key], b[key]) for a, b in pairs for key in a)


@pytest.mark.slow
def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    make_dual_trainer: Callable[[], Trainer], tmp_path: Path
) -> None:
    whole = _run(make_dual_trainer(), 5)
    _run(make_dual_trainer(), 3).save(tmp_path)
    second = make_dual_trainer()
    assert second.restore(tmp_path)
    assert second.done == 3
    assert not _same(second, whole)
    assert _same(_run(second, 2), whole)


@pytest.mark.slow
def test_only_the_fixed_layers_stay(make_dual_trainer: Callable[[], Trainer]) -> None:
    fresh, trained = make_dual_trainer().model, _run(make_dual_trainer(), 2).model
    changed = {
        name
        for name, before in fresh.vision_model.state_dict().items()
        if not torch.equal(before, trained.vision_model.state_dict()[name])
    }
    assert {name.split(".")[2] for name in changed if "layers" in name} == {"1", "2"}
    assert not any(name.startswith(("embeddings", "pre_layrnorm")) for name in changed)


@pytest.mark.slow
def test_losses_fall(make_dual_trainer: Callable[[], Trainer]) -> None:
    trainer = make_dual_trainer()
    trainer.prepare(lambda _: None)
    losses = [trainer.step() for _ in range(25)]
    for name in ("contrast", "scene"):
        assert sum(one[name] for one in losses[-5:]) < 0.95 * sum(one[name] for one in losses[:5])


@pytest.mark.slow
def test_exported_run_loads_and_is_evaluated(
    make_dual_trainer: Callable[[], Trainer], tmp_path: Path
) -> None:
    trainer = make_dual_trainer()
    train(trainer, tmp_path / "run", save_every=5, check_every=5, num_checked=8)
    trainer.batches.tokenizer.save_pretrained(tmp_path / "run" / TOKENIZER)
    assert export(tmp_path / "run", tmp_path / "out") == 5
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert ["text_to_picture" in line for line in lines] == [False] * 4 + [True]
    found = evaluate(tmp_path / "out", num_scenes=12)
    assert found.num_scenes == 12
    assert found.text_to_picture[1] <= found.text_to_picture[5] <= found.text_to_picture[10] <= 1


def test_nothing_to_restore_is_said(make_dual_trainer: Callable[[], Trainer], tmp_path: Path) -> None:
    assert not make_dual_trainer().restore(tmp_path / "missing")


def test_rate_warms_up_and_falls() -> None:
    schedule = Schedule(steps=1000, warmup_steps=100, rate=1.0)
    assert schedule.rate_at(0) < 0.02
    assert schedule.rate_at(100) > 0.9
    assert schedule.rate_at(100) > schedule.rate_at(600) > schedule.rate_at(999) > 0
