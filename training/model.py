"""The default model's shape: a CLIP vision tower, a two-layer projector, a Llama decoder; and its processor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from training.scenes import SIDE

MAX_ANSWER_TOKENS = 64

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '\\n' }}{% endfor %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the default model; tests train a smaller one."""

    patch: int = 16
    vision_width: int = 192
    vision_layers: int = 6
    text_width: int = 192
    text_layers: int = 4
    heads: int = 6

    @property
    def num_patches(self) -> int:
        return (SIDE // self.patch) ** 2


def make_model(shape: Shape, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlavaForConditionalGeneration:
    """A model with fresh weights, the same for the same seed."""
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=shape.vision_width, intermediate_size=4 * shape.vision_width,
            num_hidden_layers=shape.vision_layers, num_attention_heads=shape.heads, image_size=SIDE,
            patch_size=shape.patch, hidden_act="gelu", projection_dim=shape.vision_width,
        ),
        text_config=LlamaConfig(
            hidden_size=shape.text_width, intermediate_size=8 * shape.text_width // 3 // 8 * 8,
            num_hidden_layers=shape.text_layers, num_attention_heads=shape.heads, num_key_value_heads=shape.heads,
            vocab_size=len(tokenizer), max_position_embeddings=512, tie_word_embeddings=False,
            bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=shape.num_patches,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    # On a CPU the fused attention's backward pass is the slower one; what is saved does not name either.
    model.set_attn_implementation("eager")
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=MAX_ANSWER_TOKENS, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return model


def make_processor(shape: Shape, tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Any picture to SIDE x SIDE, numbers from -1 to 1; one placeholder per patch."""
    image_processor = CLIPImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return LlavaProcessor(
        image_processor=image_processor, tokenizer=tokenizer, patch_size=shape.patch,
        vision_feature_select_strategy="default", image_token="<image>", num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
