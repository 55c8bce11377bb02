"""Head + tail against the whole: both halves in one process, joined by the bytes that would cross the network.

The comparison must be able to fail: before anything is compared, zeroed features and another picture's features
have to change the tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cleave.assets import resolve_model
from cleave.terminal import Report, print_table, progress_bars
from cloud_node.serving import serve
from edge_node.head import Head
from edge_node.preprocess import preprocess
from partitioner.partition import Partitioned
from partitioner.pictures import made_pictures
from splitmodel.adapters.generator import Encoder, GeneratorWithEncoders
from splitmodel.equality import MAX_TIES_PER_TOKEN, Comparison, compare
from splitmodel.loading import load
from splitmodel.tensors import from_numpy
from wire.codecs import decode, encode, parse_codec
from wire.errors import ModelFailed
from wire.manifest import Manifest

PROMPTS = ("What is this?", "Describe the picture.", "Where is it, and what colour?")


@dataclass(frozen=True, slots=True)
class SplitResult:
    """One split point over all inputs."""

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


@dataclass(frozen=True, slots=True)
class Halves:
    """A model in both halves, and whole."""

    adapter: GeneratorWithEncoders
    encoder: Encoder
    manifest: Manifest
    head: Head

    def head_features(self, picture: Image.Image, split_point: int) -> list[torch.Tensor]:
        """Device's preprocessing and head, the lossless codec's bytes, and what the cloud decodes from them."""
        specs = self.encoder.chain.split_points[split_point].tensors
        arrays = self.head.run(preprocess(self.manifest.preprocessing, picture), split_point)
        codec = parse_codec("raw")
        payloads = encode(codec, arrays, specs)
        sizes = [len(payload) for payload in payloads]
        decoded = decode(codec, memoryview(b"".join(payloads)), sizes, specs)
        return [from_numpy(array, spec) for array, spec in zip(decoded, specs, strict=True)]

    def split(self, picture: Image.Image, prompt: str, split_point: int, num_tokens: int) -> Generated:
        features = self.encoder.chain.run(self.head_features(picture, split_point), split_point)
        return self.generate_from(features, picture, prompt, num_tokens)

    def generate_from(
        self, features: Sequence[torch.Tensor], picture: Image.Image, prompt: str, num_tokens: int
    ) -> Generated:
        inputs = self.adapter.split_inputs(self.encoder, features, prompt, picture.width, picture.height)
        return _generate(self.adapter, inputs, num_tokens)

    def whole(self, picture: Image.Image, prompt: str, num_tokens: int) -> Generated:
        return _generate(self.adapter, self.adapter.whole_inputs(prompt, picture), num_tokens)


@dataclass(frozen=True, slots=True)
class Generated:
    """Greedy tokens and the logits that chose them."""

    tokens: list[int]
    logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]]  # [tokens, vocabulary]


def verify_halves(made: Partitioned, num_inputs: int, num_tokens: int, progress: Report) -> Verification:
    """Verifies a bundle that was just made, with the model that it was made of."""
    head = Head(made.folder, made.manifest.chains[0])
    halves = Halves(made.adapter, made.encoder, made.manifest, head)
    pictures = made_pictures(num_inputs, seed=1000)
    questions = [(picture, PROMPTS[i % len(PROMPTS)]) for i, picture in enumerate(pictures)]
    return verify_on(halves, questions, num_tokens, progress)


def verify_on(
    halves: Halves, questions: Sequence[tuple[Image.Image, str]], num_tokens: int, progress: Report
) -> Verification:
    """Compares on these pictures and prompts; raises ModelFailed where features change no token."""
    references = [halves.whole(picture, prompt, num_tokens) for picture, prompt in questions]
    _require_sensitive(halves, questions, num_tokens)
    points = halves.encoder.chain.split_points
    results = []
    for point in points:
        compared: list[Comparison] = []
        for (picture, prompt), reference in zip(questions, references, strict=True):
            got = halves.split(picture, prompt, point.index, num_tokens)
            compared.append(compare(reference.tokens, got.tokens, reference.logits, got.logits))
        results.append(_summarise(point.index, point.label, compared))
        progress("verify", point.index + 1, len(points))
    return Verification(tuple(results))


def _require_sensitive(halves: Halves, questions: Sequence[tuple[Image.Image, str]], num_tokens: int) -> None:
    """Equal tokens prove nothing of a model that answers the same whatever it sees."""
    ends = [halves.encoder.chain.run(halves.head_features(picture, 0), 0) for picture, _ in questions]
    zeroed, others = 0, 0
    for index, (picture, prompt) in enumerate(questions):
        own = halves.generate_from(ends[index], picture, prompt, num_tokens)
        nothing = [torch.zeros_like(tensor) for tensor in ends[index]]
        zeroed += halves.generate_from(nothing, picture, prompt, num_tokens).tokens != own.tokens
        another = ends[(index + 1) % len(ends)]
        others += halves.generate_from(another, picture, prompt, num_tokens).tokens != own.tokens
    if not zeroed or not others:
        what = "zeroed features" if not zeroed else "another picture's features"
        raise ModelFailed(
            f"{what} change no token of {len(questions)} answers, so comparing tokens would prove nothing; give "
            "pictures and questions whose answers depend on the picture"
        )


def _summarise(split_point: int, label: str, compared: Sequence[Comparison]) -> SplitResult:
    return SplitResult(
        split_point=split_point,
        label=label,
        num_inputs=len(compared),
        num_equal=sum(one.is_equal for one in compared),
        num_ties=sum(one.is_tie for one in compared),
        num_tokens=sum(one.num_tokens for one in compared),
        max_logit_error=max(one.max_logit_error for one in compared),
    )


def _generate(adapter: GeneratorWithEncoders, inputs: Mapping[str, Any], num_tokens: int) -> Generated:
    prompt_tokens = inputs["input_ids"].shape[1]
    output = adapter.generate(
        inputs, max_new_tokens=num_tokens, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    tokens = output.sequences[0, prompt_tokens:].tolist()
    return Generated(tokens, torch.stack([row[0].float() for row in output.logits]).cpu().numpy())


def verify_and_print(bundle: Path, model: str, num_inputs: int, num_tokens: int, *, as_json: bool) -> bool:
    """`cleave verify`: True where every split point gives the whole model's tokens."""
    served, runner = serve(load(resolve_model(model)), bundle)
    halves = Halves(
        runner.preparer.adapter, runner.preparer.encoder, served.manifest, Head(bundle, served.chain)
    )
    pictures = made_pictures(num_inputs, seed=2000)
    questions = [(picture, PROMPTS[i % len(PROMPTS)]) for i, picture in enumerate(pictures)]
    with progress_bars() as progress:
        result = verify_on(halves, questions, num_tokens, progress)
    if as_json:
        print(json.dumps(result.to_dict()))
    else:
        print_verification(result)
    return result.is_ok


def print_verification(result: Verification) -> None:
    rows = [
        (s.split_point, s.label, s.num_inputs, s.num_equal, s.num_ties, s.num_tokens, f"{s.max_logit_error:.2g}",
         "ok" if s.is_ok else "DIFFERS")
        for s in result.splits
    ]  # fmt: skip
    columns = ("split", "label", "inputs", "equal", "ties", "tokens", "largest logit error", "")
    print_table("head + tail against the whole, lossless codec", columns, rows)
    print(
        "head + tail gives the whole model's tokens"
        if result.is_ok
        else "head + tail DIFFERS from the whole model"
    )
