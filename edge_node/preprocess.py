"""Preprocessing: from media to the tensors at split point 0, as a bundle's recipe says, of whichever modality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_node.picture_steps import picture_tensor
from edge_node.sound_features import sound_features
from edge_node.text import text_tensors
from wire.chain_entries import Preprocessing
from wire.errors import BadInput, CleaveError
from wire.preprocessing import ImagePreprocessing
from wire.sound_preprocessing import SoundPreprocessing
from wire.text_preprocessing import TextPreprocessing

Array = NDArray[Any]
# An upright RGB picture; one channel of a sound at the recipe's rate, [samples]; a text.
Media = Image.Image | NDArray[np.float32] | str


def preprocess(recipe: Preprocessing, media: Media, folder: Path) -> list[Array]:
    """In the boundary's order; of a recipe that makes tiles with the tiles along a first axis of their own.

    `folder` is the bundle's, which holds the files that the recipe names. Raises BadInput for media of another
    modality, or that the recipe does not fit, and TooLarge where it makes too much of them.
    """
    try:
        return _prepared(recipe, media, folder)
    except CleaveError:
        raise
    except Exception as error:  # numpy and Pillow raise whatever a recipe that does not fit makes of them
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(
            f"the bundle's recipe cannot be followed with this input ({reason}); give another one, or another bundle"
        ) from error


def _prepared(recipe: Preprocessing, media: Media, folder: Path) -> list[Array]:
    match recipe, media:
        case ImagePreprocessing(), Image.Image():
            return [picture_tensor(recipe, media)]
        case SoundPreprocessing(), np.ndarray():
            return [sound_features(recipe, media)]
        case TextPreprocessing(), str():
            return text_tensors(recipe, media, folder)
    raise BadInput(f"a {type(media).__name__} cannot be prepared by a recipe of {type(recipe).__name__}")


def needed_files(recipe: Preprocessing) -> list[str]:
    """The files of the bundle that `preprocess` reads."""
    return [recipe.tokenizer] if isinstance(recipe, TextPreprocessing) else []
