"""Chains: head and tail are bit-equal to the whole encoder at every split point, on models of several shapes."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn

from partitioner.pictures import made_pictures
from splitmodel.adapters.generator import Generator
from splitmodel.encoder import Encoder
from tests.kit.shapes import SHAPES, checkpoint
from tests.splitmodel.encoders import (
    Accumulating,
    Mlp,
    Residual,
    Skip,
    TwoInputs,
    WithGrid,
    example,
    make_chain,
)

_ENCODERS = [Mlp(3), Residual(3), Skip(), Accumulating(3), WithGrid(2), TwoInputs()]


@cache
def traced(shape: str) -> tuple[Generator, Encoder]:
    adapter = Generator(checkpoint(shape))
    return adapter, adapter.trace_encoder("image", made_pictures(2)[1])


@pytest.mark.parametrize("encoder", _ENCODERS, ids=lambda encoder: type(encoder).__name__)
def test_small_encoders_are_bit_equal_at_every_split_point(encoder: nn.Module) -> None:
    count = 2 if isinstance(encoder, TwoInputs) else 1
    chain = make_chain(encoder, [example(seed) for seed in range(count)])
    untraced = [example(seed + 10) for seed in range(count)]
    reference = encoder(*untraced)
    for split_point in range(chain.num_stages + 1):
        features = chain.run(untraced, 0, split_point)
        specs = chain.split_points[split_point].tensors
        assert [tuple(tensor.shape) for tensor in features] == [spec.shape for spec in specs]
        ended = chain.outputs_in_order(chain.run(features, split_point))
        assert all(torch.equal(left, right) for left, right in zip(ended, reference, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_llava_class_models_are_bit_equal_at_every_split_point(shape: str) -> None:
    adapter, encoder = traced(shape)
    chain = encoder.chain
    for picture in made_pictures(4, seed=50):
        [pixels] = adapter.boundary_input(encoder, picture)
        with torch.no_grad():
            reference: Tensor = adapter.model.get_image_features(pixels[0], return_dict=True).pooler_output[0]
        for split_point in range(chain.num_stages + 1):
            ended = chain.run(chain.run(pixels, 0, split_point), split_point)
            assert torch.equal(chain.outputs_in_order(ended)[0].reshape(reference.shape), reference), (
                split_point
            )


@pytest.mark.slow
def test_deeper_towers_have_two_split_points_more_per_layer() -> None:
    four, six = (traced(shape)[1].chain.num_stages for shape in ("siglip, 4 layers", "siglip, 6 layers"))
    assert six == four + 2 * 2


@pytest.mark.slow
def test_layers_that_are_read_later_stay_live_until_then() -> None:
    points = traced("clip, 5 layers, three of them read")[1].chain.split_points
    live = [len(point.tensors) for point in points]
    assert max(live) == 3
    assert live[0] == live[-1] == 1


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_labels_name_the_modules_of_the_model(shape: str) -> None:
    adapter, encoder = traced(shape)
    modules = {name for name, _ in adapter.model.named_modules()}
    inner = [point.label for point in encoder.chain.split_points[1:-1]]
    assert all(label.split("#")[0].split(":")[0] in modules for label in inner)


def test_multiply_adds_of_a_stage_are_those_of_its_layers() -> None:
    assert make_chain(Residual(2)).stage_macs([example()]) == [2 * 3 * 8 * 8] * 2


def test_stages_may_be_run_from_any_split_point_to_any_later_one() -> None:
    chain = make_chain(Residual(3))
    middle = chain.run([example()], 0, 1)
    assert torch.equal(chain.run(middle, 1, 1)[0], middle[0])
    assert torch.equal(chain.run(chain.run(middle, 1, 2), 2)[0], chain.run([example()], 0)[0])


def test_output_that_stands_for_two_crosses_once_and_comes_back_twice() -> None:
    class Doubled(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            y = torch.exp(x)
            return [y, torch.tanh(y), y]

    chain = make_chain(Doubled())
    assert len(chain.split_points[-1].tensors) == 2
    first, second, third = chain.outputs_in_order(chain.run([example()], 0))
    assert torch.equal(first, third)
    assert torch.equal(second, torch.tanh(first))
