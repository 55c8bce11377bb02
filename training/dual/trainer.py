"""The trainer: weights, their moving average, the optimiser, and what a step does.

The lower layers of the vision tower stay as the default model has them: what they make of every picture is computed
once. The learning rate warms up and follows one cosine.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.checkpoints import follow, restore_run, save_run
from training.dual.batches import Batch, Batches
from training.dual.losses import SceneHeads, contrastive_loss
from training.dual.model import Shape, adopt_tower, lower_tower, make_model, upper_tower

_STATE = ("model", "heads", "average", "optimiser")
_LEAST_RATE = 0.01  # of the highest, at the end
_HIGHEST_SCALE = math.log(100)  # of the logits, as in CLIP
_LOWER_BATCH = 128


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast; `seed` decides weights and captions."""

    steps: int = 1200
    fixed_layers: int = 4  # of the vision tower
    warmup_steps: int = 60
    batch_size: int = 256
    rate: float = 1e-3
    scene_share: float = 0.3  # of the loss that reads the scene
    average: float = 0.99
    seed: int = 1

    def rate_at(self, step: int) -> float:
        warm = min(1.0, (step + 1) / self.warmup_steps)
        cosine = (1 + math.cos(math.pi * min(1.0, step / self.steps))) / 2
        return self.rate * warm * (_LEAST_RATE + (1 - _LEAST_RATE) * cosine)


class Trainer:
    """`step` depends on nothing but the state, the step number and the schedule."""

    def __init__(self, batches: Batches, shape: Shape, schedule: Schedule, default: Path | None) -> None:
        self.batches, self.shape, self.schedule = batches, shape, schedule
        self.model = make_model(shape, batches.tokenizer, schedule.seed)
        if default is not None:
            adopt_tower(self.model, default)
        self.heads = SceneHeads(shape.embedding)
        self.average = copy.deepcopy(self.model)
        self.done = 0
        self._masters = [*self.model.parameters(), *self.heads.parameters()]
        matrices = [p for p in self._masters if p.dim() > 1]
        others = [p for p in self._masters if p.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=schedule.rate, betas=(0.9, 0.98))
        # Forward and backward run in bfloat16, on a replica.
        self._replica: Any = copy.deepcopy(nn.ModuleList([self.model, self.heads])).to(torch.bfloat16)
        self._lower: Tensor | None = None  # [pictures, 1 + P, width] bfloat16

    @torch.no_grad()
    def prepare(self, advance: Callable[[int], None]) -> None:
        """Runs the fixed layers over all pictures; comes before the first step."""
        made = []
        for first in range(0, len(self.batches.pictures.things), _LOWER_BATCH):
            pictures = np.array(self.batches.pictures.pixels[first : first + _LOWER_BATCH])
            pixels = to_pixels(torch.from_numpy(pictures)).to(torch.bfloat16)
            made.append(lower_tower(self._replica[0], pixels, self.schedule.fixed_layers))
            advance(len(pixels))
        self._lower = torch.cat(made)

    def step(self) -> dict[str, float]:
        """One batch; its losses."""
        batch = self.batches.batch(self.done)
        contrast, scene = self._losses(batch)
        loss: Any = contrast + self.schedule.scene_share * scene
        loss.backward()
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate_at(self.done)
        self._update()
        return {"contrast": contrast.item(), "scene": scene.item()}

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        model, heads = self._replica
        assert self._lower is not None, "prepare() comes before the first step"
        seen = upper_tower(model, self._lower[torch.from_numpy(batch.indices)], self.schedule.fixed_layers)
        said = text_embeddings(model, batch.input_ids, batch.attention_mask)
        similarity = functional.normalize(said.float()) @ functional.normalize(seen.float()).T
        contrast = contrastive_loss(similarity * model.logit_scale.float().exp(), batch.is_fitting)
        scene = heads(seen, batch.scenes) + heads(said[batch.is_full], batch.scenes[batch.is_full])
        return contrast, scene

    @torch.no_grad()
    def _update(self) -> None:
        replicated = list(self._replica.parameters())
        for master, one in zip(self._masters, replicated, strict=True):
            master.grad = None if one.grad is None else one.grad.float()
            one.grad = None
        nn.utils.clip_grad_norm_(self._masters, 1.0)
        self.optimiser.step()
        self.model.logit_scale.clamp_(max=_HIGHEST_SCALE)
        self.done += 1
        self._spread_weights()
        follow(self.average, self.model, self.schedule.average, self.done)

    @torch.no_grad()
    def _spread_weights(self) -> None:
        for master, one in zip(self._masters, self._replica.parameters(), strict=True):
            one.copy_(master)

    def save(self, folder: Path) -> None:
        """Whole or not at all."""
        save_run(folder, self._parts(), self.done, asdict(self.shape))

    def restore(self, folder: Path) -> bool:
        """Goes on from a checkpoint, if there is one."""
        done = restore_run(folder, self._parts())
        if done is None:
            return False
        self.done = done
        self._spread_weights()
        return True

    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _STATE}


def to_pixels(pictures: Tensor) -> Tensor:
    """[batch, SIDE, SIDE, 3] uint8 to [batch, 3, SIDE, SIDE], -1 to 1."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def text_embeddings(model: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """[batch, embedding]."""
    embedded: Tensor = model.get_text_features(input_ids, attention_mask).pooler_output
    return embedded
