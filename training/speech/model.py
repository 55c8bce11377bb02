"""The speech model's shape: a small Whisper that hears 8 kHz; and its processor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from training.speech.recordings import SAMPLING_RATE
from training.speech.strings import MOST_SECONDS
from training.speech.tokenizer import NO_TIMESTAMPS, START, TASKS, language_token, task_token
from training.speech.words import LANGUAGES

STRIDE = 2  # of Whisper's second convolution
_MOST_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the speech model; tests train a smaller one."""

    num_mels: int = 64  # Whisper's filters end at 8 kHz: those above 4 kHz hear nothing
    window_samples: int = 400
    hop_samples: int = 250
    width: int = 128
    encoder_layers: int = 4
    decoder_layers: int = 2
    heads: int = 4
    dropout: float = 0.0

    @property
    def num_positions(self) -> int:
        """What the encoder gives for MOST_SECONDS."""
        return MOST_SECONDS * SAMPLING_RATE // self.hop_samples // STRIDE


def make_model(
    shape: Shape, tokenizer: PreTrainedTokenizerFast, seed: int
) -> WhisperForConditionalGeneration:
    """A model with fresh weights, the same for the same seed."""
    torch.manual_seed(seed)
    start = int(tokenizer.convert_tokens_to_ids(START))
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=shape.num_mels, d_model=shape.width,
        encoder_layers=shape.encoder_layers, decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.heads, decoder_attention_heads=shape.heads,
        encoder_ffn_dim=4 * shape.width, decoder_ffn_dim=4 * shape.width, dropout=shape.dropout,
        max_source_positions=shape.num_positions, max_target_positions=_MOST_TOKENS,
        # Whisper's 0.02 suits wide layers: in narrow ones the sound would drown in the positions.
        init_std=shape.width**-0.5,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=start, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    # On a CPU the fused attention's backward pass is the slower one; what is saved does not name either.
    model.set_attn_implementation("eager")
    model.generation_config = _generation_config(tokenizer, start)
    return model


def _generation_config(tokenizer: PreTrainedTokenizerFast, start: int) -> GenerationConfig:
    """What `generate` needs to take `language` and `task`; English words if it is given neither."""
    ids = tokenizer.convert_tokens_to_ids
    return GenerationConfig(
        decoder_start_token_id=start, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, max_length=_MOST_TOKENS, is_multilingual=True,
        lang_to_id={token: ids(token) for token in map(language_token, LANGUAGES)},
        task_to_id={task: ids(task_token(task)) for task in TASKS},
        no_timestamps_token_id=ids(NO_TIMESTAMPS), return_timestamps=False, language="en", task="transcribe",
    )  # fmt: skip


def make_processor(shape: Shape, tokenizer: PreTrainedTokenizerFast) -> WhisperProcessor:
    """Sound at SAMPLING_RATE to a log-mel spectrogram of MOST_SECONDS: [num_mels, 2 * num_positions]."""
    extractor = WhisperFeatureExtractor(
        feature_size=shape.num_mels, sampling_rate=SAMPLING_RATE, hop_length=shape.hop_samples,
        chunk_length=MOST_SECONDS, n_fft=shape.window_samples,
    )  # fmt: skip
    return WhisperProcessor(feature_extractor=extractor, tokenizer=tokenizer)
