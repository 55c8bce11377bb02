"""Batches: the same step gives the same batch, an epoch shows every picture once, and neighbours may be alike."""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from training.dual.batches import Batches
from training.dual.captions import STYLES, caption
from training.dual.pictures import Pictures
from training.dual.tokenizer import LENGTH


def _batches(pictures: Pictures, tokenizer: PreTrainedTokenizerFast) -> Batches:
    return Batches(pictures, tokenizer, size=16, seed=1)


def test_same_step_gives_same_batch(pictures: Pictures, dual_tokenizer: PreTrainedTokenizerFast) -> None:
    first, again = (_batches(pictures, dual_tokenizer).batch(5) for _ in range(2))
    assert np.array_equal(first.indices, again.indices)
    assert torch.equal(first.input_ids, again.input_ids)


def test_an_epoch_shows_every_picture_once(
    pictures: Pictures, dual_tokenizer: PreTrainedTokenizerFast
) -> None:
    batches, per_epoch = _batches(pictures, dual_tokenizer), len(pictures.things) // 16
    orders = []
    for epoch in range(3):
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        orders.append(np.concatenate([batches.batch(step).indices for step in steps]))
        assert sorted(orders[-1]) == list(range(len(pictures.things)))
    assert not np.array_equal(orders[0], orders[2])


def test_every_second_epoch_puts_like_pictures_side_by_side(
    pictures: Pictures, dual_tokenizer: PreTrainedTokenizerFast
) -> None:
    batches, per_epoch = _batches(pictures, dual_tokenizer), len(pictures.things) // 16

    def num_shared(epoch: int) -> int:
        found = 0
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            rows = [pictures.things[index] for index in batches.batch(step).indices]
            places = [tuple(thing.place for thing in things) for things in rows]
            found += len(places) - len(set(places))
        return found

    assert num_shared(1) > num_shared(0)


def test_each_caption_fits_its_own_picture(
    pictures: Pictures, dual_tokenizer: PreTrainedTokenizerFast
) -> None:
    batch = _batches(pictures, dual_tokenizer).batch(0)
    assert batch.is_fitting.diagonal().all()
    assert not batch.is_fitting.all()
    assert batch.is_full.any()


def test_no_caption_is_cut(pictures: Pictures, dual_tokenizer: PreTrainedTokenizerFast) -> None:
    rng = np.random.default_rng(0)
    texts = [caption(things, style, rng).text for things in pictures.things for style in STYLES]
    longest = max(len(ids) for ids in dual_tokenizer(texts)["input_ids"])
    assert 30 < longest < LENGTH
