"""Tiny random checkpoints in Hugging Face format, initialised so that the answer depends on every input."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from bench.zoo.tokenizers import VOCABULARY, chat_template, make_tokenizer
from bench.zoo.weights import randomise


def tiny_llava(
    folder: Path,
    *,
    layers: int = 3,
    width: int = 32,
    image_size: int = 48,
    patch_size: int = 16,
    vision: str = "clip",
    crop: bool = False,
    feature_layers: list[int] | None = None,
    seed: int = 0,
) -> Path:
    """A LLaVA-class checkpoint of that depth and width; `crop` gives it CLIP's shortest edge and centre crop.

    `feature_layers` are the tower's layers whose outputs are joined; one near the end by default.
    """
    tokenizer = _tokenizer()
    image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    is_clip = vision == "clip"
    kind = CLIPVisionConfig if is_clip else SiglipVisionConfig
    config = LlavaConfig(
        vision_config=kind(
            hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, num_attention_heads=4,
            image_size=image_size, patch_size=patch_size,
        ),
        text_config=LlamaConfig(
            hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, vocab_size=VOCABULARY, max_position_embeddings=512, tie_word_embeddings=False,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
        ),
        image_token_index=image_token_id,
        vision_feature_layer=feature_layers or (-2 if is_clip else -1),
        vision_feature_select_strategy="default" if is_clip else "full",
        tie_word_embeddings=False,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config).eval()
    randomise(model, seed)
    model.save_pretrained(folder)
    LlavaProcessor(
        image_processor=_image_processor(image_size, crop=crop),
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        image_token="<image>",
        num_additional_image_tokens=int(is_clip),
        chat_template=chat_template("<image>"),
    ).save_pretrained(folder)
    return folder


def _image_processor(image_size: int, *, crop: bool) -> CLIPImageProcessorPil:
    if crop:
        return CLIPImageProcessorPil(
            size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
        )
    return CLIPImageProcessorPil(size={"height": image_size, "width": image_size}, do_center_crop=False)


def _tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer({"image_token": "<image>"})
