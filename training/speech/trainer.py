"""The speech trainer: weights, their moving average, the optimiser, and the two losses of a step.

The decoder learns to write all three languages from one pass of the encoder. Beside it the encoder alone learns to
spell the digits by connectionist temporal classification (Graves et al., 2006): that finds where the words are in a
few hundred steps; its head is not exported.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.speech.batches import IGNORED, Batch, Mixture
from training.speech.model import make_model
from training.speech.words import LANGUAGES

CHECKPOINT = "checkpoint.pt"
_STATE = ("model", "speller", "average", "optimiser")
_LEAST_RATE = 0.01  # of the highest, at the end
_BLANK = 10  # after the ten digits
_BLANK_BIAS = 4.0  # most positions are blank: without it the first losses are in the hundreds
_LABEL_SMOOTHING = 0.05


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast; `seed` decides weights and sounds."""

    steps: int = 4000
    short_steps: int = 300  # at first, with strings of at most `short` digits
    short: int = 2
    warmup_steps: int = 200
    batch_size: int = 32
    rate: float = 1.5e-3
    speller_share: float = 0.3  # of the loss
    average: float = 0.996
    seed: int = 1

    def longest(self, step: int, longest: int) -> int:
        return min(self.short, longest) if step < self.short_steps else longest

    def rate_at(self, step: int) -> float:
        warm = min(1.0, (step + 1) / self.warmup_steps)
        cosine = (1 + math.cos(math.pi * min(1.0, step / self.steps))) / 2
        return self.rate * warm * (_LEAST_RATE + (1 - _LEAST_RATE) * cosine)


class Trainer:
    """`step` depends on nothing but the state, the step number and the schedule."""

    def __init__(self, mixture: Mixture, schedule: Schedule) -> None:
        self.mixture, self.schedule = mixture, schedule
        self.model = make_model(mixture.shape, mixture.tokenizer, schedule.seed)
        self.speller = nn.Linear(mixture.shape.width, _BLANK + 1)
        nn.init.constant_(self.speller.bias[_BLANK:], _BLANK_BIAS)
        self.average = copy.deepcopy(self.model).eval()
        self.done = 0
        self._weights = [*self.model.parameters(), *self.speller.parameters()]
        learnt = [weight for weight in self._weights if weight.requires_grad]
        matrices = [weight for weight in learnt if weight.dim() > 1]
        others = [weight for weight in learnt if weight.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=schedule.rate, betas=(0.9, 0.98))

    def step(self, longest: int = 8) -> dict[str, float]:
        """One batch; its losses."""
        schedule = self.schedule
        seed = (schedule.seed << 32) + self.done
        batch = self.mixture.batch(seed, schedule.batch_size, schedule.longest(self.done, longest))
        torch.manual_seed(seed)  # dropout
        self.model.train()
        with torch.autocast("cpu", torch.bfloat16):
            features = encode(self.model.model.encoder, batch.features)
            logits = written_logits(self.model, features, batch)
        writing = writing_loss(logits, batch)
        spelling = self._spelling_loss(features, batch)
        torch.autograd.backward(writing + schedule.speller_share * spelling)
        for group in self.optimiser.param_groups:
            group["lr"] = schedule.rate_at(self.done)
        nn.utils.clip_grad_norm_(self._weights, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.done += 1
        self._update_average()
        return {"writing": writing.item(), "spelling": spelling.item(), "right": _share_right(logits, batch)}

    def _spelling_loss(self, features: Tensor, batch: Batch) -> Tensor:
        scores = self.speller(features.float()).log_softmax(-1).transpose(0, 1)  # [positions, batch, 11]
        lengths = torch.full((scores.shape[1],), scores.shape[0])
        total: Tensor = nn.functional.ctc_loss(
            scores, batch.digits, lengths, batch.num_digits, blank=_BLANK, reduction="sum", zero_infinity=True
        )
        return total / max(1, len(batch.digits))

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.schedule.average, self.done / (self.done + 10))
        for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(value, 1 - keep)

    def save(self, folder: Path) -> None:
        """Whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: getattr(self, name).state_dict() for name in _STATE}
        state |= {"done": self.done, "shape": asdict(self.mixture.shape)}
        torch.save(state, folder / f"{CHECKPOINT}.part")
        (folder / f"{CHECKPOINT}.part").replace(folder / CHECKPOINT)

    def restore(self, folder: Path) -> bool:
        """Goes on from a checkpoint, if there is one."""
        if not (folder / CHECKPOINT).is_file():
            return False
        state = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
        for name in _STATE:
            getattr(self, name).load_state_dict(state[name])
        self.done = state["done"]
        return True


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


def writing_loss(logits: Tensor, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED, label_smoothing=_LABEL_SMOOTHING
    )


def _share_right(logits: Tensor, batch: Batch) -> float:
    is_word = batch.labels != IGNORED
    return float((logits.argmax(-1) == batch.labels)[is_word].float().mean())
