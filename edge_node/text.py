"""Texts: a text encoder's ids and mask, as transformers' fast tokenizers pad and cut, by the library behind them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from wire.bundle_files import safe_path
from wire.errors import Corrupt
from wire.text_preprocessing import TextPreprocessing

Array = NDArray[Any]


def text_tensors(recipe: TextPreprocessing, text: str, folder: Path) -> list[Array]:
    """The ids, and the mask where the recipe has one: int64 [1, length] each. Raises Corrupt."""
    tokenizer = _tokenizer(recipe, folder)
    try:
        encoding = tokenizer.encode(text, add_special_tokens=True)
    except Exception as error:
        raise _broken(recipe, folder, error) from error
    rows = [encoding.ids, encoding.attention_mask] if recipe.has_mask else [encoding.ids]
    return [np.array([row], np.int64) for row in rows]


@lru_cache(maxsize=16)
def _tokenizer(recipe: TextPreprocessing, folder: Path) -> Tokenizer:
    """Loaded once; the bundle store has checked the file's hash."""
    try:
        tokenizer = Tokenizer.from_file(str(folder / safe_path(recipe.tokenizer)))
    except Exception as error:  # the library raises nothing more exact
        raise _broken(recipe, folder, error) from error
    tokenizer.enable_truncation(recipe.length)
    tokenizer.enable_padding(length=recipe.length, pad_id=recipe.pad_id, direction=recipe.padding_side)
    return tokenizer


def _broken(recipe: TextPreprocessing, folder: Path, error: Exception) -> Corrupt:
    reason = " ".join(str(error).split())
    return Corrupt(
        f"{folder / recipe.tokenizer} is no tokenizer that works ({reason}); remove {folder} and ask again"
    )
