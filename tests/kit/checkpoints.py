"""Tiny random checkpoints in Hugging Face format, initialised so that the answer depends on every input."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
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

_VOCABULARY = 320
_CHAT_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}\n{% endfor %}"
)


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
            num_key_value_heads=2, vocab_size=_VOCABULARY, max_position_embeddings=512, tie_word_embeddings=False,
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
        chat_template=_CHAT_TEMPLATE,
    ).save_pretrained(folder)
    return folder


def randomise(model: nn.Module, seed: int) -> None:
    """Weights N(0, 1/fan_in), embeddings N(0, 1), no zero tensor: so every input changes the tokens."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
                scale = 1.0 if isinstance(module, nn.Embedding) else fan_in**-0.5
                values = torch.randn(parameter.shape, generator=generator)
                is_gain = parameter.dim() == 1 and name == "weight"
                parameter.copy_(
                    1 + 0.1 * values if is_gain else scale * values if parameter.dim() > 1 else 0.1 * values
                )


def _image_processor(image_size: int, *, crop: bool) -> CLIPImageProcessorPil:
    if crop:
        return CLIPImageProcessorPil(
            size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
        )
    return CLIPImageProcessorPil(size={"height": image_size, "width": image_size}, do_center_crop=False)


def _tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, so that random ids make partial UTF-8 as real ones do."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<pad>", "<s>", "</s>", "<image>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        ["what colour is the circle? the circle is red. how many things are there?"], trainer
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
