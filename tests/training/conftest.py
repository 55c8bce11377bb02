"""A trainer that takes milliseconds a step, and the tokenizer, made once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from training.batches import Mixture
from training.model import Shape
from training.questions import questions
from training.tokenizer import make_tokenizer
from training.trainer import Schedule, Trainer

SHAPE = Shape(patch=32, vision_width=16, vision_layers=1, text_width=16, text_layers=2, heads=2)
SCHEDULE = Schedule(steps=5, tower_steps=2, warmup_steps=2, batch_size=2, rate=1e-2)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture
def make_trainer(tokenizer: PreTrainedTokenizerFast) -> Callable[[], Trainer]:
    return lambda: Trainer(
        Mixture(SHAPE, tokenizer, (), num_questions=3, ask=questions), SCHEDULE, "cpu", num_workers=1
    )
