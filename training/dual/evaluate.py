"""How well a dual encoder finds: recall among held-out scenes, through its own processor and towers.

Protocol: scenes of consecutive held-out seeds, which training never rendered, with handwritten digits it never saw;
one caption each, worded by a generator seeded with the scene's seed; every caption is scored against every picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, AutoProcessor, PreTrainedTokenizerFast

from training.dual.captions import Caption, Style, caption
from training.dual.fitting import fits
from training.dual.pictures import Pictures, render
from training.dual.recall import Recall, recall
from training.dual.trainer import text_embeddings, to_pixels
from training.scenes import FIRST_HELD_OUT_SEED

FIRST_EVALUATED_SEED = FIRST_HELD_OUT_SEED + (2 << 32)
_BATCH = 100


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Scenes with one caption each."""

    pictures: Pictures
    captions: list[Caption]

    @property
    def is_fitting(self) -> NDArray[np.bool_]:
        """[captions, pictures]."""
        return fits(self.captions, self.pictures.things)


def held_out(first_seed: int, count: int, style: Style) -> HeldOut:
    """Always the same ones for the same seed, count and style."""
    pictures = render(first_seed, count)
    captions = [
        caption(things, style, np.random.default_rng([first_seed + index, 3]))
        for index, things in enumerate(pictures.things)
    ]
    return HeldOut(pictures, captions)


def evaluate(
    model_dir: Path, num_scenes: int = 500, seed: int = FIRST_EVALUATED_SEED, style: Style = "full"
) -> Recall:
    """Recall of the committed or any other checkpoint, in float32, both ways, among scenes from that seed on."""
    model: Any = AutoModel.from_pretrained(model_dir, dtype=torch.float32).eval()
    processor: Any = AutoProcessor.from_pretrained(model_dir, backend="pil")
    samples = held_out(seed, num_scenes, style)
    texts = [one.text for one in samples.captions]
    return recall(similarity(model, processor, texts, list(samples.pictures.pixels)), samples.is_fitting)


def similarity(model: Any, processor: Any, texts: list[str], pictures: list[Any]) -> NDArray[np.float32]:
    """Cosines, [texts, pictures], through the model's own processor."""
    said = processor(text=texts, padding="max_length", truncation=True, return_tensors="pt")
    pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]
    return _similarity(model, said["input_ids"], said["attention_mask"], pixels)


def recall_of(model: Any, tokenizer: PreTrainedTokenizerFast, samples: HeldOut) -> Recall:
    """The same while training, without a processor."""
    texts = tokenizer([one.text for one in samples.captions], padding="max_length", return_tensors="pt")
    pixels = to_pixels(torch.from_numpy(samples.pictures.pixels))
    scores = _similarity(model, texts["input_ids"], texts["attention_mask"], pixels)
    return recall(scores, samples.is_fitting)


@torch.no_grad()
def _similarity(model: Any, input_ids: Tensor, attention_mask: Tensor, pixels: Tensor) -> NDArray[np.float32]:
    """Cosines, [captions, pictures]."""
    said = [
        text_embeddings(model, ids, mask)
        for ids, mask in zip(torch.split(input_ids, _BATCH), torch.split(attention_mask, _BATCH), strict=True)
    ]
    seen = [model.get_image_features(some).pooler_output for some in torch.split(pixels, _BATCH)]
    cosines = functional.normalize(torch.cat(said)) @ functional.normalize(torch.cat(seen)).T
    return np.asarray(cosines.numpy())
