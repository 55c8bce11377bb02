"""Small hand-written encoders, each with one trait that decides where it may be cut."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from splitmodel.chain import Chain
from splitmodel.encoder import Encoder
from splitmodel.trace import trace

WIDTH = 8


class Mlp(nn.Module):
    """One linear layer after another: one tensor is live everywhere."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))

    def forward(self, x: Tensor) -> list[Tensor]:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return [x]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.tanh(self.first(x)))


class Residual(nn.Module):
    """Inside a block two tensors are live, between blocks one is."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(depth))

    def forward(self, x: Tensor) -> list[Tensor]:
        for block in self.blocks:
            x = block(x)
        return [x]


class Skip(nn.Module):
    """U-net-like: what goes down comes back beside what went round."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.block, self.up = nn.Linear(WIDTH, WIDTH), Block(), nn.Linear(2 * WIDTH, WIDTH)
        self.end = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> list[Tensor]:
        down = self.down(x)
        round_ = self.block(torch.relu(down))
        return [self.end(self.up(torch.cat([down, round_], dim=-1)))]


class Accumulating(nn.Module):
    """DeepStack-like: every block's projection is an output, too."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.taps = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))

    def forward(self, x: Tensor) -> list[Tensor]:
        tapped = []
        for block, tap in zip(self.blocks, self.taps, strict=True):
            x = block(x)
            tapped.append(tap(x))
        return [*tapped, x]


class WithGrid(nn.Module):
    """Adds a position grid, computed from constants and partly in place, in every block."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.body = Residual(depth)
        self.scale = nn.Parameter(torch.full((WIDTH,), 0.5))

    def forward(self, x: Tensor) -> list[Tensor]:
        grid = torch.zeros(WIDTH)
        grid[2:] = torch.arange(WIDTH - 2.0)
        turned = torch.sin(grid * self.scale)
        for block in self.body.blocks:
            x = block(x) + turned
        return [x]


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.both = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.end = nn.Linear(WIDTH, WIDTH)

    def forward(self, left: Tensor, right: Tensor) -> list[Tensor]:
        fused = torch.relu(self.left(left)) * torch.relu(self.right(right))
        return [self.end(torch.tanh(self.both(fused)))]


def example(seed: int = 0) -> Tensor:
    return torch.randn(1, 3, WIDTH, generator=torch.Generator().manual_seed(seed))


def make_chain(encoder: nn.Module, examples: Sequence[Tensor] = ()) -> Chain:
    """The encoder's chain, its inputs named `input_0`, `input_1` and so on."""
    encoder.eval().requires_grad_(False)
    tensors = list(examples) or [example()]
    return Chain(trace(encoder, tensors, encoder), [f"input_{i}" for i in range(len(tensors))])


def labels(chain: Chain) -> list[str]:
    return [point.label for point in chain.split_points]


def encoder_of(chain: Chain, names: Sequence[str]) -> Encoder:
    """An encoder of pictures whose output has the chain's tensors under these names."""
    spec = pytree.tree_structure(dict.fromkeys(names, 0))
    return Encoder("image", "8", None, None, chain, dict, spec)
