"""Batches: scenes and, where its archive is given, easy-VQA pictures, with packed questions and dense targets."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from training import dense
from training.easy_vqa import Picture
from training.model import Shape
from training.packing import Packed, pack
from training.questions import Question, drill
from training.scenes import SIDE, Scene, scene

_EASY_QUESTIONS = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from; no questions while only the tower learns."""

    pixels: Tensor  # [batch, 3, SIDE, SIDE] float32, -1 to 1
    targets: Tensor  # [batch, P, 5] int64
    packed: Packed | None
    kinds: tuple[tuple[str, ...], ...]  # of each picture's questions


@dataclass(frozen=True, slots=True)
class Mixture:
    """How a batch is put together."""

    shape: Shape
    tokenizer: PreTrainedTokenizerFast
    easy_vqa: Sequence[Picture]
    num_questions: int = 14
    easy_share: float = 0.2
    ask: Callable[[Scene, int], list[Question]] = drill

    def batch(self, first: int, size: int, *, has_questions: bool = True) -> Batch:
        """The batch of scenes from seed `first` on, always the same one: a resumed run sees what an
        uninterrupted one would. Without questions the scenes are crowded."""
        rng = random.Random(first)
        num_easy = round(size * self.easy_share) if self.easy_vqa else 0
        pixels, targets, asked = [], [], []
        for seed in range(first, first + size - num_easy):
            one = scene(seed, is_crowded=not has_questions)
            pixels.append(np.asarray(one.image))
            targets.append(dense.targets(one, self.shape.patch))
            asked.append(self.ask(one, self.num_questions) if has_questions else [])
        for _ in range(num_easy):
            picture = self.easy_vqa[rng.randrange(len(self.easy_vqa))]
            pixels.append(np.asarray(_varied(picture.image, rng)))
            targets.append(dense.easy_targets(pixels[-1], picture.shape, self.shape.patch))
            asked.append(rng.sample(picture.questions, min(_EASY_QUESTIONS, len(picture.questions))))
        return self._stacked(pixels, targets, asked if has_questions else [])

    def _stacked(self, pixels: list[np.ndarray], targets: list[Tensor], asked: list[list[Question]]) -> Batch:
        stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
        kinds = tuple(tuple(question.kind for question in row) for row in asked)
        return Batch(stacked, torch.stack(targets), pack(asked, self.tokenizer) if asked else None, kinds)


def _varied(image: Image.Image, rng: random.Random) -> Image.Image:
    """Mirrored at random, as no easy-VQA question asks where; to SIDE as the processor does it."""
    image = ImageOps.mirror(image) if rng.random() < 0.5 else image
    return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
