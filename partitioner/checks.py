"""What a bundle promises about preprocessing and prompts, checked on inputs of several sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from splitmodel.adapters.base import Adapter
from splitmodel.encoder import Encoder
from splitmodel.media import Media, MediaInput, size_of
from splitmodel.tensors import to_numpy
from wire.chain_entries import Preprocessing
from wire.errors import BadInput

# The device's own: recipe, media, and the folder that holds the recipe's files; the tensors at split point 0, those
# of a recipe that makes tiles with the tiles first.
Preprocess = Callable[[Preprocessing, Media, Path], Sequence[NDArray[np.generic]]]

# A spectrum's sums round otherwise in every library; a picture's and a text's numbers do not.
_SOUND_TOLERANCE = 1e-4


def check_preprocessing(
    adapter: Adapter,
    encoder: Encoder,
    recipe: Preprocessing,
    preprocess: Preprocess,
    samples: Sequence[Media],
    folder: Path,
) -> None:
    """Raises BadInput where the device's preprocessing is not the model's own processor's, bit for bit; of sounds,
    within 1e-4 of the largest number."""
    for media in samples:
        tiles = adapter.boundary_input(encoder, media)
        columns = zip(*tiles, strict=True)
        reference = [
            to_numpy(torch.stack(c) if encoder.tile_axis is not None else c[0]).astype(np.float32)
            for c in columns
        ]
        values = [np.asarray(value, np.float32) for value in preprocess(recipe, media, folder)]
        if len(values) != len(reference) or not all(
            _is_equal(value, expected, encoder.modality == "audio")
            for value, expected in zip(values, reference, strict=True)
        ):
            size = size_of(media, adapter.processing.rate_hz)
            raise BadInput(
                f"the model's processor does something that the recipe of {encoder.modality} preprocessing does not "
                f"express (differs on an input of {size}); this model cannot be partitioned"
            )


def _is_equal(value: NDArray[np.float32], expected: NDArray[np.float32], is_sound: bool) -> bool:
    if value.shape != expected.shape:
        return False
    if not is_sound:
        return np.array_equal(value, expected)
    largest = max(1.0, float(np.abs(expected).max(initial=0)))
    return bool(np.abs(value - expected).max(initial=0) <= _SOUND_TOLERANCE * largest)


def check_prompts(adapter: Adapter, encoder: Encoder, samples: Sequence[Media], prompt: str) -> None:
    """Raises BadInput where a blank input's ids and masks are not the real one's."""
    processing, modality = adapter.processing, encoder.modality
    if not processing.takes_prompt:
        return
    for media in samples:
        size = size_of(media, processing.rate_hz)
        blank = processing.prompt_inputs(prompt, [modality], [size])
        real = processing.without_content(processing.whole(prompt, [MediaInput(modality, media)]))
        if blank.keys() != real.keys() or any(not torch.equal(blank[key], real[key]) for key in real):
            raise BadInput(
                f"the prompt's ids or masks depend on what an input of {size} holds, not on its size alone; this "
                "model cannot be served split"
            )
