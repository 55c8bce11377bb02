"""Sizes that the zoo's models share: as small as a model of several layers and heads can be."""

from __future__ import annotations

from typing import Any

IMAGE_SIZE = 64
PATCH_SIZE = 16
# Longer than any prompt of the zoo with its pictures or sounds.
CONTEXT_TOKENS = 2048

DECODER: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": CONTEXT_TOKENS, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE,
}  # fmt: skip
AUDIO = {"num_mel_bins": 16, "width": 32, "layers": 3, "heads": 4}
CLIP_VISION = {"model_type": "clip_vision_model", **VISION}
SIGLIP_VISION = {"model_type": "siglip_vision_model", **VISION}


def decoder(model_type: str) -> dict[str, Any]:
    """The decoder's settings, of that kind."""
    return {"model_type": model_type, **DECODER}
