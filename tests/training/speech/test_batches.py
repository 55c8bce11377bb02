"""Batches: every sound has its words in three languages, each digit has its place, a seed gives one batch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import torch
from transformers import PreTrainedTokenizerFast

from training.speech.batches import IGNORED, NOTHING
from training.speech.trainer import Trainer
from training.speech.words import LANGUAGES, text_of


def test_words_are_those_of_the_digits_that_have_a_place(
    make_trainer: Callable[[], Trainer], tokenizer: PreTrainedTokenizerFast
) -> None:
    batch = make_trainer().mixture.batch(1, 8)
    rows = iter(batch.labels.tolist())
    for placed in batch.placed.tolist():
        for language in LANGUAGES:
            labels = [label for label in next(rows) if label != IGNORED]
            assert labels[-1] == tokenizer.eos_token_id
            # Of two equal digits without a pause between them the places run together.
            digits = [digit for digit, _ in groupby(placed) if digit != NOTHING]
            written = [word for word, _ in groupby(tokenizer.decode(labels[:-1]).split())]
            assert written == [word for word, _ in groupby(text_of(digits, language).split())]
    assert next(rows, None) is None


def test_label_is_the_input_after_it(make_trainer: Callable[[], Trainer]) -> None:
    batch = make_trainer().mixture.batch(2, 4)
    following = torch.roll(batch.inputs, -1, 1)
    is_inside = (batch.labels != IGNORED) & (batch.labels != make_trainer().mixture.tokenizer.eos_token_id)
    assert is_inside.any()
    assert torch.equal(following[is_inside], batch.labels[is_inside])


def test_same_seed_gives_the_same_batch(make_trainer: Callable[[], Trainer]) -> None:
    mixture = make_trainer().mixture
    first, again, other = mixture.batch(3, 2), mixture.batch(3, 2), mixture.batch(4, 2)
    assert torch.equal(first.features, again.features)
    assert torch.equal(first.inputs, again.inputs)
    assert not torch.equal(first.features, other.features)


def test_some_batches_fill_the_window_and_others_are_as_long_as_their_sounds(
    make_trainer: Callable[[], Trainer],
) -> None:
    mixture = make_trainer().mixture
    frames = [mixture.batch(seed, 2).features.shape[2] for seed in range(12)]
    window = 2 * mixture.shape.num_positions
    assert window in frames
    assert min(frames) < window
