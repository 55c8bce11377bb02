"""A dual encoder that trains in milliseconds, its tokenizer, and pictures for it, each made once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from training.dual.batches import Batches
from training.dual.model import Shape
from training.dual.pictures import FIRST_SEED, Pictures, render
from training.dual.tokenizer import make_tokenizer
from training.dual.trainer import Schedule, Trainer

_SHAPE = Shape(
    patch=32, vision_width=16, vision_layers=3, vision_heads=2, text_width=16, text_layers=2, text_heads=2,
    embedding=16,
)  # fmt: skip
_SCHEDULE = Schedule(steps=5, fixed_layers=1, warmup_steps=2, batch_size=16, rate=1e-2)


@pytest.fixture(scope="session")
def dual_tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture(scope="session")
def dual_shape() -> Shape:
    return _SHAPE


@pytest.fixture(scope="session")
def pictures() -> Pictures:
    return render(FIRST_SEED, 64)


@pytest.fixture
def make_dual_trainer(dual_tokenizer: PreTrainedTokenizerFast, pictures: Pictures) -> Callable[[], Trainer]:
    batches = Batches(pictures, dual_tokenizer, _SCHEDULE.batch_size, _SCHEDULE.seed)
    return lambda: Trainer(batches, _SHAPE, _SCHEDULE, default=None)
