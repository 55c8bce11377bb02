"""Dual encoders: tiny random checkpoints of three families that give pictures or sounds and texts one space."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import ClapFeatureExtractor

from bench.zoo.settings import IMAGE_SIZE, VISION
from bench.zoo.tokenizers import VOCABULARY, make_tokenizer
from bench.zoo.weights import save

_SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
_TEXT_TOKENS = 32
_TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def _clip(folder: Path) -> Path:
    """A text's embedding is read at its end token; what pads it is masked."""
    config = transformers.CLIPConfig(
        vision_config=VISION,
        text_config={**_TEXT, "max_position_embeddings": _TEXT_TOKENS},
        projection_dim=24,
    )
    tokenizer = make_tokenizer(ends=True, max_length=_TEXT_TOKENS)
    pictures = transformers.CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=_SQUARE)
    processor = transformers.CLIPProcessor(image_processor=pictures, tokenizer=tokenizer)
    return save(folder, transformers.CLIPModel(config), processor)


def _siglip(folder: Path) -> Path:
    """Every text is padded to one length, unmasked, and read at its last place."""
    config = transformers.SiglipConfig(
        vision_config=VISION,
        text_config={
            **_TEXT,
            "max_position_embeddings": _TEXT_TOKENS,
            "projection_size": VISION["hidden_size"],
        },
    )
    tokenizer = make_tokenizer(ends=True, max_length=_TEXT_TOKENS, masks=False)
    processor = transformers.SiglipProcessor(
        image_processor=transformers.SiglipImageProcessorPil(size=_SQUARE), tokenizer=tokenizer
    )
    return save(folder, transformers.SiglipModel(config), processor)


def _clap(folder: Path) -> Path:
    """Sounds as one log-mel picture, repeated or cut to a length; windows in it as in pictures."""
    audio = {
        "spec_size": 64, "num_mel_bins": 16, "window_size": 4, "patch_size": 4, "patch_stride": [4, 4],
        "patch_embeds_hidden_size": 16, "depths": [2, 2], "num_attention_heads": [2, 4], "hidden_size": 32,
        "projection_dim": 24, "enable_fusion": False, "drop_path_rate": 0.0, "num_hidden_layers": 2,
    }  # fmt: skip
    config = transformers.ClapConfig(
        text_config={**_TEXT, "max_position_embeddings": _TEXT_TOKENS + 2, "projection_dim": 24},
        audio_config=audio, projection_dim=24,
    )  # fmt: skip
    extractor = ClapFeatureExtractor(
        feature_size=16, sampling_rate=16000, hop_length=160, max_length_s=2, fft_window_size=400,
        frequency_max=8000, truncation="rand_trunc", padding="repeatpad",
    )  # fmt: skip
    tokenizer = make_tokenizer(ends=True, max_length=_TEXT_TOKENS)
    processor = transformers.ClapProcessor(feature_extractor=extractor, tokenizer=tokenizer)
    model = transformers.ClapModel(config)
    _set_statistics(model.audio_model.audio_encoder.batch_norm)
    return save(folder, model, processor)


@torch.no_grad()
def _set_statistics(norm: Any) -> None:
    """Decibels as sounds have them: without these, two sounds would hardly differ beside their common level."""
    generator = torch.Generator().manual_seed(0)
    norm.running_mean.normal_(-40.0, 5.0, generator=generator)
    norm.running_var.uniform_(200.0, 500.0, generator=generator)


MAKERS: dict[str, Callable[[Path], Path]] = {"clip": _clip, "siglip": _siglip, "clap": _clap}
