"""Batches: scenes and, where its archive is given, easy-VQA pictures, with packed questions and dense targets."""

from __future__ import annotations

import random
from collections.abc import Sequence
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
from training.questions import questions
from training.scenes import SIDE, scene


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from."""

    pixels: Tensor  # [batch, 3, SIDE, SIDE] float32, -1 to 1
    targets: Tensor  # [batch, P, 4] int64
    packed: Packed


@dataclass(frozen=True, slots=True)
class Mixture:
    """How a batch is put together."""

    shape: Shape
    tokenizer: PreTrainedTokenizerFast
    easy_vqa: Sequence[Picture]
    size: int = 32
    num_questions: int = 6
    easy_share: float = 0.2

    def batch(self, step: int, seed: int) -> Batch:
        """The batch of a step, always the same one: a resumed run sees what an uninterrupted one would."""
        rng = random.Random(seed * 1_000_003 + step)
        num_easy = round(self.size * self.easy_share) if self.easy_vqa else 0
        first = seed * (1 << 32) + step * self.size
        scenes = [scene(first + index) for index in range(self.size - num_easy)]
        images = [one.image for one in scenes]
        targets = [dense.targets(one, self.shape.patch) for one in scenes]
        asked = [questions(one, self.num_questions) for one in scenes]
        for _ in range(num_easy):
            picture = self.easy_vqa[rng.randrange(len(self.easy_vqa))]
            images.append(_varied(picture.image, rng))
            targets.append(dense.nothing_known(self.shape.num_patches))
            asked.append(rng.sample(picture.questions, min(self.num_questions, len(picture.questions))))
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
        return Batch(
            pixels.permute(0, 3, 1, 2).float() / 127.5 - 1, torch.stack(targets), pack(asked, self.tokenizer)
        )


def _varied(image: Image.Image, rng: random.Random) -> Image.Image:
    """Mirrored and turned at random, as no easy-VQA question asks where; to SIDE as the processor does it."""
    image = ImageOps.mirror(image) if rng.random() < 0.5 else image
    return image.rotate(90 * rng.randrange(4)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
