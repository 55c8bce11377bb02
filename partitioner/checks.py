"""What a bundle promises about preprocessing and prompts, checked on pictures of five aspect ratios."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from splitmodel.adapters.generator import GeneratorWithEncoders
from splitmodel.processing import Processing
from wire.errors import BadInput
from wire.preprocessing import ImagePreprocessing

Preprocess = Callable[[ImagePreprocessing, Image.Image], NDArray[np.float32]]


def check_one_shape(adapter: GeneratorWithEncoders, pictures: Sequence[Image.Image]) -> None:
    """Raises BadInput for a processor that picks the encoder's input shape per picture."""
    shapes = {tuple(tuple(t.shape) for t in adapter.input_tensors(picture)) for picture in pictures}
    if len(shapes) > 1:
        raise BadInput(
            f"the processor gives pictures of different sizes different input shapes ({len(shapes)} among "
            f"{len(pictures)}), and one shape per model is served; use a processor with a fixed size"
        )
    if any(len(shape) != 1 for shape in shapes):
        raise BadInput("the image encoder takes several picture tensors, and one is served")


def check_preprocessing(
    adapter: GeneratorWithEncoders,
    recipe: ImagePreprocessing,
    preprocess: Preprocess,
    pictures: Sequence[Image.Image],
) -> None:
    """Raises BadInput where the device's preprocessing is not bit-equal to the model's own processor."""
    for picture in pictures:
        reference = adapter.input_tensors(picture)[0].float().cpu().numpy()
        values = preprocess(recipe, picture)
        if values.shape != reference.shape or not np.array_equal(values, reference):
            raise BadInput(
                "the model's image processor does something that the recipe of "
                f"does not express (differs on a {picture.width} x {picture.height} picture); this model cannot be "
                "partitioned"
            )


def check_prompts(processing: Processing, pictures: Sequence[Image.Image], prompt: str) -> None:
    """Raises BadInput where a blank picture's ids and masks are not the real picture's."""
    for picture in pictures:
        blank = processing.prompt_inputs(prompt, picture.width, picture.height)
        real = {k: v for k, v in processing.whole(prompt, picture).items() if not processing.is_content(k, v)}
        if blank.keys() != real.keys() or any(not torch.equal(blank[key], real[key]) for key in real):
            raise BadInput(
                f"the prompt's ids or masks depend on what a {picture.width} x {picture.height} picture shows, not on "
                "its size alone; this model cannot be served split"
            )
