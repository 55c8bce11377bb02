"""The recipe by which a device prepares media for an encoder, of whichever modality."""

from __future__ import annotations

from splitmodel.adapters.base import Adapter
from splitmodel.encoder import Encoder
from splitmodel.picture_recipe import picture_recipe
from splitmodel.sound_recipe import sound_recipe
from splitmodel.text_recipe import text_recipe
from wire.chain_entries import Preprocessing
from wire.sizes import SoundSize


def recipe_of(adapter: Adapter, encoder: Encoder) -> tuple[Preprocessing, dict[str, bytes]]:
    """The recipe, and the bundle's files that it needs; raises BadInput for a processor that none expresses."""
    processing = adapter.processing
    match encoder.modality:
        case "image":
            rank = len(encoder.chain.split_points[0].tensors[0].shape)
            return picture_recipe(
                processing.image_processor, rank, is_tiled=encoder.tile_axis is not None
            ), {}
        case "text":
            has_mask = len(encoder.chain.split_points[0].tensors) > 1
            return text_recipe(processing.tokenizer, processing.text_length, has_mask)
        case _:
            extractor = processing.part(encoder.modality)
            has_window = most_samples(adapter) is not None
            listed = encoder.size if isinstance(encoder.size, SoundSize) else None
            return sound_recipe(extractor, None if has_window or listed is None else listed.seconds), {}


def most_samples(adapter: Adapter) -> int | None:
    """Of a sound that its feature extractor reads whole; None where it reads any, or none at all."""
    extractor = adapter.processing.feature_extractor
    return sound_recipe(extractor).window_samples if extractor is not None else None
