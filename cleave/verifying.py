"""Head + tail against the whole: both halves in one process, joined by the bytes that would cross the network.

The comparison must be able to fail: before anything is compared, zeroed features and another input's features
have to change the tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import torch

from cleave.assets import resolve_model
from cleave.halves import Generated, Halves, make_heads
from cleave.terminal import Report, print_table, progress_bars
from cloud_node.model.serving import open_bundle, trace_bundle
from partitioner.samples import fitted, made_samples
from splitmodel.adapters.find import adapter_for
from splitmodel.encoder import Encoded
from splitmodel.equality import MAX_TIES_PER_TOKEN, Comparison, compare
from splitmodel.loading import load
from splitmodel.media import Media, MediaInput
from wire.errors import ModelFailed
from wire.manifest import Chain

PROMPTS = ("What is this?", "Describe the picture.", "Where is it, and what colour?")
# Embeddings have length 1: what float32 may round to in another order of sums.
EMBEDDING_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class SplitResult:
    """One split point of one chain over all inputs."""

    chain: str
    split_point: int
    label: str
    num_inputs: int
    num_equal: int
    num_ties: int
    num_tokens: int
    max_logit_error: float

    @property
    def is_ok(self) -> bool:
        return self.num_equal + self.num_ties == self.num_inputs


@dataclass(frozen=True, slots=True)
class Verification:
    """All split points; of their tokens together, at most 1 in 10,000 may be a tie."""

    splits: tuple[SplitResult, ...]

    @property
    def num_ties(self) -> int:
        return sum(split.num_ties for split in self.splits)

    @property
    def is_ok(self) -> bool:
        num_tokens = sum(split.num_tokens for split in self.splits)
        return all(split.is_ok for split in self.splits) and self.num_ties <= num_tokens * MAX_TIES_PER_TOKEN

    def to_dict(self) -> dict[str, object]:
        """Plain values; an error that is no number, as of logits that are not finite, is None."""
        splits = [{**asdict(split), "ok": split.is_ok} for split in self.splits]
        for split in splits:
            split["max_logit_error"] = (
                split["max_logit_error"] if isfinite(split["max_logit_error"]) else None
            )
        return {"splits": splits, "ok": self.is_ok}


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One input and what is asked about it; nothing where the model takes no prompt."""

    media: Media
    prompt: str


def make_questions(halves: Halves, chain: Chain, count: int, seed: int) -> list[Question]:
    """Made inputs of the chain's size, none of them traced, the first constant."""
    processing = halves.adapter.processing
    size = halves.encoders[chain.chain_id].size
    samples = made_samples(halves.adapter, chain.modality, count, seed)
    return [
        Question(fitted(media, size), PROMPTS[i % len(PROMPTS)] if processing.takes_prompt else "")
        for i, media in enumerate(samples)
    ]


def verify_halves(
    halves: Halves, num_inputs: int, num_tokens: int, progress: Report, seed: int = 1000
) -> Verification:
    """Every chain on made inputs; raises ModelFailed where features change no token."""
    total = sum(len(chain.split_points) for chain in halves.manifest.chains)
    splits: list[SplitResult] = []
    for chain in halves.manifest.chains:
        questions = make_questions(halves, chain, num_inputs, seed)
        for split in verify_chain(halves, chain, questions, num_tokens):
            splits.append(split)
            progress("verify", len(splits), total)
    return Verification(tuple(splits))


def verify_chain(
    halves: Halves, chain: Chain, questions: Sequence[Question], num_tokens: int
) -> Iterator[SplitResult]:
    """Compares at every split point of one chain; raises ModelFailed where features change no token."""
    references = [
        halves.whole([MediaInput(chain.modality, one.media)], one.prompt, num_tokens) for one in questions
    ]
    require_sensitive(halves, chain, questions, num_tokens)
    for point in chain.split_points:
        compared: list[Comparison] = []
        for question, reference in zip(questions, references, strict=True):
            encoded = halves.encoded(chain, question.media, point.index)
            compared.append(_compare(reference, halves.split([encoded], question.prompt, num_tokens)))
        yield _summarise(chain.chain_id, point.index, point.label, compared)


def _compare(reference: Generated, got: Generated) -> Comparison:
    if reference.tokens or got.tokens:
        return compare(reference.tokens, got.tokens, reference.logits, got.logits)
    error = float(np.abs(reference.logits - got.logits).max())
    return Comparison(error <= EMBEDDING_TOLERANCE, False, 0, error)


def _differs(left: Generated, right: Generated) -> bool:
    """Other tokens; of embeddings, other ones by much more than rounding."""
    if left.tokens or right.tokens:
        return left.tokens != right.tokens
    return float(np.abs(left.logits - right.logits).max()) > 100 * EMBEDDING_TOLERANCE


def require_sensitive(halves: Halves, chain: Chain, questions: Sequence[Question], num_tokens: int) -> None:
    """Equal tokens prove nothing of a model that answers the same whatever it sees; raises ModelFailed for one."""
    ends = [halves.encoded(chain, question.media, 0) for question in questions]
    zeroed, others = 0, 0
    for index, question in enumerate(questions):
        own, nothing, another = (
            halves.split([_with_tiles(ends[index], end)], question.prompt, num_tokens)
            for end in (ends[index], _zeroed(ends[index]), _fitting(ends, index))
        )
        zeroed += _differs(own, nothing)
        others += _differs(own, another)
    if not zeroed or not others:
        what = "zeroed features" if not zeroed else "another input's features"
        raise ModelFailed(
            f"{what} change no token of {len(questions)} answers, so comparing tokens would prove nothing; give "
            "inputs and questions whose answers depend on the input"
        )


def _with_tiles(own: Encoded, other: Encoded) -> Encoded:
    return Encoded(own.encoder, other.tiles, own.size)


def _zeroed(encoded: Encoded) -> Encoded:
    tiles = [[torch.zeros_like(tensor) for tensor in tile] for tile in encoded.tiles]
    return Encoded(encoded.encoder, tiles, encoded.size)


def _fitting(ends: Sequence[Encoded], index: int) -> Encoded:
    """Of the others, the next with as many tiles; its own where there is none."""
    others = [*ends[index + 1 :], *ends[:index]]
    return next((one for one in others if len(one.tiles) == len(ends[index].tiles)), ends[index])


def _summarise(chain: str, split_point: int, label: str, compared: Sequence[Comparison]) -> SplitResult:
    return SplitResult(
        chain=chain,
        split_point=split_point,
        label=label,
        num_inputs=len(compared),
        num_equal=sum(one.is_equal for one in compared),
        num_ties=sum(one.is_tie for one in compared),
        num_tokens=sum(one.num_tokens for one in compared),
        max_logit_error=max(one.max_logit_error for one in compared),
    )


def verify_and_print(bundle: Path, model: str, num_inputs: int, num_tokens: int, *, as_json: bool) -> bool:
    """`cleave verify`: True where every split point gives the whole model's tokens."""
    with progress_bars() as progress:
        halves = load_halves(bundle, model)
        result = verify_halves(halves, num_inputs, num_tokens, progress, seed=2000)
    if as_json:
        print(json.dumps(result.to_dict()))
    else:
        print_verification(result)
    return result.is_ok


def load_halves(bundle: Path, model: str) -> Halves:
    """Both halves of a bundle on disk; raises IncompatibleBundle where it was made of other weights."""
    manifest, _ = open_bundle(bundle)
    adapter = adapter_for(load(resolve_model(model)))
    encoders = trace_bundle(manifest, adapter, bundle)
    return Halves(adapter, encoders, manifest, make_heads(bundle, manifest), bundle)


def print_verification(result: Verification) -> None:
    """One table per chain."""
    for chain in dict.fromkeys(split.chain for split in result.splits):
        rows = [
            (s.split_point, s.label, s.num_inputs, s.num_equal, s.num_ties, s.num_tokens, f"{s.max_logit_error:.2g}",
             "ok" if s.is_ok else "DIFFERS")
            for s in result.splits
            if s.chain == chain
        ]  # fmt: skip
        columns = ("split", "label", "inputs", "equal", "ties", "tokens", "largest logit error", "")
        print_table(f"{chain}: head + tail against the whole, lossless codec", columns, rows)
    print(
        "head + tail gives the whole model's tokens"
        if result.is_ok
        else "head + tail DIFFERS from the whole model"
    )
