"""Whether a processor makes tiles that its encoder reads one by one is found by trying, and never told by a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from partitioner.samples import made_samples
from splitmodel.encoder import EncoderInput
from splitmodel.tiling import axis_of_tiles, tile_axis
from tests.kit.zoo_adapters import adapter_of
from wire.limits import MAX_TILES
from wire.modality import Modality

Encode = Callable[[EncoderInput], dict[str, Any]]


def of_shapes(*shapes: tuple[int, ...]) -> list[EncoderInput]:
    generator = torch.Generator().manual_seed(0)
    return [EncoderInput({"x": torch.randn(shape, generator=generator)}, {}) for shape in shapes]


def by_tile(axis: int) -> Encode:
    """Each tile alone becomes one vector."""

    def encode(given: EncoderInput) -> dict[str, Any]:
        x = given.content["x"].movedim(axis, 0)
        return {"pooled": torch.tanh(x.flatten(1)[:, :4])}

    return encode


def across(given: EncoderInput) -> dict[str, Any]:
    """Every tile is told the mean of all."""
    x = given.content["x"]
    return {"pooled": torch.tanh(x - x.mean())}


def never(given: EncoderInput) -> dict[str, Any]:
    raise AssertionError("nothing has to be tried")


@pytest.mark.parametrize("axis", [0, 1])
def test_axis_along_which_tiles_give_alone_what_they_give_together(axis: int) -> None:
    shapes = [(3, 5, 4) if axis == 0 else (1, 3, 4), (1, 5, 4) if axis == 0 else (1, 1, 4)]
    assert tile_axis(of_shapes(*shapes), by_tile(axis)) == axis


def test_inputs_of_one_shape_are_not_tiled() -> None:
    assert tile_axis(of_shapes((3, 5, 4), (3, 5, 4)), never) is None


def test_encoder_that_reads_across_tiles_has_none() -> None:
    assert tile_axis(of_shapes((3, 4), (1, 4)), across) is None


def test_encoder_that_a_single_tile_does_not_fit_has_none() -> None:
    def encode(given: EncoderInput) -> dict[str, Any]:
        return {"pooled": given.content["x"].reshape(-1, 2, 4)}

    assert tile_axis(of_shapes((4, 4), (2, 4)), encode) is None


def test_encoder_that_pools_the_tiles_has_none() -> None:
    def encode(given: EncoderInput) -> dict[str, Any]:
        return {"pooled": given.content["x"].sum(0, keepdim=True)}

    assert tile_axis(of_shapes((4, 4), (2, 4)), encode) is None


@pytest.mark.parametrize(
    "shapes",
    [[(3, 4), (2, 5)], [(3, 4), (3, 4, 1)], [(1, 3, 4, 8), (1, 3, 4, 9)]],
    ids=["two axes", "another rank", "an axis of the picture itself"],
)
def test_inputs_that_differ_in_another_way_are_not_tiled(shapes: list[tuple[int, ...]]) -> None:
    assert tile_axis(of_shapes(*shapes), never) is None


def test_more_tiles_than_a_request_may_have_are_none() -> None:
    """The samples of a wave differ in number, too, and nobody tries a hundred thousand of them."""
    assert tile_axis(of_shapes((1, MAX_TILES, 2), (1, 1, 2)), by_tile(1)) == 1
    assert tile_axis(of_shapes((1, MAX_TILES + 1, 2), (1, 1, 2)), never) is None


def test_parts_of_a_list_are_compared_too() -> None:
    def encode(given: EncoderInput) -> dict[str, Any]:
        x: Tensor = given.content["x"]
        return {"pooled": x, "layers": (x - x.mean(),)}

    assert tile_axis(of_shapes((3, 4), (1, 4)), encode) is None


def test_axis_of_tiles_is_the_one_of_which_an_input_has_another_number() -> None:
    assert axis_of_tiles((1, 3, 8, 8), of_shapes((1, 3, 8, 8), (5, 3, 8, 8))) == 0
    assert axis_of_tiles((1, 1, 3, 8), of_shapes((1, 4, 3, 8))) == 1
    assert axis_of_tiles((1, 3, 8, 8), of_shapes((1, 3, 8, 8))) is None
    assert axis_of_tiles((1, 3, 8, 8), of_shapes((1, 3, 8, 9), (2, 3, 8, 9), (1, 3, 8))) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "modality", "axis"),
    [
        ("llava", "image", None),
        ("internvl", "image", 0),
        ("smolvlm", "image", 1),
        ("llava_next", "image", None),
        ("qwen2_5_vl", "image", None),
        ("moonshine", "audio", None),
        ("clip", "text", None),
    ],
)
def test_processors_of_the_zoo(name: str, modality: Modality, axis: int | None) -> None:
    """A fixed size; tiles along either axis; tiles with a line's end between them; patches; a wave; a text."""
    adapter = adapter_of(name)
    assert adapter.tile_axis(modality, made_samples(adapter, modality, 6)) == axis
