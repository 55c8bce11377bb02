"""Encoders of every family of the zoo: traced, cut at every layer, and head and tail are bit-equal to the whole."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import torch

from splitmodel.chain import Chain
from splitmodel.trace import trace
from tests.kit.zoo import ALL, EncoderCase, checkpoint_folder, encoder_case, load, modalities

CASES = [(name, modality) for name in ALL for modality in modalities(name)]


@cache
def traced(name: str, modality: str) -> tuple[EncoderCase, Chain]:
    model, processor = load(checkpoint_folder(name))
    model.requires_grad_(False)
    case = encoder_case(name, model, processor, modality)
    return case, Chain(trace(case.run, list(case.one.values()), model), list(case.one))


def constants(case: EncoderCase) -> list[torch.Tensor]:
    return [torch.full_like(x, 0.25) if x.is_floating_point() else x for x in case.one.values()]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "modality"), CASES)
def test_head_and_tail_are_bit_equal_to_the_whole_encoder(name: str, modality: str) -> None:
    case, chain = traced(name, modality)
    references = []
    for inputs in (list(case.one.values()), list(case.other.values()), constants(case)):
        reference = case.run(*inputs)
        references.append(reference)
        for split_point in range(chain.num_stages + 1):
            ended = chain.run(chain.run(inputs, 0, split_point), split_point)
            pairs = zip(chain.outputs_in_order(ended), reference, strict=True)
            assert all(torch.equal(left, right) for left, right in pairs), split_point
    assert not torch.equal(references[0][0], references[1][0]), "the encoder ignores its input"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "modality"), CASES)
def test_every_layer_ends_at_a_split_point_that_few_tensors_cross(name: str, modality: str) -> None:
    _, chain = traced(name, modality)
    points = chain.split_points
    assert len({point.label for point in points}) == len(points)
    assert all(1 <= len(point.tensors) <= 4 for point in points)
    layers = {found[0] for point in points if (found := re.search(r"(layers?|blocks)\.\d+", point.label))}
    assert len(layers) >= 2, "models have three layers or more; the last may be named by what ends with it"


@pytest.mark.slow
def test_guard_says_whether_a_tile_is_padding() -> None:
    case, chain = traced("smolvlm", "image")
    assert chain.guard is not None
    pixels: Any = case.other["pixel_values"]
    assert chain.guard.holds([pixels])
    padded = pixels.clone()
    padded[0, -1] = 0
    assert not chain.guard.holds([padded])


@pytest.mark.slow
def test_only_encoders_that_look_for_padding_have_a_guard() -> None:
    assert [case for case in CASES if traced(*case)[1].guard is not None] == [("smolvlm", "image")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip", "siglip", "clap"])
def test_one_chain_takes_texts_of_every_length(name: str) -> None:
    """Masks are inputs: a text as long as they come is no other case than a short one."""
    case, chain = traced(name, "text")
    ids = case.one["input_ids"]
    generator = torch.Generator().manual_seed(0)
    for length in (1, 9, ids.shape[1]):
        words = torch.randint(5, 300, (1, length - 1), generator=generator)
        text = torch.cat(
            [words, torch.tensor([[2]]), torch.zeros(1, ids.shape[1] - length, dtype=torch.int64)], 1
        )
        given = {"input_ids": text, "attention_mask": (torch.arange(ids.shape[1])[None] < length).long()}
        inputs = [given[key] for key in case.one]
        (ended,) = chain.outputs_in_order(chain.run(inputs, 0))
        assert torch.allclose(ended, case.run(*inputs)[0], atol=1e-5), length
