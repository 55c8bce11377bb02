"""Dense supervision: while it trains, the vision tower also says of every patch what covers it.

The scenes are rendered, so the answer is known; easy-VQA's one flat shape is found by its colour. A linear head
per property reads the tower's patch outputs, and a small tower learns many times sooner. The heads are dropped
at export.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training import easy_vqa
from training.packing import IGNORED
from training.scenes import COLOURS, DIGIT, SHAPES, SIDE, SIZES, Scene, Thing

KINDS = ("nothing", *SHAPES, DIGIT, "rectangle")
# Bare ground has no colour, either: else a question about the red thing finds reddish ground in most patches.
ALL_COLOURS = (*dict.fromkeys([*COLOURS, *easy_vqa.COLOURS]), "nothing")
_NUM_DIGITS = 10
_NUM_PLACES = 9
_LEAST_COVER = 0.3  # of a patch, by a thing's box
_LEAST_CONTRAST = 40  # of a pixel against the flat ground, summed over its channels

Box = tuple[float, float, float, float]  # left, top, right, bottom, pixels


class DenseHeads(nn.Module):
    """Kind, colour, size, digit and place of what covers a patch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        counts = (len(KINDS), len(ALL_COLOURS), len(SIZES), _NUM_DIGITS, _NUM_PLACES)
        self.heads = nn.ModuleList(nn.Linear(width, count) for count in counts)

    def forward(self, patches: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The summed loss, and the share of right answers per property; patches [batch, P, width], targets
        [batch, P, 5] with IGNORED where there is none."""
        normal = self.norm(patches).flatten(0, 1)
        losses, rights = [], []
        for index, head in enumerate(self.heads):
            logits, wanted = head(normal).float(), targets[..., index].flatten()
            known = (wanted != IGNORED).sum().clamp(min=1)
            loss = functional.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum")
            losses.append(loss / known)
            rights.append((logits.argmax(-1) == wanted).sum() / known)
        return torch.stack(losses).sum(), torch.stack(rights).detach()


def targets(scene: Scene, patch: int) -> Tensor:
    """[P, 5] int64: kind, colour, size, digit, place per patch, in row order."""
    result = _nothing(patch)
    for thing in scene.things:
        result[_covered(thing.box, patch)] = _values(thing)
    return torch.from_numpy(result.reshape(-1, result.shape[-1]))


def easy_targets(pixels: NDArray[np.uint8], shape: str | None, patch: int) -> Tensor:
    """The same for an easy-VQA picture, [SIDE, SIDE, 3]: one flat shape on a flat ground."""
    result = _nothing(patch)
    ground = pixels[[0, 0, -1, -1], [0, -1, 0, -1]].astype(int)
    contrast = np.abs(pixels.astype(int) - np.median(ground, axis=0)).sum(-1)
    rows, columns = np.nonzero(contrast > _LEAST_CONTRAST)
    if not len(rows):
        return torch.full((result.size // result.shape[-1], result.shape[-1]), IGNORED)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    strongest = pixels[rows, columns][contrast[rows, columns] >= np.quantile(contrast[rows, columns], 0.5)]
    middle = np.median(strongest, axis=0)
    colour = min(easy_vqa.COLOURS, key=lambda name: float(np.abs(middle - easy_vqa.COLOURS[name]).sum()))
    kind = IGNORED if shape is None else KINDS.index(shape)
    result[_covered(box, patch)] = (kind, ALL_COLOURS.index(colour), IGNORED, IGNORED, IGNORED)
    return torch.from_numpy(result.reshape(-1, result.shape[-1]))


def _nothing(patch: int) -> NDArray[np.int64]:
    side = SIDE // patch
    result = np.full((side, side, 5), IGNORED)
    result[..., 0] = KINDS.index("nothing")
    result[..., 1] = ALL_COLOURS.index("nothing")
    return result


def _covered(box: Box, patch: int) -> NDArray[np.bool_]:
    """Which patches a box covers well, [rows, columns]; the one under its middle always."""
    edges = np.arange(SIDE // patch) * patch
    wide = np.clip(np.minimum(box[2], edges + patch) - np.maximum(box[0], edges), 0, None)
    high = np.clip(np.minimum(box[3], edges + patch) - np.maximum(box[1], edges), 0, None)
    covered = np.outer(high, wide) / patch**2 >= _LEAST_COVER
    covered[int(box[1] + box[3]) // 2 // patch, int(box[0] + box[2]) // 2 // patch] = True
    return np.asarray(covered)


def _values(thing: Thing) -> tuple[int, ...]:
    size = IGNORED if thing.kind == DIGIT else SIZES.index(thing.size)
    digit = IGNORED if thing.digit is None else thing.digit
    return (KINDS.index(thing.kind), ALL_COLOURS.index(thing.colour), size, digit, thing.place)
