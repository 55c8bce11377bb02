"""Other families than LLaVA: the same adapter, chain and cuts take them, and nothing names them."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils import _pytree as pytree

from splitmodel.adapters.generator import Generator
from tests.splitmodel.families import FAMILIES, make_family

_PICTURE = Image.new("RGB", (8, 8))


@torch.no_grad()
def whole_encoder(adapter: Generator, tensors: dict[str, Tensor]) -> list[Tensor]:
    """What the model's own method gives, without the parts that the decoder never reads."""
    output = adapter.model.get_image_features(**tensors, return_dict=True)
    inner = ("last_hidden_state", "hidden_states", "attentions")
    return list(pytree.tree_leaves({k: v for k, v in output.items() if k not in inner}))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_head_and_tail_are_bit_equal_to_the_whole_encoder(family: str) -> None:
    """At every split point; each is labelled, and few tensors cross it."""
    adapter, traced = make_family(family)
    encoder = adapter.trace_encoder("image", _PICTURE).chain
    untraced = {**traced, "pixel_values": torch.randn_like(traced["pixel_values"])}
    points = encoder.split_points
    assert encoder.num_stages >= 8
    assert len({point.label for point in points}) == len(points)
    assert all(1 <= len(point.tensors) <= 4 for point in points[:-1])
    for tensors in (traced, untraced):
        reference = whole_encoder(adapter, tensors)
        for split_point in range(encoder.num_stages + 1):
            features = encoder.run([tensors["pixel_values"]], 0, split_point)
            ended = encoder.outputs_in_order(encoder.run(features, split_point))
            pairs = zip(ended, reference, strict=True)
            assert all(torch.equal(left, right) for left, right in pairs), split_point
    assert not torch.equal(whole_encoder(adapter, traced)[0], reference[0]), "the encoder ignores its input"
