"""Batches: every sound has its words in three languages, features are the processor's, a seed gives one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from transformers import PreTrainedTokenizerFast

from training.speech.batches import IGNORED, Batch
from training.speech.trainer import Trainer
from training.speech.words import LANGUAGES, text_of


def _digits_of_each(batch: Batch) -> Iterator[list[int]]:
    for digits in batch.digits.split(batch.num_digits.tolist()):
        yield digits.tolist()


def test_labels_are_the_digits_words_and_an_end(
    make_trainer: Callable[[], Trainer], tokenizer: PreTrainedTokenizerFast
) -> None:
    batch = make_trainer().mixture.batch(1, 4)
    rows = iter(batch.labels.tolist())
    for digits in _digits_of_each(batch):
        for language in LANGUAGES:
            labels = [label for label in next(rows) if label != IGNORED]
            assert tokenizer.decode(labels[:-1]) == text_of(digits, language)
            assert labels[-1] == tokenizer.eos_token_id
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


def test_strings_are_no_longer_than_asked(make_trainer: Callable[[], Trainer]) -> None:
    mixture = make_trainer().mixture
    assert int(mixture.batch(5, 20, longest=2).num_digits.max()) == 2
    assert max(int(mixture.batch(seed, 20).num_digits.max()) for seed in range(5)) > 2


def test_features_are_the_processors(make_trainer: Callable[[], Trainer]) -> None:
    """Some batches fill the window, as the model will hear it; the others are as long as their longest sound."""
    mixture = make_trainer().mixture
    frames = [mixture.batch(seed, 2, longest=2).features.shape[2] for seed in range(12)]
    window = 2 * mixture.shape.num_positions
    assert window in frames
    assert min(frames) < window
