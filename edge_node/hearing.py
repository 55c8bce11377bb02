"""Long and living sound for a model that hears one window at a time: recordings, and speech as it is spoken."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable

import numpy as np
from numpy.typing import NDArray

from edge_node.given import SoundSource
from edge_node.listening import Ask, Heard, listen
from edge_node.media import read_file
from edge_node.segments import Segmenter
from wire.errors import BadInput
from wire.limits import MAX_SOUND_BYTES
from wire.manifest import Manifest
from wire.media.sounds import Sound, read_sound, sound_of
from wire.sound_preprocessing import SoundPreprocessing

# One channel, piece by piece: as a microphone gives it.
Speech = AsyncIterable[NDArray[np.float32]] | Iterable[NDArray[np.float32]]

# A model that hears sounds of any length still answers sooner about short ones.
_LONGEST_S = 30
_CHUNK_S = 0.1


def sound_rate(manifest: Manifest) -> int:
    """Samples a second of what a model hears; raises BadInput where it hears nothing."""
    return _recipe(manifest).sample_rate_hz


def hear(
    ask: Ask, manifest: Manifest, speech: Speech, rate_hz: int, every_s: float
) -> AsyncGenerator[Heard, None]:
    """What is heard of speech that comes at `rate_hz`; raises BadInput for a model that hears nothing."""
    to_hz = sound_rate(manifest)
    segmenter = Segmenter(to_hz, _longest(manifest))
    return listen(ask, _each(speech), segmenter, from_hz=rate_hz, to_hz=to_hz, every_s=every_s)


def read_recording(source: SoundSource) -> Sound:
    """A recording, whole and at its own rate; raises BadInput or TooLarge."""
    if isinstance(source, Sound):
        return source
    if isinstance(source, tuple):
        return sound_of(*source)
    if isinstance(source, bytes):
        return read_sound(source)
    return read_sound(read_file(source, "sound", MAX_SOUND_BYTES), str(source))


def pieces(sound: Sound, chunk_s: float = _CHUNK_S) -> Iterable[NDArray[np.float32]]:
    """A recording as if it came from a microphone: one channel, piece by piece."""
    mono = sound.samples.mean(0, dtype=np.float32)
    step = max(1, round(chunk_s * sound.sample_rate_hz))
    return (mono[at : at + step] for at in range(0, len(mono), step))


def _recipe(manifest: Manifest) -> SoundPreprocessing:
    recipe = manifest.of("audio")[0].preprocessing
    if not isinstance(recipe, SoundPreprocessing):
        raise BadInput(f"model {manifest.model} hears nothing")
    return recipe


def _longest(manifest: Manifest) -> int:
    """Samples of one question: what is listed, else the window, else half a minute."""
    listed = [chain.input_shape.samples for chain in manifest.of("audio")]
    recipe = _recipe(manifest)
    most = max((samples for samples in listed if samples is not None), default=0)
    return most or recipe.window_samples or _LONGEST_S * recipe.sample_rate_hz


async def _each(speech: Speech) -> AsyncIterator[NDArray[np.float32]]:
    if isinstance(speech, AsyncIterable):
        async for samples in speech:
            yield samples
        return
    for samples in speech:
        yield samples
