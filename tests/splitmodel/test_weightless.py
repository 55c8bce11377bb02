"""A model without weights has the shapes of the one with them, and its Python takes the same way."""

from __future__ import annotations

import pytest
import torch

from splitmodel.adapters.find import adapter_for
from splitmodel.loading import Checkpoint
from splitmodel.shape import class_of
from splitmodel.weightless import Weightless, make_weightless
from tests.kit.full_size_configs import FULL_SIZE
from tests.kit.pictures import textured
from tests.kit.shapes import checkpoint


@pytest.mark.parametrize("name", FULL_SIZE)
def test_it_has_as_many_parameters_as_the_published_model(name: str) -> None:
    config = FULL_SIZE[name].config()
    model = make_weightless(class_of(config), config)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(FULL_SIZE[name].num_parameters, rel=0.01)


def test_its_parameters_have_no_numbers_and_its_buffers_do() -> None:
    config = FULL_SIZE["LLaVA-1.5-7B"].config()
    model = make_weightless(class_of(config), config)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    positions = model.base_model.vision_tower.embeddings.position_ids
    assert positions[0, :3].tolist() == [0, 1, 2]
    assert not torch.nn.Linear(2, 2).weight.is_meta  # and nothing of it stays behind


def test_what_touches_no_weight_is_computed() -> None:
    weight = torch.empty(4, 3, device="meta")
    with Weightless():
        assert torch.arange(3, device=weight.device).tolist() == [0, 1, 2]
        assert torch.ones(2).to(weight.device).tolist() == [1, 1]
        made = torch.ones(1, 3) @ weight.T + torch.ones(4)
    assert made.is_meta
    assert made.shape == (1, 4)


@pytest.mark.parametrize("shape", ["clip, 5 layers, three of them read", "siglip, 4 layers"])
def test_it_has_the_split_points_of_the_model_with_weights(shape: str) -> None:
    real = checkpoint(shape)
    model = make_weightless(type(real.model), real.model.config)
    expected = adapter_for(real).trace_encoder("image", textured(60, 50)).chain.split_points
    with Weightless():
        empty = adapter_for(Checkpoint(real.name, real.path, model, real.processor, ""))
        found = empty.trace_encoder("image", textured(60, 50)).chain.split_points
    assert found == expected
    assert len(found) > 4
