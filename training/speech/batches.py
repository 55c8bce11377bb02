"""Batches: strings from every source as log-mel features, with the words of all three languages to write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from training.speech.model import STRIDE, Shape, make_processor
from training.speech.recordings import SAMPLING_RATE
from training.speech.strings import Clip, Manner, Spoken, draw, join
from training.speech.tokenizer import TASKS, prompt_ids
from training.speech.words import LANGUAGES, Language, text_of

IGNORED = -100
NOTHING = 10  # after the ten digits
_MOST_DIGITS = (2, 4, 6, 8)  # of a batch's strings, drawn for each batch: short batches are cheap
_FULL_EVERY = 6  # batches: padded to the whole window, as `generate` does it
_PADDED_TO = 2000  # samples, a multiple of
# The task that a language is asked for with; the other one, now and then, must not matter.
_USUAL_TASK: dict[Language, str] = {"en": "transcribe", "fr": "translate", "zh": "translate"}
_UNUSUAL_SHARE = 0.2
_MASKS_OF_MELS = (2, 6)  # SpecAugment (arXiv:1904.08779): how many, and how wide at most
_MASKS_OF_FRAMES = (2, 5)
_TILT = 0.15  # of the spectrum's level from end to end, in units of the features


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from. Row 3 * i + j of the texts is sound i in language j."""

    features: Tensor  # [batch, mels, frames] float32, as many frames as the longest sound needs
    inputs: Tensor  # [3 * batch, T] int64, prompt and words
    labels: Tensor  # [3 * batch, T] int64, words and end; IGNORED elsewhere
    placed: (
        Tensor  # [batch, positions] int64, the digit that is being said, or NOTHING; IGNORED where unknown
    )


@dataclass(frozen=True, slots=True)
class Source:
    """Clips that may stand in one string, and how often they do."""

    clips: Sequence[Clip]
    share: float


@dataclass(frozen=True, slots=True)
class Mixture:
    """How a batch is put together."""

    shape: Shape
    tokenizer: PreTrainedTokenizerFast
    sources: Sequence[Source]
    manner: Manner = Manner()  # noqa: RUF009  (frozen)

    def batch(self, seed: int, size: int, longest: int = _MOST_DIGITS[-1]) -> Batch:
        """The batch of a seed, always the same one: a resumed run sees what an uninterrupted one would."""
        rng = np.random.default_rng(seed)
        longest = min(longest, int(rng.choice(_MOST_DIGITS)))
        spoken = [self._spoken(rng, longest) for _ in range(size)]
        features = self._features(spoken, is_full=seed % _FULL_EVERY == 0)
        inputs, labels = self._texts(spoken, rng)
        placed = [self._placed(one, features.shape[2] // STRIDE) for one in spoken]
        return Batch(_varied(features, rng), inputs, labels, torch.stack(placed))

    def _spoken(self, rng: np.random.Generator, longest: int) -> Spoken:
        shares = np.array([source.share for source in self.sources])
        source = self.sources[int(rng.choice(len(self.sources), p=shares / shares.sum()))]
        return join(draw(source.clips, _num_digits(rng, longest), rng), self.manner, rng)

    def _features(self, spoken: Sequence[Spoken], *, is_full: bool) -> Tensor:
        extractor = make_processor(self.shape, self.tokenizer).feature_extractor
        features: Tensor = extractor(
            [one.samples for one in spoken], sampling_rate=SAMPLING_RATE, return_tensors="pt",
            padding="max_length" if is_full else "longest", pad_to_multiple_of=_PADDED_TO,
        ).input_features  # fmt: skip
        return features

    def _placed(self, spoken: Spoken, num_positions: int) -> Tensor:
        """A phrase of several digits does not say where each of them is."""
        placed = torch.full((num_positions,), NOTHING)
        samples_each = self.shape.hop_samples * STRIDE
        for said in spoken.said:
            digit = said.digits[0] if len(said.digits) == 1 else IGNORED
            placed[round(said.start / samples_each) : round(said.end / samples_each)] = digit
        return placed

    def _texts(self, spoken: Sequence[Spoken], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        inputs, labels = [], []
        for one in spoken:
            for language in LANGUAGES:
                prompt = prompt_ids(self.tokenizer, language, _task(language, rng))
                words = self.tokenizer.encode(text_of(one.digits, language), add_special_tokens=False)
                inputs.append(torch.tensor([*prompt, *words]))
                nothing = [IGNORED] * (len(prompt) - 1)
                labels.append(torch.tensor([*nothing, *words, self.tokenizer.eos_token_id]))
        pad = torch.nn.utils.rnn.pad_sequence
        return (
            pad(inputs, batch_first=True, padding_value=self.tokenizer.pad_token_id),
            pad(labels, batch_first=True, padding_value=IGNORED),
        )


def _num_digits(rng: np.random.Generator, longest: int) -> int:
    """One digit in a fifth of the sounds, none in a few, else any number."""
    kind = rng.random()
    if kind < 0.03:
        return 0
    return 1 if kind < 0.2 else int(rng.integers(1, longest + 1))


def _task(language: Language, rng: np.random.Generator) -> str:
    usual = _USUAL_TASK[language]
    other = next(task for task in TASKS if task != usual)
    return other if rng.random() < _UNUSUAL_SHARE else usual


def _varied(features: Tensor, rng: np.random.Generator) -> Tensor:
    """As if through other microphones, with bands and moments lost."""
    size, mels, frames = features.shape
    slopes = torch.from_numpy(rng.uniform(-_TILT, _TILT, (size, 1, 1))).float()
    varied = features + slopes * torch.linspace(-1, 1, mels)[None, :, None]
    for row in range(size):
        lowest = float(varied[row].min())
        for _ in range(_MASKS_OF_MELS[0]):
            first, width = rng.integers(mels), rng.integers(_MASKS_OF_MELS[1] + 1)
            varied[row, first : first + width] = lowest
        for _ in range(_MASKS_OF_FRAMES[0]):
            first, width = rng.integers(frames), rng.integers(_MASKS_OF_FRAMES[1] + 1)
            varied[row, :, first : first + width] = lowest
    return varied
