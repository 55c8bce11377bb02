"""Speech training: resumed equals uninterrupted, losses and errors are logged, what is exported loads and writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor, WhisperForConditionalGeneration

from training.speech.evaluate import evaluate, sounds_of
from training.speech.export import export
from training.speech.recordings import read_recordings
from training.speech.train import train
from training.speech.trainer import Schedule, Trainer, encode
from training.speech.words import LANGUAGES


def _same(first: Trainer, second: Trainer) -> bool:
    pairs = [
        (getattr(first, name).state_dict(), getattr(second, name).state_dict())
        for name in ("model", "placer", "average")
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
def test_exported_run_loads_and_is_measured(
    make_trainer: Callable[[], Trainer], archive: Path, tmp_path: Path
) -> None:
    checked = sounds_of(read_recordings(archive, "validation"), per_length=1)[:8]
    train(make_trainer(), tmp_path / "run", checked, save_every=5, check_every=5)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert "writing" not in lines[1]
    assert lines[-1]["writing"] > 0
    assert lines[-1]["error_rate"]["single"] > 0
    assert export(tmp_path / "run", tmp_path / "out") == 5
    found = evaluate(tmp_path / "out", archive, num_strings=1)
    assert {(row.language, row.speaker) for row in found.rows} == {
        (language, speaker) for language in LANGUAGES for speaker in ("ann", "bob")
    }


@pytest.mark.slow
def test_exported_weights_are_the_averaged_ones(
    make_trainer: Callable[[], Trainer], archive: Path, tmp_path: Path
) -> None:
    trainer = make_trainer()
    for _ in range(3):
        trainer.step()
    trainer.save(tmp_path / "run")
    export(tmp_path / "run", tmp_path / "out")
    loaded = WhisperForConditionalGeneration.from_pretrained(tmp_path / "out", dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    features = processor([one.samples for one in read_recordings(archive, "test")[:2]], sampling_rate=8000)
    heard = torch.as_tensor(features.input_features)
    with torch.no_grad():
        got, averaged, latest = (
            one.eval().model.encoder(heard).last_hidden_state
            for one in (loaded, trainer.average, trainer.model)
        )
    assert torch.allclose(got, averaged, atol=1e-2)
    assert not torch.allclose(got, latest, atol=1e-2)


def test_nothing_to_restore_is_said(make_trainer: Callable[[], Trainer], tmp_path: Path) -> None:
    assert not make_trainer().restore(tmp_path / "missing")


def test_rate_warms_up_and_falls() -> None:
    schedule = Schedule(steps=1000, warmup_steps=100, rate=1.0)
    assert schedule.rate_at(0) < 0.02
    assert schedule.rate_at(100) > 0.9
    assert schedule.rate_at(100) > schedule.rate_at(500) > schedule.rate_at(999) > 0


@torch.no_grad()
def test_sounds_shorter_than_the_window_are_encoded_by_the_stock_encoder(
    make_trainer: Callable[[], Trainer],
) -> None:
    encoder = make_trainer().model.model.encoder.eval()
    frames = 2 * encoder.config.max_source_positions
    features = torch.randn(2, encoder.config.num_mel_bins, frames)
    stock = encoder(features).last_hidden_state
    assert torch.allclose(encode(encoder, features), stock, atol=1e-5)
    assert encode(encoder, features[:, :, : frames // 2]).shape == (2, frames // 4, stock.shape[2])
