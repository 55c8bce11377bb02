"""The committed default model loads through stock classes, fits its budget and answers its samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from training.evaluate import Sample, answers
from training.questions import KINDS

_ASSETS = Path(__file__).parents[2] / "assets"
_MOST_BYTES = 20_000_000


@pytest.mark.slow
def test_default_model_answers_its_samples() -> None:
    model = AutoModelForImageTextToText.from_pretrained(_ASSETS / "default", dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(_ASSETS / "default", backend="pil")
    listed = json.loads((_ASSETS / "samples" / "samples.json").read_text())
    samples = [
        Sample(
            Image.open(_ASSETS / "samples" / one["image"]),
            Path(one["image"]).stem,
            one["question"],
            one["answer"],
        )
        for one in listed
    ]
    assert {sample.kind for sample in samples} == set(KINDS)
    assert answers(model, processor, samples, lambda _: None) == [sample.answer for sample in samples]


def test_default_model_fits_its_budget() -> None:
    assert sum(path.stat().st_size for path in (_ASSETS / "default").iterdir()) <= _MOST_BYTES
