"""The committed speech model loads through stock classes, fits its budget and writes its sample sounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor, WhisperForConditionalGeneration, WhisperProcessor

from training.speech.evaluate import TASK, written
from training.speech.recordings import SAMPLING_RATE, read_wave
from training.speech.words import LANGUAGES

_ASSETS = Path(__file__).parents[3] / "assets"
_MOST_BYTES = 12_000_000


@pytest.mark.slow
def test_speech_model_writes_its_samples_in_every_language() -> None:
    model = WhisperForConditionalGeneration.from_pretrained(_ASSETS / "speech", dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(_ASSETS / "speech")
    assert isinstance(processor, WhisperProcessor)
    listed = json.loads((_ASSETS / "samples" / "speech.json").read_text())
    assert listed
    sounds = [read_wave((_ASSETS / "samples" / one["sound"]).read_bytes()) for one in listed]
    for language in LANGUAGES:
        got = list(written(model, processor, sounds, language, TASK[language]))
        assert got == [one[language] for one in listed]
    features = processor(sounds, sampling_rate=SAMPLING_RATE, return_tensors="pt").input_features
    unasked = processor.batch_decode(model.generate(features), skip_special_tokens=True)
    assert unasked == [one["en"] for one in listed]


def test_speech_model_fits_its_budget() -> None:
    assert sum(path.stat().st_size for path in (_ASSETS / "speech").iterdir()) <= _MOST_BYTES
