"""Made-up recordings (a tone per digit), and a trainer that takes milliseconds a step."""

from __future__ import annotations

import io
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from training.speech.batches import Mixture, Source
from training.speech.model import Shape
from training.speech.recordings import SAMPLING_RATE, read_recordings
from training.speech.strings import clips_of
from training.speech.tokenizer import make_tokenizer
from training.speech.trainer import Schedule, Trainer

SHAPE = Shape(num_mels=16, width=16, encoder_layers=1, decoder_layers=1, heads=2)
SCHEDULE = Schedule(steps=5, encoder_steps=2, warmup_steps=2, batch_size=2, rate=1e-2)
INDICES = (0, 4, 5, 9, 10, 49)


def wave_file(samples: np.ndarray, rate: int = SAMPLING_RATE) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def tone(digit: int, seconds: float = 0.3) -> np.ndarray:
    time_s = np.arange(round(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    return 0.3 * np.sin(2 * np.pi * (300 + 200 * digit) * time_s)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fsdd") / "recordings.zip"
    with zipfile.ZipFile(path, "w") as files:
        files.writestr("README.md", "made up")
        for digit in range(10):
            for speaker in ("ann", "bob"):
                for index in INDICES:
                    files.writestr(f"recordings/{digit}_{speaker}_{index}.wav", wave_file(tone(digit)))
    return path


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture
def make_trainer(tokenizer: PreTrainedTokenizerFast, archive: Path) -> Callable[[], Trainer]:
    clips = clips_of(read_recordings(archive, "train"))
    return lambda: Trainer(Mixture(SHAPE, tokenizer, [Source(clips, 1.0)]), SCHEDULE)
