"""How well a model hears: word error rate per set, language and speaker, through its own processor and `generate`.

    python -m training.speech.evaluate --model assets/speech --fsdd ZIP

The sounds are fsdd's official test recordings: alone, just as they are, and in strings of one speaker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jiwer
import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from transformers import AutoProcessor, WhisperForConditionalGeneration

from training.speech.recordings import SAMPLING_RATE, Recording, Samples, Split, read_recordings
from training.speech.strings import Manner, clips_of, draw, join
from training.speech.words import LANGUAGES, Language, text_of

SINGLE, STRINGS, NOISY = "single", "strings", "strings in noise"
_QUIET = Manner(edge_s=(0.1, 0.5), pause_s=(0.05, 0.4), level_db=(-40, -15), clip_gain_db=2, noise_share=0)
_LOUD = Manner(
    edge_s=(0.1, 0.5),
    pause_s=(0.05, 0.4),
    level_db=(-40, -15),
    clip_gain_db=2,
    noise_share=1,
    snr_db=(10, 20),
)
_STRINGS_PER_LENGTH = 10  # for each speaker
_LENGTHS = range(2, 7)
_BATCH = 50
TASK: dict[Language, str] = {"en": "transcribe", "fr": "translate", "zh": "translate"}


@dataclass(frozen=True, slots=True)
class Sound:
    """What is heard, who says it, and the digits that are said."""

    kind: str
    speaker: str
    digits: tuple[int, ...]
    samples: Samples


@dataclass(frozen=True, slots=True)
class Row:
    """Word errors of one kind of sound, one language and one speaker."""

    kind: str
    language: Language
    speaker: str
    num_words: int
    num_errors: int  # words replaced, left out or put in

    @property
    def error_rate(self) -> float:
        return self.num_errors / self.num_words


@dataclass(frozen=True, slots=True)
class Report:
    """All rows; `error_rate` over those that match."""

    rows: tuple[Row, ...]

    def error_rate(self, kind: str, language: Language, speaker: str | None = None) -> float:
        found = [
            row for row in self.rows
            if (row.kind, row.language) == (kind, language) and speaker in (None, row.speaker)
        ]  # fmt: skip
        return sum(row.num_errors for row in found) / sum(row.num_words for row in found)

    @property
    def speakers(self) -> list[str]:
        return sorted({row.speaker for row in self.rows})

    @property
    def kinds(self) -> list[str]:
        return list(dict.fromkeys(row.kind for row in self.rows))


def sounds_of(recordings: Sequence[Recording], per_length: int = _STRINGS_PER_LENGTH) -> list[Sound]:
    """Every recording alone, then strings of one speaker's recordings; the same ones for the same arguments."""
    sounds = [Sound(SINGLE, one.speaker, (one.digit,), one.samples) for one in recordings]
    for kind, manner in ((STRINGS, _QUIET), (NOISY, _LOUD)):
        for speaker in sorted({one.speaker for one in recordings}):
            clips = clips_of(one for one in recordings if one.speaker == speaker)
            rng = np.random.default_rng([len(kind), *speaker.encode()])
            for length in [length for length in _LENGTHS for _ in range(per_length)]:
                spoken = join(draw(clips, length, rng), manner, rng)
                sounds.append(Sound(kind, speaker, spoken.digits, spoken.samples))
    return sounds


def written(
    model: Any, processor: Any, sounds: Sequence[Samples], language: Language, task: str
) -> Iterator[str]:
    """Greedy text of each sound."""
    for first in range(0, len(sounds), _BATCH):
        inputs = processor(
            list(sounds[first : first + _BATCH]), sampling_rate=SAMPLING_RATE, return_tensors="pt"
        )
        with torch.no_grad():
            tokens = model.generate(inputs.input_features, language=language, task=task)
        yield from processor.batch_decode(tokens, skip_special_tokens=True)


def report(
    model: Any, processor: Any, sounds: Sequence[Sound], languages: Sequence[Language],
    advance: Callable[[int], None] = lambda _: None,
) -> Report:  # fmt: skip
    counted: dict[tuple[str, Language, str], tuple[int, int]] = {}
    for language in languages:
        texts = written(model, processor, [one.samples for one in sounds], language, TASK[language])
        for sound, text in zip(sounds, texts, strict=True):
            key = (sound.kind, language, sound.speaker)
            words, errors = counted.get(key, (0, 0))
            counted[key] = (
                words + len(sound.digits), errors + num_word_errors(text_of(sound.digits, language), text)
            )  # fmt: skip
            advance(1)
    return Report(tuple(Row(*key, words, errors) for key, (words, errors) in counted.items()))


def num_word_errors(expected: str, got: str) -> int:
    found = jiwer.process_words(expected, got)
    return found.substitutions + found.deletions + found.insertions


def evaluate(
    model_dir: Path, fsdd_zip: Path, *, split: Split = "test", num_strings: int = _STRINGS_PER_LENGTH,
    advance: Callable[[int], None] = lambda _: None,
) -> Report:  # fmt: skip
    """The committed figures: a checkpoint on fsdd's official test recordings, in every language; `num_strings`
    of each length for each speaker."""
    model = WhisperForConditionalGeneration.from_pretrained(model_dir, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(model_dir)
    sounds = sounds_of(read_recordings(fsdd_zip, split), num_strings)
    return report(model, processor, sounds, LANGUAGES, advance)


def table_of(found: Report) -> Table:
    table = Table("sounds", "language", *found.speakers, "all", title="word error rate, %")
    for kind in found.kinds:
        for language in LANGUAGES:
            rates = [found.error_rate(kind, language, speaker) for speaker in (*found.speakers, None)]
            table.add_row(kind, language, *(f"{100 * rate:.2f}" for rate in rates))
    return table


def main(
    model: Annotated[Path, typer.Option(help="The checkpoint, in Hugging Face format.")],
    fsdd: Annotated[Path, typer.Option(help="fsdd's recordings, as one zip.")],
) -> None:
    """Measure word error rates on the official test recordings."""
    with Progress() as bars:
        bar = bars.add_task("listening", total=None)
        found = evaluate(model, fsdd, advance=lambda count: bars.advance(bar, count))
    Console(width=140).print(table_of(found))


if __name__ == "__main__":
    typer.run(main)
