"""Many inputs through one chain together give what each gives alone, wherever each enters."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cloud_node.model.runner import ModelRunner
from cloud_node.model.serving import serve
from cloud_node.model.tails import Tail
from splitmodel.batching import BatchedChain, Entry
from splitmodel.chain import Chain
from splitmodel.loading import load
from splitmodel.tensors import relative_error
from tests.kit.generations import Asked, Driven
from tests.splitmodel.encoders import (
    WIDTH,
    Accumulating,
    Residual,
    Skip,
    TwoInputs,
    WithGrid,
    example,
    make_chain,
)
from tests.splitmodel.families import make_family
from wire.errors import CleaveError

TOLERANCE = 1e-5


class Picking(nn.Module):
    """Takes as many numbers as its input says, and no batch has one shape then."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = torch.tanh(self.first(x))
        biggest = torch.where(x > x.mean(), x, torch.zeros_like(x))
        kept = biggest.nonzero()[:2, -1:].float().sum().expand(1, 3, WIDTH)
        return [self.second(x + kept)]


class Drawing(nn.Module):
    """Draws at random, which is not the same for a batch as for one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.end = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.end(x + torch.bernoulli(torch.sigmoid(x)))]


def like(tensors: Sequence[Tensor], seed: int) -> list[Tensor]:
    """Other inputs of the same shapes; one in three is constant."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.full_like(tensor, 0.25 * seed)
        if seed % 3 == 0
        else torch.randn(tensor.shape, generator=generator)
        for tensor in tensors
    ]


def require_equal_to_one_by_one(chain: Chain, inputs: Sequence[Tensor], split_points: Sequence[int]) -> None:
    batched = BatchedChain(chain, inputs)
    heads = [chain.run(like(inputs, seed), 0, split_point) for seed, split_point in enumerate(split_points)]
    entries = [Entry(at, list(head)) for at, head in zip(split_points, heads, strict=True)]
    batched.run(entries)
    for entry, head in zip(entries, heads, strict=True):
        alone = chain.run(head, entry.split_point)
        assert [tensor.shape for tensor in entry.tensors] == [tensor.shape for tensor in alone]
        for ours, reference in zip(entry.tensors, alone, strict=True):
            assert relative_error([ours], [reference]) < TOLERANCE
    ends = [entry.tensors[-1] for entry in entries]
    assert not any(torch.equal(ends[0], other) for other in ends[1:]), "the chain ignores its input"


def all_points_twice(chain: Chain) -> list[int]:
    points = [*range(chain.num_stages + 1)] * 2
    random.Random(0).shuffle(points)
    return points


@pytest.mark.parametrize(
    "encoder", [Residual(4), Skip(), Accumulating(3), WithGrid(3)], ids=lambda encoder: type(encoder).__name__
)
def test_mixed_split_points_together_are_as_each_alone(encoder: nn.Module) -> None:
    chain = make_chain(encoder)
    assert BatchedChain(chain, [example()]).batching == "vmap"
    require_equal_to_one_by_one(chain, [example()], all_points_twice(chain))


def test_several_inputs_of_a_chain_together_are_as_each_alone() -> None:
    inputs = [example(0), example(1)]
    chain = make_chain(TwoInputs(), inputs)
    require_equal_to_one_by_one(chain, inputs, all_points_twice(chain))


@pytest.mark.parametrize("split_points", [[0], [9, 9, 9], [0, 0, 0], [9, 0], [0, 9, 4]])
def test_batches_of_every_make_up_are_as_each_alone(split_points: list[int]) -> None:
    chain = make_chain(Residual(4))
    last = chain.num_stages
    require_equal_to_one_by_one(chain, [example()], [min(point, last) for point in split_points])


@pytest.mark.parametrize("encoder", [Picking(), Drawing()], ids=lambda encoder: type(encoder).__name__)
def test_chain_that_vmap_does_not_take_runs_one_by_one(encoder: nn.Module) -> None:
    chain = make_chain(encoder)
    batched = BatchedChain(chain, [example()])
    assert batched.batching == "one by one"


def test_one_by_one_gives_every_entry_its_own() -> None:
    chain = make_chain(Picking())
    require_equal_to_one_by_one(chain, [example()], all_points_twice(chain))


def test_entries_keep_their_order_and_their_split_points() -> None:
    chain = make_chain(Residual(3))
    entries = [Entry(at, chain.run([example(at)], 0, at)) for at in (2, 0, 3, 1)]
    before = list(entries)
    BatchedChain(chain, [example()]).run(entries)
    assert all(one is other for one, other in zip(entries, before, strict=True))
    assert [entry.split_point for entry in entries] == [2, 0, 3, 1]
    for entry in entries:
        assert relative_error(entry.tensors, chain.run([example(entry.split_point)], 0)) < TOLERANCE


def test_no_entries_are_no_work() -> None:
    chain = make_chain(Residual(2))
    BatchedChain(chain, [example()]).run([])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vipllava", "qwen2_5_vl", "got_ocr2"])
def test_families_tails_together_are_as_each_alone(family: str) -> None:
    adapter, tensors = make_family(family)
    chain = adapter.trace_encoder("image", Image.new("RGB", (8, 8))).chain
    assert any(len(point.tensors) > 1 for point in chain.split_points)
    inputs = [tensors["pixel_values"]]
    require_equal_to_one_by_one(chain, inputs, all_points_twice(chain)[:8])


@pytest.fixture(scope="module")
def runner(tiny_checkpoint: Path, tiny_bundle: Path) -> ModelRunner:
    made = serve(load(str(tiny_checkpoint)), tiny_bundle)[1]
    assert isinstance(made, ModelRunner)
    return made


def tail_of(runner: ModelRunner) -> Tail:
    """Its only chain's."""
    [tail] = runner.preparer.tails.by_id.values()
    return tail


@pytest.mark.slow
def test_served_tails_together_are_as_each_alone(runner: ModelRunner) -> None:
    tail = tail_of(runner)
    assert tail.batched.batching == "vmap"
    picture = Image.new("RGB", (48, 48), (9, 90, 200))
    [inputs] = runner.preparer.adapter.boundary_input(tail.encoder, picture)
    require_equal_to_one_by_one(tail.encoder.chain, inputs, all_points_twice(tail.encoder.chain))


def asked_of_many(runner: ModelRunner) -> list[Asked]:
    colours = [(200, 30, 90), (10, 200, 60), (0, 0, 255)]
    return [
        Asked(runner, Image.new("RGB", (48, 48), colour), split=3 * at, codec="raw+zstd")
        for at, colour in enumerate(colours)
    ]


@pytest.mark.slow
def test_payload_that_does_not_decode_fails_its_own_request_only(runner: ModelRunner) -> None:
    expected = asked_of_many(runner)
    driven = Driven(runner)
    driven.submit(*expected)
    driven.finish()
    asked = asked_of_many(runner)
    corrupt = asked[1].sequence
    broken = bytes(len(corrupt.payloads[0]))
    corrupt.payloads = (memoryview(broken),)
    item = replace(corrupt.request.inputs[0], crc32=crc32(broken))
    corrupt.request = replace(corrupt.request, inputs=(item,))
    driven.submit(*asked)
    driven.finish()
    assert isinstance(asked[1].end, CleaveError)
    for at in (0, 2):
        assert asked[at].token_ids == expected[at].token_ids


@pytest.mark.slow
def test_tail_that_raises_for_one_fails_its_own_request_only(
    runner: ModelRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch of tails fails as a whole; each is then run alone."""
    expected = asked_of_many(runner)
    driven = Driven(runner)
    driven.submit(*expected)
    driven.finish()
    asked = asked_of_many(runner)
    tail = tail_of(runner)
    original = tail.encoder.chain.run

    def run(tensors: Sequence[Tensor], start: int, stop: int | None = None) -> list[Tensor]:
        if start == 3 and stop is None:
            raise CleaveError("no memory for this tail")
        return original(tensors, start, stop)

    def fail(entries: Sequence[Entry]) -> None:
        entries[0].tensors = []
        raise RuntimeError("no memory for all tails")

    monkeypatch.setattr(tail.encoder.chain, "run", run)
    monkeypatch.setattr(tail.batched, "run", fail)
    driven.submit(*asked)
    driven.finish()
    assert isinstance(asked[1].end, CleaveError)
    for at in (0, 2):
        assert asked[at].token_ids == expected[at].token_ids
