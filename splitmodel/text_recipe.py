"""A tokenizer as the file and the settings by which a device makes the same ids."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from wire.errors import BadInput
from wire.text_preprocessing import TextPreprocessing

TOKENIZER_PATH = "text/tokenizer.json"


def text_recipe(tokenizer: Any, length: int, has_mask: bool) -> tuple[TextPreprocessing, dict[str, bytes]]:
    """The recipe and the bundle's files that it needs; raises BadInput for a tokenizer that is no fast one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or tokenizer.pad_token_id is None:
        raise BadInput(
            f"the tokenizer ({type(tokenizer).__name__}) has no form that a device can run, or no padding token; use "
            "a checkpoint with a tokenizer.json"
        )
    if tokenizer.truncation_side != "right":
        raise BadInput(
            "the tokenizer cuts long texts at their beginning, which no recipe expresses; use another model"
        )
    # As `tokenizers` writes it, less how the last text was padded and cut: the recipe says that.
    copy = type(backend).from_str(backend.to_str())
    copy.no_padding()
    copy.no_truncation()
    data = copy.to_str().encode()
    recipe = TextPreprocessing(
        tokenizer=TOKENIZER_PATH,
        tokenizer_sha256=sha256(data).hexdigest(),
        length=length,
        pad_id=tokenizer.pad_token_id,
        padding_side=tokenizer.padding_side,
        has_mask=has_mask,
    )
    return recipe, {TOKENIZER_PATH: data}
