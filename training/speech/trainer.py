"""The speech trainer: weights, their moving average, the optimiser, and the two losses of a step.

Strings are put together from clips, so it is known where each digit is. The encoder learns to tell at every position
which digit is being said: alone at first, which takes a few hundred steps, then beside the decoder, which learns to
write all three languages from one pass of the encoder. The head that tells the digit is not exported.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.checkpoints import follow, restore_run, save_run
from training.speech.batches import IGNORED, NOTHING, Batch, Mixture
from training.speech.model import make_model
from training.speech.words import LANGUAGES

_STATE = ("model", "placer", "average", "optimiser")
_LEAST_RATE = 0.01  # of the highest, at the end
_WEIGHT_OF_NOTHING = 0.2  # there is much of it
_LABEL_SMOOTHING = 0.05


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast; `seed` decides weights and sounds."""

    steps: int = 2600
    encoder_steps: int = 250  # at first, for the encoder alone
    warmup_steps: int = 100
    batch_size: int = 32
    rate: float = 2e-3
    placing_share: float = 0.5  # of the loss, once words are written
    average: float = 0.996
    seed: int = 1

    def rate_at(self, step: int) -> float:
        warm = min(1.0, (step + 1) / self.warmup_steps)
        cosine = (1 + math.cos(math.pi * min(1.0, step / self.steps))) / 2
        return self.rate * warm * (_LEAST_RATE + (1 - _LEAST_RATE) * cosine)


class Trainer:
    """`step` depends on nothing but the state, the step number and the schedule."""

    def __init__(self, mixture: Mixture, schedule: Schedule) -> None:
        self.mixture, self.schedule = mixture, schedule
        self.model = make_model(mixture.shape, mixture.tokenizer, schedule.seed)
        self.placer = nn.Linear(mixture.shape.width, NOTHING + 1)
        self._weight_of_place = torch.ones(NOTHING + 1)
        self._weight_of_place[NOTHING] = _WEIGHT_OF_NOTHING
        self.average = copy.deepcopy(self.model).eval()
        self.done = 0
        self._weights = [*self.model.parameters(), *self.placer.parameters()]
        learnt = [weight for weight in self._weights if weight.requires_grad]
        matrices = [weight for weight in learnt if weight.dim() > 1]
        others = [weight for weight in learnt if weight.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=schedule.rate, betas=(0.9, 0.98))

    def step(self) -> dict[str, float]:
        """One batch; its losses."""
        schedule = self.schedule
        seed = (schedule.seed << 32) + self.done
        batch = self.mixture.batch(seed, schedule.batch_size)
        torch.manual_seed(seed)  # dropout
        self.model.train()
        with torch.autocast("cpu", torch.bfloat16):
            features = encode(self.model.model.encoder, batch.features)
        loss, losses = self._losses(features, batch)
        torch.autograd.backward(loss)
        for group in self.optimiser.param_groups:
            group["lr"] = schedule.rate_at(self.done)
        nn.utils.clip_grad_norm_(self._weights, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.done += 1
        self._update_average()
        return losses

    def _losses(self, features: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        placed = self.placer(features.float())
        placing = nn.functional.cross_entropy(
            placed.flatten(0, 1), batch.placed.flatten(), self._weight_of_place, ignore_index=IGNORED
        )
        losses = {
            "placing": placing.item(),
            "placed": _share_right(placed, batch.placed, (batch.placed >= 0) & (batch.placed < NOTHING)),
        }
        if self.done < self.schedule.encoder_steps:
            return placing, losses
        with torch.autocast("cpu", torch.bfloat16):
            logits = written_logits(self.model, features, batch)
        writing = nn.functional.cross_entropy(
            logits.flatten(0, 1),
            batch.labels.flatten(),
            ignore_index=IGNORED,
            label_smoothing=_LABEL_SMOOTHING,
        )
        losses |= {
            "writing": writing.item(),
            "right": _share_right(logits, batch.labels, batch.labels != IGNORED),
        }
        return writing + self.schedule.placing_share * placing, losses

    def _update_average(self) -> None:
        follow(self.average, self.model, self.schedule.average, self.done)

    def save(self, folder: Path) -> None:
        """Whole or not at all."""
        save_run(folder, self._parts(), self.done, asdict(self.mixture.shape))

    def restore(self, folder: Path) -> bool:
        """Goes on from a checkpoint, if there is one."""
        done = restore_run(folder, self._parts())
        if done is None:
            return False
        self.done = done
        return True

    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _STATE}


def encode(encoder: Any, features: Tensor) -> Tensor:
    """The stock encoder, which takes whole windows only, for sounds of any length: [batch, positions, width]."""
    hidden = nn.functional.gelu(encoder.conv1(features))
    hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    for layer in encoder.layers:
        hidden = layer(hidden, None)
    normed: Tensor = encoder.layer_norm(hidden)
    return normed


def written_logits(model: nn.Module, features: Tensor, batch: Batch) -> Tensor:
    """After every token of every text: [languages * batch, T, vocabulary]."""
    heard = features.repeat_interleave(len(LANGUAGES), 0)
    logits: Tensor = model(encoder_outputs=(heard,), decoder_input_ids=batch.inputs, use_cache=False).logits
    return logits.float()


def _share_right(logits: Tensor, labels: Tensor, counts: Tensor) -> float:
    return float((logits.argmax(-1) == labels)[counts].float().mean())
