"""The model's own processor, taken apart: the prompt's half for the cloud, the picture's half as a recipe.

The cloud never sees the picture: it runs the processor on a blank picture of the real one's size and keeps
everything but the pixels. The device never runs the processor: it follows a recipe of plain steps.
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch
from PIL import Image
from torch import Tensor

from wire.errors import BadInput
from wire.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    Normalize,
    Rescale,
    Resize,
    ResizeShortestEdge,
)


class Processing:
    """One checkpoint's processor, for one picture and one prompt. Raises BadInput for one of another kind."""

    def __init__(self, processor: Any) -> None:
        parts = ("image_processor", "tokenizer", "image_token")
        missing = [part for part in parts if getattr(processor, part, None) is None]
        if missing:
            raise BadInput(
                f"the processor ({type(processor).__name__}) has no {' and no '.join(missing)}; use a checkpoint "
                "whose processor takes pictures and text"
            )
        self._processor = processor

    @property
    def tokenizer(self) -> Any:
        return self._processor.tokenizer

    def chat(self, prompt: str) -> str:
        """The prompt and one picture in the model's own chat template, as text.

        Raises BadInput where the prompt holds the placeholder that stands for the picture.
        """
        placeholder = str(self._processor.image_token)
        if placeholder in prompt:
            raise BadInput(f"the prompt holds {placeholder!r}, which stands for the picture; ask without it")
        if not self._processor.chat_template:
            return f"{placeholder}\n{prompt}"
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        messages = [{"role": "user", "content": content}]
        return str(self._processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def whole(self, prompt: str, picture: Image.Image) -> dict[str, Tensor]:
        """All inputs of the whole model, batch 1."""
        return dict(self._processor(text=self.chat(prompt), images=picture, return_tensors="pt"))

    def prompt_inputs(self, prompt: str, width: int, height: int) -> dict[str, Tensor]:
        """All inputs but the pixels, from a blank picture of that size: ids, masks, token types, grids."""
        blank = Image.new("RGB", (width, height))
        return {
            key: value for key, value in self.whole(prompt, blank).items() if not self.is_content(key, value)
        }

    def encoder_inputs(self, picture: Image.Image) -> dict[str, Tensor]:
        """What the image processor alone gives for a picture, batch 1: pixels, and grids or sizes where it has any."""
        return dict(self._processor.image_processor(images=picture, return_tensors="pt"))

    def is_content(self, key: str, value: Tensor) -> bool:
        """Whether an input holds the picture itself: a float tensor that the image processor makes."""
        return key in self._processor.image_processor.model_input_names and torch.is_floating_point(value)

    def recipe(self) -> ImagePreprocessing:
        """The image processor as plain steps, read off its settings; whoever relies on it checks that it is equal.

        Raises BadInput for a setting that no step expresses.
        """
        try:
            recipe = ImagePreprocessing(steps=_steps(self._processor.image_processor))
            recipe.digest()  # checks every step's values
        except (AttributeError, TypeError, msgspec.ValidationError) as error:
            raise BadInput(
                f"the image processor has settings that no preprocessing step expresses ({error}); use a "
                "checkpoint whose processor resizes to a fixed size"
            ) from error
        return recipe


def _steps(settings: Any) -> list[Any]:
    steps: list[Any] = []
    if settings.do_resize:
        steps.append(_resize(settings))
    if getattr(settings, "do_center_crop", False):
        steps.append(CenterCrop(height=settings.crop_size.height, width=settings.crop_size.width))
    if settings.do_rescale:
        steps.append(Rescale(factor=float(settings.rescale_factor)))
    if settings.do_normalize:
        mean, std = (list(map(float, values)) for values in (settings.image_mean, settings.image_std))
        steps.append(Normalize(mean=mean, std=std))
    return steps


def _resize(settings: Any) -> Resize | ResizeShortestEdge:
    size, resample = settings.size, int(settings.resample)
    if size.height and size.width:
        return Resize(height=size.height, width=size.width, resample=resample)
    if size.shortest_edge:
        return ResizeShortestEdge(
            shortest_edge=size.shortest_edge, longest_edge=size.longest_edge, resample=resample
        )
    raise BadInput(
        f"the image processor resizes to {dict(size)}, and only a fixed height and width or a shortest edge is "
        "served; use a checkpoint with such a processor"
    )
