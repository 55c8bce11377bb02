"""What a split point costs: counted by hand for small encoders."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from partitioner.sizing import PointCost, chain_costs, choose, peak_bytes
from tests.splitmodel.encoders import WIDTH, Mlp, Residual, make_chain

_ROW = 3 * WIDTH * 4  # bytes of one tensor between the stages


def test_head_bytes_are_those_of_the_weights_before_the_split_point() -> None:
    costs = chain_costs(make_chain(Mlp(3)))
    layer = WIDTH * WIDTH + WIDTH
    assert costs[0].head_bytes == 0
    assert costs[-1].head_parameters == 3 * layer
    assert costs[-1].head_bytes == 4 * 3 * layer
    assert sorted(cost.head_bytes for cost in costs) == [cost.head_bytes for cost in costs]


def test_a_weight_that_two_stages_share_is_counted_once() -> None:
    encoder = Mlp(2)
    encoder.layers[1] = encoder.layers[0]
    assert chain_costs(make_chain(encoder))[-1].head_parameters == WIDTH * WIDTH + WIDTH


def test_features_are_those_of_all_tiles() -> None:
    one, four = (chain_costs(make_chain(Mlp(2)), tiles)[1].feature_bytes for tiles in (1, 4))
    assert one == {"raw": _ROW, "fp16": _ROW // 2, "int8": _ROW // 4 + 4 * WIDTH}
    assert four == {codec: 4 * size for codec, size in one.items()}


def test_activations_are_what_lives_at_once() -> None:
    """Between its two products a residual block holds its input, what was made of that, and what is being made."""
    [block] = [stage for stage in make_chain(Residual(1)).stages if len(list(stage.graph.nodes)) > 4][:1]
    assert peak_bytes(block) == 3 * _ROW


def test_attention_holds_its_scores_twice() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [torch.nn.functional.scaled_dot_product_attention(x, x, x)]

    queries = torch.randn(1, 2, 50, 4)
    [stage] = make_chain(Attention(), [queries]).stages
    assert peak_bytes(stage) == 4 * (2 * 2 * 50 * 50 + 2 * queries.numel())


@pytest.mark.parametrize(("memory", "best", "deepest"), [(500, 2, 3), (350, 1, 1), (10, 0, 0)])
def test_the_best_split_point_that_fits_sends_least_and_holds_least(
    memory: int, best: int, deepest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("partitioner.sizing.RUNTIME_BYTES", 100)
    monkeypatch.setattr("partitioner.sizing.LOADED_WEIGHT", 1)
    points = [
        PointCost(index, "", {"int8": sent}, 0, held, 0)
        for index, (sent, held) in enumerate([(90, 0), (80, 200), (40, 300), (40, 400)])
    ]
    choice = choose(points, memory)
    assert (choice.best.index, choice.deepest.index) == (best, deepest)
