"""What stands in for the parts of a processor that a checkpoint brings no files of: tensors shaped by its config.

They say nothing, and have the shape that the encoder takes: enough to size it, and not to serve it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from wire.modality import Modality

_RATE_HZ = 16_000
_SECONDS = 10  # of sound, for an encoder that takes waves of any length
_SIDE = 448  # of a picture, for an encoder that takes patches of any picture
_TEXT_TOKENS = 64  # for a text encoder whose config names no longest text
_MAX_TEXT_TOKENS = 512


class StandIn:
    """One part of a processor, which makes the same tensors of every input."""

    sampling_rate = _RATE_HZ

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self.model_input_names = list(tensors)
        self.model_max_length = next(iter(tensors.values())).shape[-1]

    def __call__(self, *_: object, **__: object) -> dict[str, Tensor]:
        return {key: tensor.clone() for key, tensor in self._tensors.items()}


def stand_ins(modality: Modality, config: Any, arguments: Collection[str]) -> Iterator[StandIn]:
    """Parts for that modality, the likeliest first; `arguments` are those that the encoder takes."""
    make: Callable[[Any], Iterator[dict[str, Tensor]]] = {
        "image": _patches if "image_grid_thw" in arguments else _pictures,
        "audio": _waves if "input_values" in arguments else _spectra,
        "text": _texts,
    }.get(modality, lambda _: iter(()))
    for tensors in make(config):
        yield StandIn({key: value for key, value in tensors.items() if key in arguments})


def _pictures(config: Any) -> Iterator[dict[str, Tensor]]:
    side = _setting(config, "image_size")
    if side is None:
        return
    height, width = (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))
    channels = _setting(config, "num_channels") or 3
    # One picture, or one tile of one; some encoders are told its size, and others take that for another kind.
    for told in ({}, {"image_sizes": torch.tensor([[height, width]])}):
        for tiles in ((1,), (1, 1)):
            yield {"pixel_values": _noise(*tiles, channels, height, width), **told}


def _patches(config: Any) -> Iterator[dict[str, Tensor]]:
    patch = _setting(config, "patch_size")
    if patch is None:
        return
    channels = _setting(config, "in_channels", "in_chans", "num_channels") or 3
    frames = _setting(config, "temporal_patch_size") or 1
    unit = patch * (_setting(config, "spatial_merge_size") or 1)
    side = max(1, _SIDE // unit) * unit // patch
    grid = torch.tensor([[1, side, side]])
    yield {
        "pixel_values": _noise(side * side, channels * frames * patch * patch),
        "image_grid_thw": grid,
    }


def _spectra(config: Any) -> Iterator[dict[str, Tensor]]:
    bins = _setting(config, "num_mel_bins", "feature_size", "input_feat_per_channel")
    if bins is None:
        return
    # Encoders of spectra halve their length once, before positions are counted.
    frames = 2 * (_setting(config, "max_source_positions") or 50 * _SECONDS)
    mask = torch.ones(1, frames, dtype=torch.int64)
    for spectrum in (_noise(1, bins, frames), _noise(1, frames, bins)):
        yield {"input_features": spectrum, "attention_mask": mask, "input_features_mask": mask}


def _waves(_config: Any) -> Iterator[dict[str, Tensor]]:
    samples = _RATE_HZ * _SECONDS
    yield {"input_values": _noise(1, samples), "attention_mask": torch.ones(1, samples, dtype=torch.int64)}


def _texts(config: Any) -> Iterator[dict[str, Tensor]]:
    text = getattr(config, "text_config", config)
    length = min(getattr(text, "max_position_embeddings", None) or _TEXT_TOKENS, _MAX_TEXT_TOKENS)
    for tokens in (length, _TEXT_TOKENS):
        ids = torch.zeros(1, tokens, dtype=torch.int64)
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _setting(config: Any, *names: str) -> Any:
    """The first of these settings that the config has, or one of the configs inside it."""
    for name in names:
        if (value := getattr(config, name, None)) is not None:
            return value
    for key in getattr(config, "sub_configs", ()):
        inner = getattr(config, key, None)
        if inner is not None and key != "text_config" and (value := _setting(inner, *names)) is not None:
            return value
    return None


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))
