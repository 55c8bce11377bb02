"""What the dual encoder learns from: captions against pictures, and both against the scene itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.packing import IGNORED
from training.scenes import COLOURS, DIGIT, PLACES, SHAPES, SIZES, Thing

_KINDS = ("nothing", *SHAPES, DIGIT)
_COLOURS = tuple(COLOURS)
_NUM_PAIRS = len(_KINDS) * len(_COLOURS)
_PAIR_WEIGHT = 20.0  # most pairs are absent, and soon known to be
_COUNTS = (len(_KINDS), len(_COLOURS), len(SIZES), 10)


def contrastive_loss(similarity: Tensor, is_fitting: Tensor) -> Tensor:
    """Each fitting pair against all captions, and all pictures, that do not fit; [captions, pictures] both.

    A picture that another picture's caption fits as well is no wrong answer to it: it counts as right.
    """
    losses = []
    for scores, fitting in ((similarity, is_fitting), (similarity.T, is_fitting.T)):
        wrong = scores.masked_fill(fitting, -torch.inf).logsumexp(-1, keepdim=True)
        pairs = functional.softplus(wrong - scores).masked_fill(~fitting, 0.0)
        losses.append((pairs.sum(-1) / fitting.sum(-1)).mean())
    return torch.stack(losses).mean()


class SceneHeads(nn.Module):
    """Reads the whole scene out of an embedding; the same heads for pictures and full captions.

    They say at once what an embedding has to hold, long before captions alone would have: what is at each place, and
    which colour belongs to which kind wherever it is, as "a red circle" asks. Dropped at export.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleList(nn.Linear(width, len(PLACES) * count) for count in _COUNTS)
        self.pairs = nn.Linear(width, _NUM_PAIRS)

    def forward(self, embedded: Tensor, targets: Tensor) -> Tensor:
        """The summed loss; embedded [batch, width], targets [batch, places, 4] with IGNORED where there is none."""
        normal = self.norm(embedded)
        losses = []
        for index, head in enumerate(self.heads):
            logits = head(normal).float().view(targets.shape[0] * len(PLACES), -1)
            wanted = targets[..., index].flatten()
            loss = functional.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum")
            losses.append(loss / (wanted != IGNORED).sum().clamp(min=1))
        pairs = functional.binary_cross_entropy_with_logits(self.pairs(normal).float(), pair_targets(targets))
        return torch.stack([*losses, pairs * _PAIR_WEIGHT]).sum()


def scene_targets(scenes: Sequence[tuple[Thing, ...]]) -> Tensor:
    """[batch, places, 4] int64: kind, colour, size, digit at each place."""
    result = torch.full((len(scenes), len(PLACES), len(_COUNTS)), IGNORED)
    result[..., 0] = _KINDS.index("nothing")
    for row, things in zip(result, scenes, strict=True):
        for thing in things:
            is_digit = thing.kind == DIGIT
            row[thing.place, 0] = _KINDS.index(thing.kind)
            row[thing.place, 1] = _COLOURS.index(thing.colour)
            row[thing.place, 2] = IGNORED if is_digit else SIZES.index(thing.size)
            row[thing.place, 3] = IGNORED if thing.digit is None else thing.digit
    return result


def pair_targets(targets: Tensor) -> Tensor:
    """[batch, pairs] float32: 1 where a thing of that kind and colour is somewhere; from the targets by place."""
    kinds, colours = targets[..., 0], targets[..., 1]
    pairs = kinds * len(_COLOURS) + colours.clamp(min=0)
    found = torch.zeros(len(targets), _NUM_PAIRS)
    return found.scatter_add_(1, pairs, (colours != IGNORED).float()).clamp(max=1)
