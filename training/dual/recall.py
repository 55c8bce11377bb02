"""Recall: among pictures with a caption each, how often the right one is among the first; strict, and what fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RANKS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Recall:
    """Shares from 0 to 1. A hit is the caption's own scene alone, even where another scene fits it as well; a tie
    of scores is a miss."""

    num_scenes: int
    text_to_picture: dict[int, float]  # by rank
    picture_to_text: dict[int, float]
    fits_at_1: float  # captions whose first picture is one that fits, their own or another
    ceiling: float  # of text_to_picture at 1: who knows all that is said and guesses among what fits


def recall(similarity: NDArray[np.float32], is_fitting: NDArray[np.bool_]) -> Recall:
    """From the scores, [captions, pictures], of which the diagonal belongs together."""
    first = similarity.argmax(1)
    return Recall(
        num_scenes=len(similarity),
        text_to_picture=_by_rank(similarity),
        picture_to_text=_by_rank(similarity.T),
        fits_at_1=float(is_fitting[np.arange(len(first)), first].mean()),
        ceiling=float((1 / is_fitting.sum(1)).mean()),
    )


def _by_rank(scores: NDArray[np.float32]) -> dict[int, float]:
    """How often the own one comes within the first k; who scores the same comes before it."""
    ahead = (scores >= scores.diagonal()[:, None]).sum(1) - 1
    return {rank: float((ahead < rank).mean()) for rank in _RANKS}
