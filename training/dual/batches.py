"""Batches: pictures with a caption each, and which caption fits which picture.

Every second epoch puts pictures that have something in common (where things are, or which, or which kinds and which
colours) side by side: to tell them apart, the rest has to be seen, such as which thing has which colour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from training.dual.captions import Caption, Style, caption
from training.dual.fitting import fits
from training.dual.losses import scene_targets
from training.dual.pictures import Pictures
from training.scenes import Thing

_SHARES: dict[Style, float] = {"full": 0.2, "partial": 0.3, "query": 0.45, "count": 0.05}
_ALIKE = 16  # neighbours that have something in common
_IN_COMMON: tuple[tuple[Callable[[Thing], object], ...], ...] = (
    (lambda thing: thing.kind, lambda thing: thing.colour),
    (lambda thing: thing.place,),
    (lambda thing: thing.kind, lambda thing: thing.colour),
    (lambda thing: (thing.kind, thing.digit),),
)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from."""

    indices: NDArray[np.int64]  # of the pictures
    input_ids: Tensor  # [batch, tokens] int64, padded to the longest
    attention_mask: Tensor  # [batch, tokens] int64
    is_fitting: Tensor  # [captions, pictures] bool
    is_full: Tensor  # [batch] bool: the caption tells the whole scene
    scenes: Tensor  # [batch, places, 4] int64


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches of a run; the same step always has the same one."""

    pictures: Pictures
    tokenizer: PreTrainedTokenizerFast
    size: int
    seed: int

    def batch(self, step: int) -> Batch:
        per_epoch = len(self.pictures.things) // self.size
        epoch, index = divmod(step, per_epoch)
        indices = self._order(epoch)[index * self.size : (index + 1) * self.size]
        rng = np.random.default_rng([self.seed, 1, step])
        scenes = [self.pictures.things[index] for index in indices]
        styles = rng.choice(list(_SHARES), len(scenes), p=list(_SHARES.values()))
        captions = [caption(things, style, rng) for things, style in zip(scenes, styles, strict=True)]
        ids, mask = tokens(captions, self.tokenizer)
        return Batch(
            indices, ids, mask, torch.from_numpy(fits(captions, scenes)),
            torch.from_numpy(styles == "full"), scene_targets(scenes),
        )  # fmt: skip

    def _order(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, 0, epoch])
        order = rng.permutation(len(self.pictures.things))
        if epoch % 2 == 0:
            return order
        of = _IN_COMMON[epoch // 2 % len(_IN_COMMON)]
        common = [
            str([sorted(map(str, map(one, self.pictures.things[index]))) for one in of]) for index in order
        ]
        alike = order[np.argsort(np.array(common), kind="stable")]
        blocks = alike[: len(alike) // _ALIKE * _ALIKE].reshape(-1, _ALIKE)
        return blocks[rng.permutation(len(blocks))].ravel()


def tokens(captions: list[Caption], tokenizer: PreTrainedTokenizerFast) -> tuple[Tensor, Tensor]:
    """Ids and mask. What stands after a text's end changes nothing, so padding to the longest will do here."""
    found = tokenizer([one.text for one in captions], padding=True, truncation=True, return_tensors="pt")
    return found["input_ids"], found["attention_mask"]
