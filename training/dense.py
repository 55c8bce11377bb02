"""Dense supervision: while it trains, the vision tower also says of every patch what covers it.

The scenes are rendered, so the answer is known. A linear head per property reads the tower's patch outputs; a
small tower learns many times sooner with it. The heads are dropped at export.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.packing import IGNORED
from training.scenes import COLOURS, DIGIT, SHAPES, SIDE, SIZES, Scene, Thing

_KINDS = ("nothing", *SHAPES, DIGIT)
_LEAST_COVER = 0.3  # of a patch, by a thing's box


class DenseHeads(nn.Module):
    """Kind, colour, size and digit of what covers a patch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        counts = (len(_KINDS), len(COLOURS), len(SIZES), 10)
        self.heads = nn.ModuleList(nn.Linear(width, count) for count in counts)

    def forward(self, patches: Tensor, targets: Tensor) -> Tensor:
        """The mean loss; patches [batch, P, width], targets [batch, P, 4] with IGNORED where there is none."""
        normal = self.norm(patches).flatten(0, 1)
        losses = [
            functional.cross_entropy(
                head(normal), targets[..., index].flatten(), ignore_index=IGNORED, reduction="sum"
            )
            / (targets[..., index] != IGNORED).sum().clamp(min=1)
            for index, head in enumerate(self.heads)
        ]
        return torch.stack(losses).sum()


def targets(scene: Scene, patch: int) -> Tensor:
    """[P, 4] int64: kind, colour, size, digit per patch, in row order."""
    side = SIDE // patch
    result = torch.full((side, side, 4), IGNORED)
    result[..., 0] = 0
    for thing in scene.things:
        for row in range(side):
            for column in range(side):
                if _cover(thing, row, column, patch) >= _LEAST_COVER:
                    result[row, column] = _values(thing)
    return result.flatten(0, 1)


def nothing_known(num_patches: int) -> Tensor:
    """Targets for a picture that was not rendered here."""
    return torch.full((num_patches, 4), IGNORED)


def _cover(thing: Thing, row: int, column: int, patch: int) -> float:
    left, top, right, bottom = thing.box
    width = min(right, (column + 1) * patch) - max(left, column * patch)
    height = min(bottom, (row + 1) * patch) - max(top, row * patch)
    return max(0, width) * max(0, height) / patch**2


def _values(thing: Thing) -> Tensor:
    size = IGNORED if thing.kind == DIGIT else SIZES.index(thing.size)
    digit = IGNORED if thing.digit is None else thing.digit
    return torch.tensor([_KINDS.index(thing.kind), list(COLOURS).index(thing.colour), size, digit])
