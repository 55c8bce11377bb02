"""The model's own processor, taken apart: the prompt's half for the cloud, the media's half as recipes.

The cloud never sees a picture or a sound: it runs the processor on blank ones of the same size and keeps everything
but their content. The device never runs the processor: it follows a recipe of plain steps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from splitmodel.loading import one_line
from splitmodel.media import Media, MediaInput, blank
from wire.errors import BadInput
from wire.modality import Modality
from wire.sizes import ImageSize, Size, SoundSize

# What a processor's `__call__` and its chat template name each kind of media.
_CALL_NAMES: dict[Modality, str] = {"image": "images", "audio": "audio"}
_WHAT: dict[Modality, str] = {"image": "picture", "audio": "sound"}


class Processing:
    """One checkpoint's processor; it may have parts for pictures, sounds and text, each None where it has not."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self.image_processor = getattr(processor, "image_processor", None)
        self.feature_extractor = getattr(processor, "feature_extractor", None)
        self.tokenizer = getattr(processor, "tokenizer", None)
        self._wanted: dict[Modality, bool] = {}

    @property
    def takes_prompt(self) -> bool:
        """Whether a prompt goes in with the media, which placeholders in it stand for."""
        return any(self._placeholder(modality) for modality in _CALL_NAMES)

    @property
    def rate_hz(self) -> int:
        """Samples a second of the sounds that it takes; 0 where it takes none."""
        return int(getattr(self.feature_extractor, "sampling_rate", 0))

    def part(self, modality: Modality) -> Any:
        """What prepares media of that modality; raises BadInput where there is nothing."""
        part = {"image": self.image_processor, "audio": self.feature_extractor, "text": self.tokenizer}.get(
            modality
        )
        if part is None:
            raise BadInput(
                f"the processor ({type(self._processor).__name__}) has no part for {modality}; use a checkpoint "
                "whose processor has"
            )
        return part

    def chat(self, prompt: str, kinds: Sequence[Modality]) -> str:
        """The prompt behind one placeholder per input, in the model's own chat template, as text.

        Raises BadInput where the prompt holds a placeholder itself.
        """
        placeholders = {modality: self._placeholder(modality) for modality in _CALL_NAMES}
        for modality, placeholder in placeholders.items():
            if placeholder and placeholder in prompt:
                raise BadInput(
                    f"the prompt holds {placeholder!r}, which stands for the {_WHAT[modality]}; ask without it"
                )
        if not getattr(self._processor, "chat_template", None):
            before = [placeholders[kind] for kind in kinds if self._wants_placeholder(kind)]
            return "\n".join([*before, prompt])
        content = [*({"type": kind} for kind in kinds), {"type": "text", "text": prompt}]
        messages = [{"role": "user", "content": content}]
        return str(self._processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def whole(self, prompt: str, inputs: Sequence[MediaInput]) -> dict[str, Tensor]:
        """All inputs of the whole model, batch 1. Without a prompt to take, those of its one input.

        Raises BadInput where the processor does not take them, as where it reads fewer at once.
        """
        if not self.takes_prompt:
            [only] = inputs
            return self.encoder_inputs(only.modality, only.media)
        arguments: dict[str, Any] = {}
        for modality in dict.fromkeys(one.modality for one in inputs):
            arguments |= self._call(modality, [one.media for one in inputs if one.modality == modality])
        text = self.chat(prompt, [one.modality for one in inputs])
        with _saying_what_is_refused():
            return _tensors(self._processor(text=text, **arguments, return_tensors="pt"))

    def prompt_inputs(
        self, prompt: str, kinds: Sequence[Modality], sizes: Sequence[Size]
    ) -> dict[str, Tensor]:
        """All inputs but the content, from blank media of those sizes: ids, masks, token types, grids."""
        return self.without_content(self.blank_inputs(prompt, kinds, sizes))

    def blank_inputs(
        self, prompt: str, kinds: Sequence[Modality], sizes: Sequence[Size]
    ) -> dict[str, Tensor]:
        """All inputs, of blank media of those sizes."""
        media = [MediaInput(kind, blank(size)) for kind, size in zip(kinds, sizes, strict=True)]
        return self.whole(prompt, media)

    def without_content(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What follows from sizes and prompt alone."""
        parts: list[Modality] = ["image", "audio"]
        return {
            key: value
            for key, value in inputs.items()
            if not any(self.is_content(modality, key, value) for modality in parts)
        }

    def encoder_inputs(self, modality: Modality, media: Media) -> dict[str, Tensor]:
        """What the part for that modality alone gives, batch 1: content, and masks, grids or sizes where it has any."""
        part, settings = self.part(modality), {"return_tensors": "pt"}
        with _saying_what_is_refused():
            match modality:
                case "image":
                    return _tensors(part(images=media, **settings))
                case "audio":
                    return _tensors(part(media, sampling_rate=self.rate_hz, **settings))
                case _:
                    cut = {"padding": "max_length", "max_length": self.text_length, "truncation": True}
                    return _tensors(part(media, **cut, **settings))

    @property
    def text_length(self) -> int:
        """Tokens of every text: as many as the tokenizer says that the model reads."""
        return int(min(self.part("text").model_max_length, 4096))

    def is_content(self, modality: Modality, key: str, value: Tensor) -> bool:
        """Whether an input holds the media themselves: a float tensor that the modality's part makes; a text's ids."""
        part = {"image": self.image_processor, "audio": self.feature_extractor, "text": self.tokenizer}.get(
            modality
        )
        names = getattr(part, "model_input_names", ())
        if modality == "text":
            return key in names
        return key in names and "mask" not in key and torch.is_floating_point(value)

    def _wants_placeholder(self, modality: Modality) -> bool:
        """Whether a placeholder has to be in the text, or the processor puts it there itself: tried once."""
        if modality not in self._wanted:
            one = blank(ImageSize(32, 32) if modality == "image" else SoundSize(self.rate_hz, self.rate_hz))
            try:
                self._processor(
                    text=self._placeholder(modality), **self._call(modality, [one]), return_tensors="pt"
                )
                self._wanted[modality] = True
            except ValueError:
                self._wanted[modality] = False
        return self._wanted[modality]

    def _call(self, modality: Modality, media: list[Media]) -> dict[str, Any]:
        """The arguments by which a processor takes media."""
        settings = {"sampling_rate": self.rate_hz} if modality == "audio" else {}
        return {_CALL_NAMES[modality]: media, **settings}

    def _placeholder(self, modality: Modality) -> str:
        return str(getattr(self._processor, f"{modality}_token", None) or "")


@contextlib.contextmanager
def _saying_what_is_refused() -> Iterator[None]:
    """Processors say what they do not take in whatever Python raises."""
    try:
        yield
    except (ValueError, TypeError, IndexError) as error:
        raise BadInput(
            f"the model's processor does not take these inputs: {one_line(error).rstrip('.')}; ask about others, or "
            "about fewer at once"
        ) from error


def _tensors(batch: Any) -> dict[str, Tensor]:
    return {key: value for key, value in dict(batch).items() if isinstance(value, Tensor)}
