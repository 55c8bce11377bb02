"""A bundle lists one shape where all inputs have it, tiles of one, or one per size: as the encoder reads it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from partitioner.samples import default_sizes, made_samples
from partitioner.shapes import trace_encoders
from splitmodel.encoder import Encoder, EncoderInput
from splitmodel.media import Media
from tests.kit.zoo_adapters import adapter_of, encoders_of
from wire.errors import BadInput
from wire.modality import Modality
from wire.sizes import ImageSize, Size, SoundSize

SIZES = (ImageSize(96, 64), SoundSize(16_000, 16_000), ImageSize(64, 64), SoundSize(48_000, 16_000))


class Listening:
    """As much of an adapter as shapes are listed for: a window of 8 samples, and a mask of those that are sound.

    Places are not told apart, so that of a constant sound nothing shows what was masked.
    """

    def __init__(self, *, masks: bool) -> None:
        self.masks = masks
        self.processing = SimpleNamespace(rate_hz=8, feature_extractor=None)

    def encoder_input(self, modality: Modality, media: Media) -> EncoderInput:
        sound = np.asarray(media, np.float32)
        content = torch.from_numpy(np.pad(sound, (0, 8 - len(sound))))[None]
        return EncoderInput({"samples": content}, {"mask": torch.arange(8)[None] < len(sound)})

    def encode(self, modality: Modality, given: EncoderInput) -> dict[str, Tensor]:
        x, mask = given.content["samples"], given.constants["mask"]
        weights = torch.softmax(x.masked_fill(~mask, -torch.inf) if self.masks else x, -1)
        return {"pooled": weights @ x.T}

    def tile_axis(self, modality: Modality, examples: Sequence[Media]) -> int | None:
        return None

    def trace_encoder(
        self, modality: Modality, example: Media, *, axis: int | None = None, size: Size | None = None
    ) -> Any:
        return size


def constant_then_others() -> list[Media]:
    rng = np.random.default_rng(0)
    return [np.zeros(8, np.float32), *(rng.standard_normal(n).astype(np.float32) for n in (3, 5, 8))]


def test_mask_that_the_encoder_reads_makes_a_shape_of_every_size() -> None:
    """Though the first sound is silence, of which it reads the same whatever is masked."""
    adapter: Any = Listening(masks=True)
    sizes = [SoundSize(3, 8), SoundSize(8, 8)]
    listed: list[Any] = trace_encoders(adapter, "audio", constant_then_others(), sizes)
    assert listed == sizes


def test_mask_that_the_encoder_does_not_read_makes_none() -> None:
    adapter: Any = Listening(masks=False)
    assert trace_encoders(adapter, "audio", constant_then_others(), SIZES) == [None]


def traced(name: str, modality: Modality, sizes: Sequence[Size] = SIZES) -> list[Encoder]:
    adapter = adapter_of(name)
    return trace_encoders(adapter, modality, made_samples(adapter, modality, 6), sizes)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "modality"), [("llava", "image"), ("clip", "text"), ("whisper", "audio")])
def test_inputs_that_all_have_one_shape_have_one_chain(name: str, modality: Modality) -> None:
    [encoder] = encoders_of(name, modality)
    assert (encoder.size, encoder.tile_axis) == (None, None)
    shape = encoder.chain.split_points[0].tensors[0].shape
    assert encoder.shape_id == "x".join(map(str, shape))


@pytest.mark.slow
def test_tiles_have_one_chain_of_one_tile() -> None:
    [encoder] = encoders_of("internvl", "image")
    assert (encoder.size, encoder.tile_axis) == (None, 0)
    assert encoder.shape_id == "1x3x64x64"
    [spec] = encoder.chain.split_points[0].tensors
    assert spec.shape == (1, 3, 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "modality", "sizes"),
    [("llava_next", "image", SIZES[::2]), ("qwen2_audio", "audio", SIZES[1::2])],
)
def test_inputs_of_a_shape_per_size_have_a_chain_per_listed_size_of_their_kind(
    name: str, modality: Modality, sizes: Sequence[Size]
) -> None:
    encoders = traced(name, modality)
    assert [encoder.size for encoder in encoders] == list(sizes)
    assert [encoder.shape_id for encoder in encoders] == list(map(str, sizes))
    assert all(encoder.tile_axis is None for encoder in encoders)


@pytest.mark.slow
def test_sizes_that_nobody_named_are_the_default_ones() -> None:
    adapter = adapter_of("qwen2_audio")
    expected = list(default_sizes(adapter, "audio"))
    assert [encoder.size for encoder in traced("qwen2_audio", "audio", SIZES[::2])] == expected


@pytest.mark.slow
def test_processor_that_makes_nothing_of_an_input_is_refused_in_one_sentence() -> None:
    """One of the zoo's takes sounds in a way that needs a package which is not here."""
    with pytest.raises(
        BadInput, match="makes no audio input that its encoder takes; use another model"
    ) as told:
        traced("voxtral", "audio")
    assert "\n" not in str(told.value)
