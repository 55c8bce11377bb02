"""The dual encoder's shape: the default model's CLIP vision tower, a small CLIP text tower; and its processor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForImageTextToText,
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPVisionConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from training.scenes import SIDE


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the dual encoder; the vision tower's are the default model's. Tests train a smaller one."""

    patch: int = 16
    vision_width: int = 192
    vision_layers: int = 6
    vision_heads: int = 6
    text_width: int = 128
    text_layers: int = 4
    text_heads: int = 4
    embedding: int = 192


def make_model(shape: Shape, tokenizer: PreTrainedTokenizerFast, seed: int) -> CLIPModel:
    """A model with fresh weights, the same for the same seed."""
    torch.manual_seed(seed)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=shape.text_width, intermediate_size=4 * shape.text_width,
        num_hidden_layers=shape.text_layers, num_attention_heads=shape.text_heads, hidden_act="gelu",
        max_position_embeddings=tokenizer.model_max_length, projection_dim=shape.embedding,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=shape.vision_width, intermediate_size=4 * shape.vision_width,
        num_hidden_layers=shape.vision_layers, num_attention_heads=shape.vision_heads, image_size=SIDE,
        patch_size=shape.patch, hidden_act="gelu", projection_dim=shape.embedding,
    )  # fmt: skip
    sizes = {"text_config": text.to_dict(), "vision_config": vision.to_dict()}
    model = CLIPModel(CLIPConfig(**sizes, projection_dim=shape.embedding))
    # On a CPU the fused attention's backward pass is the slower one; what is saved does not name either.
    model.set_attn_implementation("eager")
    return model


def adopt_tower(model: CLIPModel, default: Path) -> None:
    """The default model's trained vision tower, which has seen this world, in place of the fresh one."""
    trained: Any = AutoModelForImageTextToText.from_pretrained(default, dtype=torch.float32)
    model.vision_model.load_state_dict(trained.model.vision_tower.state_dict())


def make_processor(tokenizer: PreTrainedTokenizerFast) -> CLIPProcessor:
    """Any picture to SIDE x SIDE, numbers from -1 to 1; any text to its tokens."""
    image_processor = CLIPImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, crop_size={"height": SIDE, "width": SIDE}, do_center_crop=False,
        image_mean=[0.5] * 3, image_std=[0.5] * 3,
    )  # fmt: skip
    return CLIPProcessor(image_processor=image_processor, tokenizer=tokenizer)


def lower_tower(model: Any, pixels: Tensor, num_layers: int) -> Tensor:
    """What the first layers of the vision tower make of pictures: [batch, 1 + P, width]."""
    tower = model.vision_model
    hidden: Tensor = tower.pre_layrnorm(tower.embeddings(pixels))
    for layer in tower.encoder.layers[:num_layers]:
        hidden = layer(hidden, None)
    return hidden


def upper_tower(model: Any, hidden: Tensor, num_layers: int) -> Tensor:
    """The picture's embedding, [batch, embedding], from what the first layers made."""
    tower = model.vision_model
    *layers, last = tower.encoder.layers[num_layers:]
    for layer in layers:
        hidden = layer(hidden, None)
    embedded: Tensor = model.visual_projection(tower.post_layernorm(_first_token(last, hidden)))
    return embedded


def _first_token(layer: Any, hidden: Tensor) -> Tensor:
    """A layer's output at the first token alone, [batch, width]: of the last layer nothing else is read."""
    attention, first = layer.self_attn, hidden[:, :1]
    normal = layer.layer_norm1(hidden)
    query, key, value = (
        projected.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for projected in (
            attention.q_proj(normal[:, :1]),
            attention.k_proj(normal),
            attention.v_proj(normal),
        )
    )
    weights = functional.softmax(query @ key.transpose(-1, -2) * attention.scale, dim=-1)
    first = first + attention.out_proj((weights @ value).transpose(1, 2).flatten(2))
    result: Tensor = first + layer.mlp(layer.layer_norm2(first))
    return result[:, 0]
