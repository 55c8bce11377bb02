"""Encoder-decoders: tiny random checkpoints that hear (two families) and see (two), with their own processors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import transformers
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from bench.zoo.audio_generators import WINDOW_S
from bench.zoo.settings import AUDIO, CONTEXT_TOKENS, DECODER, IMAGE_SIZE, VISION
from bench.zoo.tokenizers import VOCABULARY, make_tokenizer
from bench.zoo.weights import save

_SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
_WIDTH, _LAYERS, _HEADS = AUDIO["width"], AUDIO["layers"], AUDIO["heads"]


def _whisper(folder: Path) -> Path:
    """One window of log-mel frames, padded and never masked."""
    config = transformers.WhisperConfig(
        vocab_size=VOCABULARY, num_mel_bins=AUDIO["num_mel_bins"], d_model=_WIDTH, encoder_layers=_LAYERS,
        decoder_layers=2, encoder_attention_heads=_HEADS, decoder_attention_heads=_HEADS, encoder_ffn_dim=2 * _WIDTH,
        decoder_ffn_dim=2 * _WIDTH, max_source_positions=WINDOW_S * 50, max_target_positions=128,
        tie_word_embeddings=False, suppress_tokens=None, begin_suppress_tokens=None, **_IDS,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config)
    extractor = WhisperFeatureExtractor(feature_size=AUDIO["num_mel_bins"], chunk_length=WINDOW_S)
    processor = transformers.WhisperProcessor(feature_extractor=extractor, tokenizer=make_tokenizer())
    return save(folder, model, processor)


def _moonshine(folder: Path) -> Path:
    """The wave itself, as long as it is, and a mask of ones."""
    config = transformers.MoonshineConfig(
        vocab_size=VOCABULARY, hidden_size=_WIDTH, intermediate_size=2 * _WIDTH, encoder_num_hidden_layers=_LAYERS,
        decoder_num_hidden_layers=2, encoder_num_attention_heads=_HEADS, decoder_num_attention_heads=_HEADS,
        max_position_embeddings=CONTEXT_TOKENS, tie_word_embeddings=False, **_IDS,
    )  # fmt: skip
    model = transformers.MoonshineForConditionalGeneration(config)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    processor = transformers.Wav2Vec2Processor(feature_extractor=extractor, tokenizer=make_tokenizer())
    return save(folder, model, processor)


def _vit_gpt2(folder: Path) -> Path:
    """Two models put together; no processor class, only an image processor and a tokenizer."""
    eye = transformers.ViTConfig(**VISION)
    pen = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=DECODER["hidden_size"], n_layer=2, n_head=4, n_positions=256,
        add_cross_attention=True, is_decoder=True, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(eye, pen)
    config.tie_word_embeddings = False
    for name, token_id in _IDS.items():
        setattr(config, name, token_id)
    model = transformers.VisionEncoderDecoderModel(config=config)
    return save(folder, model, make_tokenizer(), transformers.ViTImageProcessorPil(size=_SQUARE), seed=0)


def _florence2(folder: Path) -> Path:
    """The picture's features and the prompt's embeddings go through the text encoder together."""
    tokenizer = make_tokenizer({"image_token": "<image>"})
    depths = 3
    vision = {
        "depths": [1] * depths, "patch_size": [7] + [3] * (depths - 1), "patch_stride": [4, 2, 2],
        "patch_padding": [3, 1, 1], "patch_prenorm": [False, True, True], "embed_dim": [16, 32, 32],
        "num_heads": [2, 4, 4], "num_groups": [2, 4, 4], "window_size": 4, "drop_path_rate": 0.0,
        "projection_dim": _WIDTH,
    }  # fmt: skip
    text = {
        "model_type": "bart", "vocab_size": len(tokenizer), "d_model": _WIDTH, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": _HEADS, "decoder_attention_heads": _HEADS, "encoder_ffn_dim": 2 * _WIDTH,
        "decoder_ffn_dim": 2 * _WIDTH, "max_position_embeddings": 256, "tie_word_embeddings": False,
        "forced_eos_token_id": None, **_IDS,
    }  # fmt: skip
    config = transformers.Florence2Config(
        vision_config=vision, text_config=text, image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False, **_IDS,
    )  # fmt: skip
    model = transformers.Florence2ForConditionalGeneration(config)
    pictures = transformers.CLIPImageProcessorPil(size=_SQUARE, do_center_crop=False)
    # The places of the last depth, and one token that is their mean.
    pictures.image_seq_length = (IMAGE_SIZE // 16) ** 2 + 1
    return save(folder, model, transformers.Florence2Processor(image_processor=pictures, tokenizer=tokenizer))


MAKERS: dict[str, Callable[[Path], Path]] = {
    "whisper": _whisper,
    "moonshine": _moonshine,
    "vit_gpt2": _vit_gpt2,
    "florence2": _florence2,
}
