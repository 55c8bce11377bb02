"""Which split points a graph has: where few tensors are live, both ends, one per amount of work, well labelled."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.splitmodel.encoders import (
    WIDTH,
    Accumulating,
    Mlp,
    Residual,
    Skip,
    TwoInputs,
    WithGrid,
    example,
    labels,
    make_chain,
)


def test_plain_layers_may_be_cut_after_every_operator() -> None:
    assert labels(make_chain(Mlp(2))) == ["input", "layers.0", "layers.0:relu", "layers.1", "output"]


def test_residual_block_is_cut_at_its_ends_and_not_inside() -> None:
    chain = make_chain(Residual(3))
    assert labels(chain) == ["input", "blocks.0", "blocks.1", "output"]
    assert all(len(point.tensors) == 1 for point in chain.split_points)


@pytest.mark.parametrize("depth", [1, 2, 5, 9])
def test_number_of_split_points_grows_with_depth(depth: int) -> None:
    assert make_chain(Residual(depth)).num_stages == depth
    assert make_chain(Mlp(depth)).num_stages == 2 * depth


def test_skip_connection_is_not_cut_while_it_is_open() -> None:
    assert labels(make_chain(Skip())) == ["input", "down", "block:cat", "up", "output"]


def test_accumulating_outputs_cross_every_later_split_point() -> None:
    chain = make_chain(Accumulating(3))
    assert labels(chain) == ["input", "blocks.0", "blocks.1", "blocks.2", "output"]
    assert [len(point.tensors) for point in chain.split_points] == [1, 1, 2, 3, 4]
    crossing = [[spec.name for spec in point.tensors] for point in chain.split_points]
    assert set(crossing[2]) - {"blocks.1/1"} <= set(crossing[3]), "a tensor keeps its name while it is live"


def test_point_with_more_than_four_live_tensors_is_no_split_point() -> None:
    chain = make_chain(Accumulating(7))
    assert labels(chain)[-3:] == ["blocks.2", "blocks.3", "output"]
    assert len(chain.split_points[-1].tensors) == 8, "the end stays, however many tensors it has"


def test_constants_do_not_count_as_live() -> None:
    chain = make_chain(WithGrid(3))
    assert all(len(point.tensors) == 1 for point in chain.split_points)
    assert labels(chain)[1:4] == ["body.blocks.0", "body.blocks.0:add", "body.blocks.1"]


def test_constant_output_crosses_nothing_and_still_comes_back() -> None:
    class ConstantOutput(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [torch.arange(3.0), torch.exp(x), 2 * torch.ones(2)]

    chain = make_chain(ConstantOutput())
    assert [len(point.tensors) for point in chain.split_points] == [1, 1]
    grid, values, twos = chain.outputs_in_order(chain.run([example()], 0))
    assert torch.equal(grid, torch.arange(3.0))
    assert torch.equal(twos, torch.tensor([2.0, 2.0]))
    assert torch.equal(values, torch.exp(example()))


def test_points_without_arithmetic_between_them_collapse_to_the_smallest() -> None:
    class Pooled(nn.Module):
        """Drops two of three tokens between two layers: cheaper to send, for no work."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> list[Tensor]:
            return [self.last(self.first(x)[:, :1].transpose(0, 1).reshape(1, WIDTH))]

    chain = make_chain(Pooled())
    assert chain.num_stages == 2
    assert chain.split_points[1].num_bytes == WIDTH * 4


def test_both_ends_stay_even_where_a_smaller_point_is_free() -> None:
    class Sliced(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [torch.exp(x[:, :1])]

    chain = make_chain(Sliced())
    assert labels(chain) == ["input", "output"]
    assert chain.split_points[0].tensors[0].shape == (1, 3, WIDTH)


def test_both_inputs_cross_the_first_split_point_under_their_names() -> None:
    chain = make_chain(TwoInputs(), [example(0), example(1)])
    assert [spec.name for spec in chain.split_points[0].tensors] == ["input_0", "input_1"]
    assert labels(chain) == ["input", "right:mul", "both", "both:tanh", "output"]


def test_module_that_is_called_twice_gives_two_labels() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> list[Tensor]:
            return [torch.exp(self.layer(self.layer(x)))]

    assert labels(make_chain(Twice())) == ["input", "layer", "layer#2", "output"]


def test_encoder_that_hands_its_input_on_has_two_equal_ends() -> None:
    class Identity(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x]

    chain = make_chain(Identity())
    assert labels(chain) == ["input", "output"]
    assert torch.equal(chain.run([example()], 0)[0], example())
