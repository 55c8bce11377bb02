"""Several questions about one picture in one decoder sequence: the picture's tokens once, each question apart.

Each question sees the picture and itself only, and its positions continue after the picture's: so a packed
sequence gives each answer the loss that it would have alone, at a fraction of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from training.questions import Question

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch of packed texts, without the picture's tokens before them. T is the longest text."""

    token_ids: Tensor  # [batch, T] int64
    labels: Tensor  # [batch, T] int64: what follows each token; IGNORED where no answer does
    weights: Tensor  # [batch, T] float32: of each label in the loss
    segments: Tensor  # [batch, T] int64: which question a token belongs to, -1 for padding
    positions: Tensor  # [batch, T] int64: within its question, from 0

    def to(self, device: torch.device | str) -> Packed:
        columns = (self.token_ids, self.labels, self.weights, self.segments, self.positions)
        return Packed(*(column.to(device) for column in columns))


def pack(batch: Sequence[Sequence[Question]], tokenizer: PreTrainedTokenizerFast) -> Packed:
    """One row per picture."""
    rows = [_row(asked, tokenizer) for asked in batch]
    longest = max(len(row[0]) for row in rows)
    fills = (tokenizer.pad_token_id, IGNORED, 0.0, -1, 0)
    columns = [
        torch.tensor([row[index] + [fill] * (longest - len(row[index])) for row in rows])
        for index, fill in enumerate(fills)
    ]
    return Packed(*columns)


def _row(asked: Sequence[Question], tokenizer: PreTrainedTokenizerFast) -> tuple[list[Any], ...]:
    token_ids: list[int] = []
    labels: list[int] = []
    weights: list[float] = []
    segments: list[int] = []
    positions: list[int] = []
    for index, question in enumerate(asked):
        prompt = tokenizer.encode(f"{question.text}\n")
        answer = [*tokenizer.encode(question.answer), tokenizer.eos_token_id]
        whole = prompt + answer
        # The end of an answer predicts nothing and need not be fed.
        token_ids += whole[:-1]
        labels += [IGNORED] * (len(prompt) - 1) + answer
        # A description has ten times the tokens of a yes: it should not have ten times the say.
        weights += [0.0] * (len(prompt) - 1) + [len(answer) ** -0.5] * len(answer)
        segments += [index] * (len(whole) - 1)
        positions += range(len(whole) - 1)
    return token_ids, labels, weights, segments, positions


def answer_loss(logits: Tensor, packed: Packed) -> Tensor:
    """The weighted mean over the answers' tokens; logits [batch, T, vocabulary] float32."""
    labels = packed.labels.flatten()
    losses = functional.cross_entropy(logits.flatten(0, 1), labels, ignore_index=IGNORED, reduction="none")
    return (losses * packed.weights.flatten()).sum() / packed.weights.sum()


def visible(packed: Packed, num_patches: int) -> Tensor:
    """Which token may attend to which: [batch, 1, P + T, P + T] bool, P patches first."""
    batch, length = packed.segments.shape
    patches = torch.full((batch, num_patches), -2)
    segments = torch.cat([patches, packed.segments], dim=1)
    same = segments[:, :, None] == segments[:, None, :]
    is_patch = (segments == -2)[:, None, :]
    causal = torch.ones(num_patches + length, num_patches + length, dtype=torch.bool).tril()
    return ((same | is_patch) & causal)[:, None]


def answer_logits(model: Any, features: Tensor, packed: Packed) -> Tensor:
    """Logits after every text token: [batch, T, vocabulary]; features are [batch, P, width]."""
    inner = model.model.language_model
    num_patches = features.shape[1]
    embeddings = torch.cat([features, inner.embed_tokens(packed.token_ids)], dim=1)
    patch_positions = torch.arange(num_patches).expand(len(packed.positions), -1)
    positions = torch.cat([patch_positions, packed.positions + num_patches], dim=1).to(features.device)
    allowed = visible(packed, num_patches).to(features.device)
    mask = torch.zeros(allowed.shape, dtype=embeddings.dtype, device=features.device)
    mask.masked_fill_(~allowed, torch.finfo(embeddings.dtype).min)
    hidden = inner(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False)
    logits: Tensor = model.lm_head(hidden.last_hidden_state[:, num_patches:])
    return logits
