"""Generators with encoders of other families, tiny and random, with made pixels in a processor's place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from torch import Tensor

from bench.zoo.weights import randomise
from splitmodel.adapters.generator import Generator
from splitmodel.loading import Checkpoint

TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 256, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "image_size": 64, "patch_size": 16,
}  # fmt: skip
CLIP, SIGLIP = {"model_type": "clip_vision_model", **VISION}, {"model_type": "siglip_vision_model", **VISION}
GRID = {"image_grid_thw": torch.tensor([[1, 4, 4]])}
_QWEN = {"num_heads": 4, "patch_size": 8, "hidden_size": 32}
_MROPE = {"rope_type": "default", "mrope_section": [1, 1, 2]}


def one_picture() -> dict[str, Tensor]:
    return {"pixel_values": _noise(1, 3, 64, 64)}


def tiles() -> dict[str, Tensor]:
    """A wide picture as an overview and two tiles."""
    return {"pixel_values": _noise(1, 3, 3, 64, 64), "image_sizes": torch.tensor([[64, 128]])}


def patches() -> dict[str, Tensor]:
    """Flattened patches of 2 frames, 3 channels, 8 x 8 pixels, and the grid that they come from."""
    return {"pixel_values": _noise(16, 2 * 3 * 64), **GRID}


# name: class's stem, its settings, and the picture's tensors.
FAMILIES: dict[str, tuple[str, dict[str, Any], Callable[[], dict[str, Tensor]]]] = {
    "paligemma": ("PaliGemma", {
        "vision_config": SIGLIP, "text_config": {**TEXT, "model_type": "gemma", "head_dim": 8}, "projection_dim": 32,
    }, one_picture),
    "gemma3": ("Gemma3", {
        "vision_config": VISION, "text_config": {**TEXT, "head_dim": 8}, "mm_tokens_per_image": 4,
    }, one_picture),
    "internvl": ("InternVL", {
        "vision_config": {**VISION, "image_size": [64, 64], "patch_size": [16, 16]},
        "text_config": {**TEXT, "model_type": "qwen2"},
    }, one_picture),
    "vipllava": ("VipLlava", {
        "vision_config": {**CLIP, "num_hidden_layers": 5}, "text_config": {**TEXT, "model_type": "llama"},
        "vision_feature_layers": (-2, -3, -4),
    }, one_picture),
    "aya_vision": ("AyaVision", {
        "vision_config": SIGLIP, "text_config": {**TEXT, "model_type": "cohere2"},
    }, one_picture),
    "cohere2_vision": ("Cohere2Vision", {
        "vision_config": SIGLIP, "text_config": {**TEXT, "model_type": "cohere2"},
    }, one_picture),
    "got_ocr2": ("GotOcr2", {
        "vision_config": {
            "hidden_size": 32, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
            "image_size": 64, "patch_size": 16, "mlp_dim": 64, "window_size": 2, "global_attn_indexes": [1],
        },
        "text_config": {**TEXT, "model_type": "qwen2"},
    }, one_picture),
    "llava_next": ("LlavaNext", {
        "vision_config": CLIP, "text_config": {**TEXT, "model_type": "llama"},
        "image_grid_pinpoints": [[64, 128], [128, 64]],
    }, tiles),
    "llava_onevision": ("LlavaOnevision", {
        "vision_config": SIGLIP, "text_config": {**TEXT, "model_type": "qwen2"},
        "image_grid_pinpoints": [[64, 128], [128, 64]],
    }, tiles),
    "qwen2_vl": ("Qwen2VL", {
        "vision_config": {**_QWEN, "depth": 3, "embed_dim": 32, "mlp_ratio": 2},
        "text_config": {**TEXT, "rope_parameters": _MROPE},
    }, patches),
    "qwen2_5_vl": ("Qwen2_5_VL", {
        "vision_config": {
            **_QWEN, "depth": 3, "intermediate_size": 64, "out_hidden_size": 32, "window_size": 32,
            "fullatt_block_indexes": [1],
        },
        "text_config": {**TEXT, "rope_parameters": _MROPE},
    }, patches),
    # The next three take numbers out of tensors while they run.
    "smolvlm": ("SmolVLM", {
        "vision_config": VISION, "text_config": {**TEXT, "model_type": "llama"}, "scale_factor": 2,
    }, lambda: {"pixel_values": _noise(1, 1, 3, 64, 64)}),
    "mistral3": ("Mistral3", {
        "vision_config": {**VISION, "model_type": "pixtral"},
        "text_config": {**TEXT, "model_type": "mistral", "head_dim": 8}, "spatial_merge_size": 2,
    }, lambda: {**one_picture(), "image_sizes": torch.tensor([[64, 64]])}),
    "qwen3_vl": ("Qwen3VL", {
        "vision_config": {
            **_QWEN, "depth": 3, "intermediate_size": 64, "out_hidden_size": 32, "deepstack_visual_indexes": [0, 1],
            "num_position_embeddings": 64,
        },
        "text_config": {**TEXT, "head_dim": 8, "rope_parameters": _MROPE},
    }, patches),
}  # fmt: skip


class MadePixels:
    """An image processor that gives the same tensors for every picture."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.model_input_names = list(tensors)

    def __call__(self, images: object, return_tensors: str) -> dict[str, Tensor]:
        return self.tensors


def make_family(name: str) -> tuple[Generator, dict[str, Tensor]]:
    """The family's tiny model as an adapter, and the picture's tensors that it is traced with."""
    stem, settings, inputs = FAMILIES[name]
    config = getattr(transformers, f"{stem}Config")(**settings)
    model = getattr(transformers, f"{stem}ForConditionalGeneration")(config).eval()
    randomise(model, seed=0)
    tensors = inputs()
    processor = SimpleNamespace(image_processor=MadePixels(tensors), image_token="<image>")
    return Generator(Checkpoint(name, Path(name), model, processor, "")), tensors


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))
