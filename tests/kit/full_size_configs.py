"""Configs of published models at their full size, with the settings of their processors; none has weights here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import (
    CLIPConfig,
    LlavaConfig,
    PreTrainedConfig,
    Qwen2_5_VLConfig,
    SmolVLMConfig,
    WhisperConfig,
)

_CLIP_MEAN, _CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


@dataclass(frozen=True, slots=True)
class FullSize:
    """A model's config, its published number of parameters, and the preprocessor_config.json beside it."""

    config: Callable[[], PreTrainedConfig]
    num_parameters: int
    preprocessor: dict[str, Any]

    def save(self, folder: Path, *, with_processor: bool = True) -> Path:
        """A folder as the hub gives it, without its weights."""
        self.config().save_pretrained(folder)
        if with_processor:
            (folder / "preprocessor_config.json").write_text(json.dumps(self.preprocessor))
        return folder


def _smolvlm() -> PreTrainedConfig:
    return SmolVLMConfig(
        vision_config={
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
            "image_size": 512, "patch_size": 16,
        },
        text_config={
            "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
            "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49280, "dtype": "bfloat16",
            "max_position_embeddings": 8192,
        },
        scale_factor=4, image_token_id=49190, tie_word_embeddings=False, dtype="bfloat16",
    )  # fmt: skip


def _qwen2_5_vl() -> PreTrainedConfig:
    return Qwen2_5_VLConfig(
        vision_config={
            "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048,
            "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2,
        },
        text_config={
            "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
            "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
        },
        tie_word_embeddings=True, dtype="bfloat16",
    )  # fmt: skip


def _llava() -> PreTrainedConfig:
    return LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
            "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
        },
        text_config={
            "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064,
            "max_position_embeddings": 4096,
        },
        dtype="float16",
    )  # fmt: skip


def _whisper() -> PreTrainedConfig:
    return WhisperConfig(
        d_model=1280, encoder_layers=32, decoder_layers=32, encoder_attention_heads=20, decoder_attention_heads=20,
        encoder_ffn_dim=5120, decoder_ffn_dim=5120, vocab_size=51866, num_mel_bins=128, dtype="float16",
    )  # fmt: skip


def _clip() -> PreTrainedConfig:
    return CLIPConfig(
        vision_config={
            "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
            "image_size": 224, "patch_size": 14, "projection_dim": 768,
        },
        text_config={
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
            "projection_dim": 768,
        },
        projection_dim=768,
    )  # fmt: skip


FULL_SIZE: dict[str, FullSize] = {
    "SmolVLM-256M": FullSize(_smolvlm, 256_484_928, {
        "image_processor_type": "SmolVLMImageProcessor", "size": {"longest_edge": 2048}, "do_image_splitting": True,
        "max_image_size": {"longest_edge": 512}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }),
    "Qwen2.5-VL-3B": FullSize(_qwen2_5_vl, 3_754_622_976, {
        "image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14,
        "temporal_patch_size": 2, "merge_size": 2, "image_mean": _CLIP_MEAN, "image_std": _CLIP_STD,
    }),
    "LLaVA-1.5-7B": FullSize(_llava, 7_063_427_072, {
        "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 336},
        "crop_size": {"height": 336, "width": 336}, "image_mean": _CLIP_MEAN, "image_std": _CLIP_STD,
    }),
    "Whisper-large-v3": FullSize(_whisper, 1_543_490_560, {
        "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 128, "sampling_rate": 16000,
        "hop_length": 160, "chunk_length": 30, "n_fft": 400,
    }),
    "CLIP ViT-L/14": FullSize(_clip, 427_616_513, {
        "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224},
        "crop_size": {"height": 224, "width": 224}, "image_mean": _CLIP_MEAN, "image_std": _CLIP_STD,
    }),
}  # fmt: skip
