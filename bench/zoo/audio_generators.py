"""Generators with an audio encoder: tiny random checkpoints of three families, with their own processors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from transformers import WhisperFeatureExtractor

from bench.zoo.settings import AUDIO, decoder
from bench.zoo.tokenizers import chat_template, make_tokenizer
from bench.zoo.weights import save

# Seconds of sound in one window, and the places that the encoder's convolutions leave of them.
WINDOW_S = 2
_POSITIONS = WINDOW_S * 50
# The id that the processor reads the placeholder from, whatever the tokenizer.
_VOXTRAL_AUDIO_ID = 24


def _extractor(window_s: int) -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(feature_size=AUDIO["num_mel_bins"], chunk_length=window_s)


def _qwen2_audio(folder: Path) -> Path:
    """One window, padded; a mask says how much of it is sound, and so how many tokens it becomes."""
    tokens = {
        "audio_token": "<|AUDIO|>",
        "audio_bos_token": "<|audio_bos|>",
        "audio_eos_token": "<|audio_eos|>",
    }
    tokenizer = make_tokenizer(tokens)
    model = _model(
        "Qwen2Audio", audio_config={**_encoder("encoder_"), "max_source_positions": _POSITIONS},
        text_config=decoder("qwen2"), audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )  # fmt: skip
    processor = transformers.Qwen2AudioProcessor(
        feature_extractor=_extractor(WINDOW_S), tokenizer=tokenizer,
        chat_template=chat_template("<|audio_bos|><|AUDIO|><|audio_eos|>", "audio"),
    )  # fmt: skip
    return save(folder, model, processor)


def _audioflamingo3(folder: Path) -> Path:
    """As many windows as the sound is long; masks as above."""
    tokenizer = make_tokenizer({"audio_token": "<sound>"})
    model = _model(
        "AudioFlamingo3", audio_config={**_encoder("num_"), "max_source_positions": _POSITIONS},
        text_config=decoder("qwen2"), audio_token_id=tokenizer.convert_tokens_to_ids("<sound>"),
    )  # fmt: skip
    processor = transformers.AudioFlamingo3Processor(
        feature_extractor=_extractor(WINDOW_S), tokenizer=tokenizer,
        chat_template=chat_template("<sound>", "audio"),
    )  # fmt: skip
    return save(folder, model, processor)


def _voxtral(folder: Path) -> Path:
    """Windows of 30 s, always padded to whole ones and never masked: that length stands in its processor's class."""
    fillers = [f"<filler_{index}>" for index in range(_VOXTRAL_AUDIO_ID - 3)]
    tokenizer = make_tokenizer({}, [*fillers, "[AUDIO]"], chat_template=chat_template("[AUDIO]", "audio"))
    assert tokenizer.convert_tokens_to_ids("[AUDIO]") == _VOXTRAL_AUDIO_ID
    # Four neighbouring places become one token, so that the projector is as wide as they are together.
    encoder = {**_encoder("num_"), "intermediate_size": 4 * AUDIO["width"], "max_source_positions": 1500}
    model = _model(
        "Voxtral", audio_config=encoder, text_config={**decoder("llama"), "head_dim": 8},
        audio_token_id=_VOXTRAL_AUDIO_ID,
    )  # fmt: skip
    processor = transformers.VoxtralProcessor(feature_extractor=_extractor(30), tokenizer=tokenizer)
    return save(folder, model, processor)


def _model(stem: str, **settings: Any) -> Any:
    config = getattr(transformers, f"{stem}Config")(tie_word_embeddings=False, **settings)
    return getattr(transformers, f"{stem}ForConditionalGeneration")(config)


def _encoder(prefix: str) -> dict[str, Any]:
    """The encoder's settings, under the names that the family has for them."""
    width, layers, heads = AUDIO["width"], AUDIO["layers"], AUDIO["heads"]
    named = {
        "encoder_": {
            "d_model": width, "encoder_layers": layers, "encoder_attention_heads": heads, "encoder_ffn_dim": 2 * width
        },
        "num_": {
            "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
            "intermediate_size": 2 * width,
        },
    }  # fmt: skip
    return {"num_mel_bins": AUDIO["num_mel_bins"], **named[prefix]}


MAKERS: dict[str, Callable[[Path], Path]] = {
    "qwen2_audio": _qwen2_audio,
    "audioflamingo3": _audioflamingo3,
    "voxtral": _voxtral,
}
