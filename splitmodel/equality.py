"""When two runs gave the same tokens: equality, with a narrow and counted exception for ties. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A difference counts as a tie only under both: top-2 gap < 10 x largest logit error, and that error < 1e-4.
TIE_GAP_PER_ERROR = 10.0
TIE_MAX_LOGIT_ERROR = 1e-4
MAX_TIES_PER_TOKEN = 1e-4


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing one answer with its reference found."""

    is_equal: bool
    is_tie: bool
    num_tokens: int
    max_logit_error: float
    first_difference: int | None = None

    @property
    def is_accepted(self) -> bool:
        return self.is_equal or self.is_tie


def compare(
    reference: Sequence[int],
    tokens: Sequence[int],
    reference_logits: NDArray[np.float32],  # [reference tokens, vocabulary]
    logits: NDArray[np.float32],  # [tokens, vocabulary]
) -> Comparison:
    """Compares two generations; logits are compared up to and with the first differing token."""
    pairs = zip(reference, tokens, strict=False)
    first = next((i for i, (left, right) in enumerate(pairs) if left != right), None)
    if first is None and len(reference) != len(tokens):
        first = min(len(reference), len(tokens))
    compared = (
        min(len(reference), len(tokens)) if first is None else min(first + 1, len(reference), len(tokens))
    )
    error = _largest_error(reference_logits[:compared], logits[:compared])
    if first is None:
        return Comparison(True, False, len(reference), error)
    is_tie = first < min(len(reference), len(tokens)) and error < TIE_MAX_LOGIT_ERROR
    is_tie = is_tie and _top2_gap(reference_logits[first]) < TIE_GAP_PER_ERROR * error
    return Comparison(False, is_tie, len(reference), error, first)


def _largest_error(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Infinite where one side alone is not a number, or infinite."""
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    errors = np.abs(left[~same] - right[~same])
    return float(np.nan_to_num(errors, nan=np.inf, posinf=np.inf).max(initial=0.0))


def _top2_gap(logits: NDArray[np.float32]) -> float:
    second, first = np.partition(logits, -2)[-2:]
    return float(first - second)
