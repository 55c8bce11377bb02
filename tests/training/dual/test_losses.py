"""Losses: what fits is never a wrong answer, and the targets tell the scene."""

from __future__ import annotations

import torch

from training.dual.losses import SceneHeads, contrastive_loss, pair_targets, scene_targets
from training.packing import IGNORED
from training.scenes import DIGIT, PLACES, Thing


def test_only_what_does_not_fit_is_a_wrong_answer() -> None:
    fitting = torch.tensor([[True, True], [False, True]])
    right = torch.tensor([[5.0, 5.0], [-5.0, 5.0]])
    assert contrastive_loss(right, fitting) < 1e-3
    assert contrastive_loss(right, torch.eye(2, dtype=torch.bool)) > 0.3
    assert contrastive_loss(-right, fitting) > 3


def test_a_scene_in_which_everything_fits_gives_no_loss_and_finite_gradients() -> None:
    scores = torch.zeros(2, 2, requires_grad=True)
    loss = contrastive_loss(scores, torch.ones(2, 2, dtype=torch.bool))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss == 0
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_targets_tell_each_place() -> None:
    things = (
        Thing("star", "blue", "large", 0, None, (0, 0, 20, 20)),
        Thing(DIGIT, "red", "small", 8, 7, (90, 90, 120, 120)),
    )
    (found,) = scene_targets([things])
    assert found[0].tolist() == [4, 2, 1, IGNORED]
    assert found[8].tolist() == [6, 0, IGNORED, 7]
    assert found[1:8].tolist() == [[0, IGNORED, IGNORED, IGNORED]] * 7


def test_pairs_tell_which_colour_belongs_to_which_kind_and_not_where() -> None:
    def pairs(*things: tuple[str, str, int]) -> list[int]:
        there = tuple(
            Thing(kind, colour, "large", place, None, (0, 0, 20, 20)) for kind, colour, place in things
        )
        (found,) = pair_targets(scene_targets([there]))
        return [int(index) for index in found.nonzero()]

    assert pairs(("circle", "red", 0), ("square", "blue", 1)) == pairs(
        ("square", "blue", 8), ("circle", "red", 2)
    )
    assert pairs(("circle", "red", 0), ("square", "blue", 1)) != pairs(
        ("circle", "blue", 0), ("square", "red", 1)
    )
    assert len(pairs(("circle", "red", 0), ("circle", "red", 1))) == 1


def test_heads_learn_to_read_a_scene() -> None:
    torch.manual_seed(0)
    heads = SceneHeads(8)
    targets = scene_targets(
        [(Thing("star", "blue", "large", place, None, (0, 0, 9, 9)),) for place in range(4)]
    )
    embedded = torch.randn(4, 8)
    assert targets.shape == (4, len(PLACES), 4)
    optimiser = torch.optim.Adam(heads.parameters(), lr=0.05)
    first = heads(embedded, targets).item()
    for _ in range(60):
        optimiser.zero_grad()
        heads(embedded, targets).backward()
        optimiser.step()
    assert heads(embedded, targets).item() < first / 10
