"""What goes into an encoder and what comes out: tiles taken apart, outputs of several inputs and tiles joined."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.utils.generic import ModelOutput

from splitmodel.encoder import Encoded, EncodedWhole, EncoderInput, join, join_tiles, read_outputs
from tests.splitmodel.encoders import Accumulating, encoder_of, example, make_chain
from wire.sizes import ImageSize

SIZE = ImageSize(8, 8)


def given() -> EncoderInput:
    """Three tiles along the second axis, masked along it, and one number for all of them."""
    pixels = torch.arange(3 * 4.0).reshape(1, 3, 4)
    mask = torch.tensor([[[1, 1], [1, 0], [0, 1]]])
    return EncoderInput({"pixels": pixels}, {"mask": mask, "scale": torch.tensor([2.0])})


def test_every_tile_has_its_own_content_and_constants() -> None:
    tiles = given().tiles(1)
    assert [tile.content["pixels"].shape for tile in tiles] == [(1, 1, 4)] * 3
    assert torch.equal(torch.cat([tile.content["pixels"] for tile in tiles], 1), given().content["pixels"])
    assert torch.equal(torch.cat([tile.constants["mask"] for tile in tiles], 1), given().constants["mask"])
    assert all(torch.equal(tile.constants["scale"], torch.tensor([2.0])) for tile in tiles)


def test_input_that_is_not_tiled_is_one() -> None:
    whole = given()
    assert whole.tiles(None) == [whole]


def outputs(*lengths: int) -> list[dict[str, Any]]:
    """Of inputs of several lengths: a tensor, and a tuple with one part per input."""
    made = []
    for seed, length in enumerate(lengths):
        values = example(seed)[:, :1].expand(length, 1, -1)
        made.append({"pooled": values, "layers": (values + 1,)})
    return made


def test_outputs_of_several_inputs_lie_behind_one_another() -> None:
    one, other = outputs(2, 3)
    joined = join([one, other])
    assert torch.equal(joined["pooled"], torch.cat([one["pooled"], other["pooled"]]))
    assert isinstance(joined["layers"], tuple)
    assert [part.shape[0] for part in joined["layers"]] == [2, 3]
    assert torch.equal(joined["layers"][1], other["layers"][0])


def test_outputs_of_several_tiles_are_those_of_one_input() -> None:
    """What a list holds of the input grows, and not the list."""
    one, other = outputs(2, 3)
    joined = join_tiles([one, other])
    assert torch.equal(joined["pooled"], torch.cat([one["pooled"], other["pooled"]]))
    [layer] = joined["layers"]
    assert torch.equal(layer, torch.cat([one["layers"][0], other["layers"][0]]))
    assert isinstance(joined["layers"], tuple)


@pytest.mark.parametrize("joining", [join, join_tiles])
def test_output_of_one_is_itself(joining: Any) -> None:
    [one] = outputs(2)
    joined = joining([one])
    assert joined["pooled"] is one["pooled"]
    assert joined["layers"] is one["layers"]


def test_read_outputs_leaves_out_inner_states_and_what_is_none() -> None:
    output = ModelOutput(
        last_hidden_state=example(), pooler_output=example(1), hidden_states=(example(),), attentions=None
    )
    assert read_outputs(output).keys() == {"pooler_output"}
    kept = read_outputs(output, inner=("hidden_states", "attentions"))
    assert kept.keys() == {"last_hidden_state", "pooler_output"}


def test_encoded_tiles_give_what_the_encoder_gives_for_each_joined() -> None:
    class Named(Accumulating):
        def forward(self, x: Tensor) -> list[Tensor]:
            return super().forward(x)[-2:]

    encoder = encoder_of(make_chain(Named(2)), ["tapped", "last"])
    inputs = [example(seed) for seed in range(3)]
    ends = [encoder.chain.run([one], 0) for one in inputs]
    made = Encoded(encoder, ends, SIZE).output
    assert made.keys() == {"tapped", "last"}
    each = [encoder.output(end) for end in ends]
    assert all(torch.equal(made[key], torch.cat([one[key] for one in each])) for key in made)
    assert not torch.equal(each[0]["last"], each[1]["last"])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_number_that_is_not_finite_is_noticed_in_any_tile_and_any_tensor(bad: float) -> None:
    encoder = encoder_of(make_chain(Accumulating(1)), ["tapped", "last"])
    good = [[torch.zeros(2), torch.ones(3)] for _ in range(2)]
    assert Encoded(encoder, good, SIZE).is_finite
    assert EncodedWhole("image", dict, {"x": good, "ids": torch.tensor([3])}, SIZE).is_finite
    for tile in range(2):
        for tensor in range(2):
            tiles = [[one.clone() for one in tensors] for tensors in good]
            tiles[tile][tensor][1] = bad
            assert not Encoded(encoder, tiles, SIZE).is_finite
            assert not EncodedWhole("image", dict, {"x": tuple(tiles[tile])}, SIZE).is_finite


def test_several_inputs_lengthen_a_list_of_one_entry_and_grow_the_entries_of_one_of_several() -> None:
    """The former has an entry for each input, the latter one for each layer; a layer may be a tuple of inputs."""
    one, other = (
        {
            "pooled": [example(seed)],
            "layers": [example(seed), example(seed + 7)],
            "deep": [(example(seed),)] * 2,
        }
        for seed in (0, 1)
    )
    joined = join([one, other])
    assert [tensor.shape for tensor in joined["pooled"]] == [example().shape] * 2
    assert torch.equal(joined["layers"][1], torch.cat([one["layers"][1], other["layers"][1]]))
    assert [len(layer) for layer in joined["deep"]] == [2, 2]
    assert torch.equal(joined["deep"][0][1], other["deep"][0][0])
