"""Generators with an image encoder: tiny random checkpoints of ten families, with their own processors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedTokenizerFast

from bench.zoo.settings import CLIP_VISION, DECODER, IMAGE_SIZE, PATCH_SIZE, SIGLIP_VISION, VISION, decoder
from bench.zoo.tokenizers import chat_template, make_tokenizer
from bench.zoo.weights import save, save_parts

_IMAGE = {"image_token": "<image>"}
_SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
_QWEN_TOKENS = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
_QWEN_OTHERS = ["<|vision_start|>", "<|vision_end|>"]
_QWEN_PLACEHOLDER = "<|vision_start|><|image_pad|><|vision_end|>"
_QWEN_VISION = {"depth": 3, "num_heads": 4, "patch_size": 8}
_MROPE = {"rope_type": "default", "mrope_section": [1, 1, 2]}


def _model(stem: str, **settings: Any) -> Any:
    config = getattr(transformers, f"{stem}Config")(tie_word_embeddings=False, **settings)
    return getattr(transformers, f"{stem}ForConditionalGeneration")(config)


def _processor(name: str, **parts: Any) -> Any:
    return getattr(transformers, f"{name}Processor")(**parts)


def _image_processor(stem: str, **settings: Any) -> Any:
    return getattr(transformers, f"{stem}ImageProcessorPil")(**settings)


def _id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    return int(tokenizer.convert_tokens_to_ids(token))


def _llava(folder: Path) -> Path:
    tokenizer = make_tokenizer(_IMAGE)
    model = _model(
        "Llava", vision_config=CLIP_VISION, text_config=decoder("llama"),
        image_token_index=_id(tokenizer, "<image>"),
    )  # fmt: skip
    processor = _processor(
        "Llava", image_processor=_image_processor("CLIP", size=_SQUARE, do_center_crop=False), tokenizer=tokenizer,
        patch_size=PATCH_SIZE, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=chat_template("<image>"),
    )  # fmt: skip
    return save(folder, model, processor)


def _llava_next(folder: Path) -> Path:
    """Several tiles and an overview, by the picture's shape, and a learned vector at the end of every row."""
    tokenizer = make_tokenizer(_IMAGE)
    pinpoints = [[side * IMAGE_SIZE, other * IMAGE_SIZE] for side, other in ((1, 2), (2, 1), (2, 2))]
    model = _model(
        "LlavaNext", vision_config=CLIP_VISION, text_config=decoder("llama"), image_grid_pinpoints=pinpoints,
        image_token_index=_id(tokenizer, "<image>"),
    )  # fmt: skip
    pictures = _image_processor(
        "LlavaNext", size={"shortest_edge": IMAGE_SIZE}, crop_size=_SQUARE, image_grid_pinpoints=pinpoints
    )
    processor = _processor(
        "LlavaNext", image_processor=pictures, tokenizer=tokenizer, patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=chat_template("<image>"),
    )  # fmt: skip
    return save(folder, model, processor)


def _smolvlm(folder: Path) -> Path:
    """Up to 2 x 2 tiles and an overview, by the picture's shape."""
    named = {**_IMAGE, "fake_image_token": "<fake_token_around_image>", "global_image_token": "<global-img>"}
    named["end_of_utterance_token"] = "<end_of_utterance>"
    rows = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    tokenizer = make_tokenizer(named, rows, chat_template=chat_template("<image>"))
    model = _model(
        "SmolVLM", vision_config=VISION, text_config=decoder("llama"), scale_factor=2,
        image_token_id=_id(tokenizer, "<image>"),
    )  # fmt: skip
    pictures = _image_processor(
        "SmolVLM", size={"longest_edge": 2 * IMAGE_SIZE}, max_image_size={"longest_edge": IMAGE_SIZE}
    )
    save(folder, model, tokenizer, pictures)
    save_parts(folder, "SmolVLMProcessor", {"image_seq_len": 4}, "SmolVLMVideoProcessor")
    return folder


def _paligemma(folder: Path) -> Path:
    """Its processor adds 1,152 tokens for places and masks to the tokenizer."""
    tokenizer = make_tokenizer(_IMAGE)
    pictures = _image_processor("Siglip", size=_SQUARE)
    pictures.image_seq_length = 16
    processor = _processor(
        "PaliGemma", image_processor=pictures, tokenizer=tokenizer, chat_template=chat_template("<image>")
    )
    text = {**decoder("gemma"), "head_dim": 8, "vocab_size": len(tokenizer)}
    model = _model(
        "PaliGemma", vision_config=SIGLIP_VISION, text_config=text, projection_dim=DECODER["hidden_size"],
        image_token_index=_id(tokenizer, "<image>"),
    )  # fmt: skip
    return save(folder, model, processor)


def _gemma3(folder: Path) -> Path:
    named = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    tokenizer = make_tokenizer(named)
    tokens = {f"{key}_index": _id(tokenizer, value) for key, value in named.items()}
    text = {
        **DECODER,
        "head_dim": 8,
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 16,
    }
    model = _model("Gemma3", vision_config=VISION, text_config=text, mm_tokens_per_image=4, **tokens)
    processor = _processor(
        "Gemma3", image_processor=_image_processor("Gemma3", size=_SQUARE), tokenizer=tokenizer,
        image_seq_length=4, chat_template=chat_template("<start_of_image>"),
    )  # fmt: skip
    return save(folder, model, processor)


def _internvl(folder: Path) -> Path:
    """One to four tiles, and an overview where there are several, by the picture's shape."""
    named = {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }  # fmt: skip
    tokenizer = make_tokenizer(named, chat_template=chat_template("<IMG_CONTEXT>"))
    vision = {**VISION, "image_size": [IMAGE_SIZE] * 2, "patch_size": [PATCH_SIZE] * 2}
    model = _model(
        "InternVL", vision_config=vision, text_config=decoder("qwen2"), image_seq_length=4,
        image_token_id=_id(tokenizer, "<IMG_CONTEXT>"),
    )  # fmt: skip
    pictures = _image_processor("GotOcr2", size=_SQUARE, crop_to_patches=True, min_patches=1, max_patches=4)
    save(folder, model, tokenizer, pictures)
    save_parts(folder, "InternVLProcessor", {"image_seq_length": 4}, "InternVLVideoProcessor")
    return folder


def _qwen(folder: Path, stem: str, vision: dict[str, Any], video_processor: str, **text: Any) -> Path:
    """Patches of any grid: the picture keeps its shape, between a least and a largest number of pixels."""
    tokenizer = make_tokenizer(_QWEN_TOKENS, _QWEN_OTHERS, chat_template=chat_template(_QWEN_PLACEHOLDER))
    tokens = {
        "image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>",
    }  # fmt: skip
    model = _model(
        stem, vision_config={**_QWEN_VISION, **vision},
        text_config={**DECODER, "rope_parameters": _MROPE, **text},
        **{key: _id(tokenizer, token) for key, token in tokens.items()},
    )  # fmt: skip
    pictures = _image_processor(
        "Qwen2VL", patch_size=8, merge_size=2, min_pixels=32 * 32, max_pixels=IMAGE_SIZE * IMAGE_SIZE
    )
    save(folder, model, tokenizer, pictures)
    save_parts(folder, type(model).__name__.split("For")[0] + "Processor", {}, video_processor)
    return folder


def _qwen2_vl(folder: Path) -> Path:
    vision = {"embed_dim": 32, "hidden_size": DECODER["hidden_size"], "mlp_ratio": 2}
    return _qwen(folder, "Qwen2VL", vision, "Qwen2VLVideoProcessor")


def _qwen2_5_vl(folder: Path) -> Path:
    """Attention within windows of the picture, all but one layer."""
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": DECODER["hidden_size"], "window_size": 32,
        "fullatt_block_indexes": [1],
    }  # fmt: skip
    return _qwen(folder, "Qwen2_5_VL", vision, "Qwen2VLVideoProcessor")


def _qwen3_vl(folder: Path) -> Path:
    """Features of several of the encoder's layers go into several of the decoder's."""
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": DECODER["hidden_size"],
        "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64,
    }  # fmt: skip
    return _qwen(folder, "Qwen3VL", vision, "Qwen3VLVideoProcessor", head_dim=8)


MAKERS: dict[str, Callable[[Path], Path]] = {
    "llava": _llava, "llava_next": _llava_next, "smolvlm": _smolvlm, "paligemma": _paligemma, "gemma3": _gemma3,
    "internvl": _internvl, "qwen2_vl": _qwen2_vl, "qwen2_5_vl": _qwen2_5_vl, "qwen3_vl": _qwen3_vl,
}  # fmt: skip
