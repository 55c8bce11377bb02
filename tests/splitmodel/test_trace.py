"""Tracing: constants are folded with their values, in-place writes that matter are refused, spans name modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from splitmodel.trace import Trace, trace
from tests.splitmodel.encoders import Residual, WithGrid, example
from wire.errors import BadInput


def traced(encoder: nn.Module) -> Trace:
    encoder.eval().requires_grad_(False)
    return trace(encoder, [example()], encoder)


class _Writes(nn.Module):
    """Runs `write(x, own)`, where `own` is a buffer of the module."""

    def __init__(self, write: object) -> None:
        super().__init__()
        self.write = write
        self.register_buffer("own", torch.ones(8))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.write(x, self.own)]  # type: ignore[operator]


def test_folding_constants_keeps_their_values() -> None:
    encoder = WithGrid(2)
    untraced = example(seed=5)
    (result,) = traced(encoder).module(untraced)
    assert torch.equal(result, encoder(untraced)[0])


def test_folded_graph_computes_no_constant() -> None:
    graph = traced(WithGrid(2)).module.graph
    calls = [node for node in graph.nodes if node.op == "call_function"]
    assert all(any(source.op != "get_attr" for source in node.all_input_nodes) for node in calls)
    assert all(node.users for node in graph.nodes if node.op == "get_attr")


def test_weights_are_shared_and_not_copied() -> None:
    encoder = Residual(1)
    result = traced(encoder).module
    held = {tensor.data_ptr() for tensor in [*result.parameters(), *result.buffers()]}
    assert {weight.data_ptr() for weight in encoder.parameters()} <= held


def test_constant_built_in_place_is_folded() -> None:
    def write(x: Tensor, own: Tensor) -> Tensor:
        grid = torch.zeros(8)
        grid[2:4] = 1
        grid.add_(own).detach_()
        return x + grid

    (result,) = traced(_Writes(write)).module(torch.zeros(1, 3, 8))
    assert torch.equal(result[0, 0], torch.tensor([1.0, 1, 2, 2, 1, 1, 1, 1]))


def test_write_into_features_is_refused() -> None:
    def write(x: Tensor, own: Tensor) -> Tensor:
        return torch.relu_(x * 2) + own

    with pytest.raises(BadInput, match=r"writes into a tensor in place \(aten\.relu_"):
        traced(_Writes(write))


def test_write_of_features_into_a_constant_is_refused() -> None:
    def write(x: Tensor, own: Tensor) -> Tensor:
        grid = torch.zeros(1, 3, 8)
        grid[:, 1:] = x[:, 1:]
        return grid + own

    with pytest.raises(BadInput, match="writes into a tensor in place"):
        traced(_Writes(write))


def test_write_into_a_weight_is_refused() -> None:
    def write(x: Tensor, own: Tensor) -> Tensor:
        return x + own.add_(1)

    with pytest.raises(BadInput, match="writes in place into a weight, or a constant that it has read"):
        traced(_Writes(write))


def test_write_into_a_constant_that_was_read_is_refused() -> None:
    def write(x: Tensor, own: Tensor) -> Tensor:
        grid = torch.zeros(8)
        before = x * grid
        grid.add_(own)
        return before + x * grid

    with pytest.raises(BadInput, match="a constant that it has read"):
        traced(_Writes(write))


def test_branch_on_the_features_is_refused_in_one_sentence() -> None:
    def branch(x: Tensor, own: Tensor) -> Tensor:
        return x + own if float(x.sum()) > 0 else x

    with pytest.raises(BadInput, match=r"^the encoder cannot be traced: [^\n]*; use another model$"):
        traced(_Writes(branch))


@pytest.mark.parametrize("error", [ValueError, TypeError, IndexError, RuntimeError])
def test_refusal_of_the_models_own_is_refused_in_one_sentence(error: type[Exception]) -> None:
    def refuse(x: Tensor, own: Tensor) -> Tensor:
        raise error("Input size (64*64) doesn't match\nmodel (48*48).")

    sentence = (
        r"^the encoder cannot be traced: Input size \(64\*64\) doesn't match model \(48\*48\); use another"
    )
    with pytest.raises(BadInput, match=sentence):
        traced(_Writes(refuse))


def test_spans_hold_the_nodes_that_their_module_made() -> None:
    result = traced(Residual(2))
    spans = {span.name: span for span in result.spans}
    outer, inner = spans["blocks.1"], spans["blocks.1.second"]
    assert outer.start < inner.start < inner.stop < outer.stop
    assert spans["blocks.0"].stop <= outer.start
    made = [name for name, ordinal in result.ordinals.items() if inner.start <= ordinal < inner.stop]
    assert any("linear" in name for name in made)


def test_hooks_are_gone_after_tracing_even_where_it_fails() -> None:
    encoder = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True))
    for _ in range(2):
        with pytest.raises(BadInput):
            trace(lambda x: [encoder(x)], [example()], encoder)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in encoder.modules())


class _DropsPadding(nn.Module):
    """Rows that are all zero are padding, and left out: as encoders of several tiles do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> list[Tensor]:
        real = (x[0] == 0.0).sum(-1) != 8
        real[0] |= ~torch.any(real)
        counts = real.sum()[None].tolist()
        return list(torch.split(torch.tanh(self.layer(x[0][real])), counts))


def test_what_padding_is_may_decide_and_the_guard_says_for_which_inputs() -> None:
    encoder = _DropsPadding().eval().requires_grad_(False)
    result = trace(encoder, [example()], encoder)
    untraced = example(seed=5)
    assert torch.equal(result.module(untraced)[0], encoder(untraced)[0])
    assert result.guard is not None
    assert result.guard.holds([untraced])
    padded = untraced.clone()
    padded[0, 1] = 0
    assert not result.guard.holds([padded])


def test_number_out_of_a_constant_is_a_constant() -> None:
    def write(x: Tensor, own: Tensor) -> Tensor:
        grid = torch.arange(1, 4)
        parts = torch.split(x, [1] * int(grid[2]), dim=1)
        lengths = (grid // 3 + 1).tolist()
        return torch.cat([part * length for part, length in zip(parts, lengths, strict=True)], dim=1) + own

    result = traced(_Writes(write))
    assert result.guard is None
    untraced = example(seed=5)
    assert torch.equal(result.module(untraced)[0], write(untraced, torch.ones(8)))


@pytest.mark.parametrize("read", [Tensor.tolist, lambda x: x.numpy().copy(), lambda x: [float(y) for y in x]])
def test_numbers_out_of_the_input_are_refused_however_they_are_read(read: Callable[[Tensor], Any]) -> None:
    def write(x: Tensor, own: Tensor) -> Tensor:
        return x * torch.tensor(read(x[0, 0]))

    with pytest.raises(BadInput, match=r"^the encoder cannot be traced: [^\n]*; use another model$"):
        traced(_Writes(write))


def test_constant_mask_picks_rows_of_a_known_number() -> None:
    def write(x: Tensor, own: Tensor) -> Tensor:
        return torch.relu(x)[torch.arange(3)[None] != 1] + own

    result = traced(_Writes(write))
    picks = [node for node in result.module.graph.nodes if "index" in str(node.target)]
    assert all(getattr(result.module, str(rows.target)).dtype == torch.int64 for rows in picks[0].args[1])
    untraced = example(seed=5)
    assert torch.equal(result.module(untraced)[0], write(untraced, torch.ones(8)))


def test_mask_that_happens_to_be_all_ones_is_still_read() -> None:
    """Models that ask whether they are compiled take no short cut for it."""

    def forward(x: Tensor, mask: Tensor) -> list[Tensor]:
        whole = not torch.compiler.is_compiling() and bool(mask.all())
        return [x if whole else x * mask[..., None]]

    root = nn.Linear(8, 8)
    result = trace(forward, [example(), torch.ones(1, 3, dtype=torch.int64)], root)
    half = torch.tensor([[1, 0, 1]])
    assert torch.equal(result.module(example(), half)[0], example() * half[..., None])
