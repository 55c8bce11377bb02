"""Tiny random checkpoints, each with its own processor, of every family that is verified; nothing is downloaded.

This is the one place of ours that names families: it builds them. What serves them never does.
"""

from __future__ import annotations

from pathlib import Path

from bench.zoo import audio_generators, dual_encoders, encoder_decoders, generators

# The families of each shape of model.
NAMES: dict[str, tuple[str, ...]] = {
    "generator": tuple(generators.MAKERS),
    "audio generator": tuple(audio_generators.MAKERS),
    "encoder-decoder": tuple(encoder_decoders.MAKERS),
    "dual encoder": tuple(dual_encoders.MAKERS),
}
# For a quick look: of each shape one, and of the generators one that sees, one that cuts tiles and one that hears.
SAMPLE = ("llava", "internvl", "qwen2_audio", "whisper", "clip")
_MAKERS = {
    **generators.MAKERS,
    **audio_generators.MAKERS,
    **encoder_decoders.MAKERS,
    **dual_encoders.MAKERS,
}


def make(name: str, folder: Path) -> Path:
    """Writes that family's checkpoint into the folder: weights, configs, processor, tokenizer, chat template."""
    return _MAKERS[name](folder)
