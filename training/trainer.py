"""The trainer: weights, their moving average, the optimiser, and the two losses of a step.

Schedule: the vision tower learns alone from crowded scenes, patch by patch; then everything learns from packed
questions, and the tower from a crowded batch now and then. The learning rate warms up at the start of each phase
and follows one cosine.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.batches import Batch, Mixture
from training.checkpoints import follow, restore_run, save_run
from training.dense import DenseHeads
from training.model import make_model
from training.packing import IGNORED, answer_logits, answer_loss

_STATE = ("model", "heads", "average", "optimiser")
_CROWDED_EVERY = 5  # steps
_LEAST_RATE = 0.01  # of the highest, at the end


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast; `seed` decides weights and scenes."""

    steps: int = 6300
    tower_steps: int = 1800  # at first, for the vision tower alone
    warmup_steps: int = 200
    batch_size: int = 32
    rate: float = 1e-3
    dense_share: float = 0.3  # of the loss, once questions are asked
    average: float = 0.996
    seed: int = 1

    def has_questions(self, step: int) -> bool:
        """Crowded scenes come back now and then: they teach digits at a fraction of the cost."""
        return step >= self.tower_steps and step % _CROWDED_EVERY != 0

    def rate_at(self, step: int) -> float:
        since = step - self.tower_steps if step >= self.tower_steps else step
        warm = min(1.0, (since + 1) / self.warmup_steps)
        cosine = (1 + math.cos(math.pi * min(1.0, step / self.steps))) / 2
        return self.rate * warm * (_LEAST_RATE + (1 - _LEAST_RATE) * cosine)


class Trainer:
    """`step` depends on nothing but the state, the step number and the schedule."""

    def __init__(self, mixture: Mixture, schedule: Schedule, device: str, num_workers: int) -> None:
        self.mixture, self.schedule, self.device = mixture, schedule, device
        self.model = make_model(mixture.shape, mixture.tokenizer, schedule.seed).to(device)
        self.heads = DenseHeads(mixture.shape.vision_width).to(device)
        self.average = copy.deepcopy(self.model)
        self.done = 0
        self._masters = [*self.model.parameters(), *self.heads.parameters()]
        matrices = [p for p in self._masters if p.dim() > 1]
        others = [p for p in self._masters if p.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=schedule.rate, betas=(0.9, 0.98))
        # Forward and backward run in bfloat16, on replicas that share their weights but not their gradients.
        self._replicas = _replicas(nn.ModuleList([self.model, self.heads]), num_workers)
        self._pool = ThreadPoolExecutor(num_workers, initializer=_limit_threads, initargs=(num_workers,))
        _limit_threads(num_workers)

    def step(self) -> dict[str, float]:
        """One batch; its losses."""
        schedule, size = self.schedule, self.schedule.batch_size // len(self._replicas)
        first = (schedule.seed << 32) + self.done * schedule.batch_size
        starts = range(first, first + size * len(self._replicas), size)
        has_questions = schedule.has_questions(self.done)
        pending = [
            self._pool.submit(self._shard, replica, start, size, has_questions)
            for replica, start in zip(self._replicas, starts, strict=True)
        ]
        results = [one.result() for one in pending]
        for group in self.optimiser.param_groups:
            group["lr"] = schedule.rate_at(self.done)
        self._gather_gradients()
        nn.utils.clip_grad_norm_(self._masters, 1.0)
        self.optimiser.step()
        self.done += 1
        self._spread_weights()
        self._update_average()
        return {name: sum(result[name] for result in results) / len(results) for name in results[0]}

    def _shard(self, replica: Any, first: int, size: int, has_questions: bool) -> dict[str, float]:
        """Losses of one replica's share of the batch; leaves its gradients."""
        model, heads = replica
        batch = self.mixture.batch(first, size, has_questions=has_questions)
        patches = vision_patches(model, batch.pixels.to(self.device, torch.bfloat16))
        dense, right = heads(patches, batch.targets.to(self.device))
        loss = dense
        losses = dict(zip(("kind", "colour", "size", "digit", "place"), right.tolist(), strict=True))
        if has_questions:
            assert batch.packed is not None
            logits = packed_logits(model, patches, batch)
            answers = answer_loss(logits, batch.packed.to(self.device))
            loss = answers + self.schedule.dense_share * dense
            losses["answers"] = answers.item()
        loss.backward()
        return losses | {"dense": dense.item()}

    @torch.no_grad()
    def _gather_gradients(self) -> None:
        replicated = zip(*(replica.parameters() for replica in self._replicas), strict=True)
        for master, copies in zip(self._masters, replicated, strict=True):
            found = [one.grad.float() for one in copies if one.grad is not None]
            master.grad = torch.stack(found).mean(0) if found else None
            for one in copies:
                one.grad = None

    @torch.no_grad()
    def _spread_weights(self) -> None:
        for master, one in zip(self._masters, self._replicas[0].parameters(), strict=True):
            one.copy_(master)

    def _update_average(self) -> None:
        follow(self.average, self.model, self.schedule.average, self.done)

    def save(self, folder: Path) -> None:
        """Whole or not at all."""
        save_run(folder, self._parts(), self.done, asdict(self.mixture.shape))

    def restore(self, folder: Path) -> bool:
        """Goes on from a checkpoint, if there is one."""
        done = restore_run(folder, self._parts(), self.device)
        if done is None:
            return False
        self.done = done
        self._spread_weights()
        return True

    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _STATE}

    @torch.no_grad()
    def exact_match(self, batch: Batch) -> dict[str, float]:
        """Share of questions per kind that the averaged weights answer exactly.

        Greedy decoding gives an answer just when each of its tokens is the likeliest one after those before
        it, so one packed pass tells it.
        """
        model = self.average
        patches = vision_patches(model, batch.pixels.to(self.device))
        best = packed_logits(model, patches, batch).argmax(-1).cpu()
        assert batch.packed is not None
        is_right = (best == batch.packed.labels) | (batch.packed.labels == IGNORED)
        asked: Counter[str] = Counter()
        right: Counter[str] = Counter()
        for row, kinds in enumerate(batch.kinds):
            for index, kind in enumerate(kinds):
                asked[kind] += 1
                right[kind] += bool(is_right[row][batch.packed.segments[row] == index].all())
        return {kind: right[kind] / asked[kind] for kind in sorted(asked)}


def vision_patches(model: Any, pixels: Tensor) -> Tensor:
    """What the projector reads: [batch, P, width]."""
    outputs = model.model.vision_tower(pixels, output_hidden_states=True)
    patches: Tensor = outputs.hidden_states[model.config.vision_feature_layer][:, 1:]
    return patches


def packed_logits(model: Any, patches: Tensor, batch: Batch) -> Tensor:
    """Float32 logits after every text token: [batch, T, vocabulary]."""
    assert batch.packed is not None
    features = model.model.multi_modal_projector(patches)
    return answer_logits(model, features, batch.packed.to(patches.device)).float()


def _replicas(masters: nn.Module, count: int) -> list[nn.Module]:
    first = copy.deepcopy(masters).to(torch.bfloat16)
    replicas = [first]
    for _ in range(count - 1):
        other = copy.deepcopy(first)
        for mine, shared in zip(other.parameters(), first.parameters(), strict=True):
            mine.data = shared.data
        replicas.append(other)
    return replicas


def _limit_threads(num_workers: int) -> None:
    # One thread per replica beats several threads inside every small operation.
    if num_workers > 1:
        torch.set_num_threads(1)
