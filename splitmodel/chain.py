"""A chain: one encoder, at one input shape, as stages that can be entered and left at every split point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from splitmodel.cuts import Cut, find_cuts
from splitmodel.guard import Guard
from splitmodel.subgraph import extract
from splitmodel.trace import Trace
from wire.tensors import DType, TensorSpec

_DTYPES = {
    torch.float32: DType.FLOAT32,
    torch.float16: DType.FLOAT16,
    torch.bfloat16: DType.BFLOAT16,
    torch.int64: DType.INT64,
    torch.int32: DType.INT32,
    torch.int16: DType.INT16,
    torch.int8: DType.INT8,
    torch.uint8: DType.UINT8,
    torch.bool: DType.BOOL,
}


@dataclass(frozen=True, slots=True)
class SplitPoint:
    """A boundary of the chain: split point `index` is crossed by `tensors`, in this order."""

    index: int
    label: str
    tensors: tuple[TensorSpec, ...]

    @property
    def num_bytes(self) -> int:
        return sum(spec.num_bytes for spec in self.tensors)


class Chain:
    """Stages 0..n-1 between split points 0..n; the weights stay the model's own."""

    def __init__(self, trace: Trace, input_names: Sequence[str]) -> None:
        self._trace = trace
        self._cuts = find_cuts(trace)
        self._names = _boundary_names(self._cuts, input_names)
        self.split_points = tuple(
            SplitPoint(index, cut.label, tuple(self._spec(node) for node in cut.live))
            for index, cut in enumerate(self._cuts)
        )
        self._stages = [
            extract(trace.module, before.live, after.live)
            for before, after in zip(self._cuts, self._cuts[1:], strict=False)
        ]

    @property
    def guard(self) -> Guard | None:
        """Which inputs the chain stands for; all of its shapes where there is none."""
        return self._trace.guard

    @property
    def num_stages(self) -> int:
        return len(self._stages)

    @property
    def stages(self) -> Sequence[fx.GraphModule]:
        """The stages' graphs, to be read."""
        return self._stages

    @torch.no_grad()
    def run(self, tensors: Sequence[Tensor], start: int, stop: int | None = None) -> list[Tensor]:
        """From the tensors at split point `start` to those at `stop` (the end by default)."""
        values = list(tensors)
        for stage in self._stages[start : self.num_stages if stop is None else stop]:
            values = list(stage(*values))
        return values

    def stage_macs(self, tensors: Sequence[Tensor]) -> list[int]:
        """Multiply-adds of every stage, counted while it runs on the chain's input."""
        values, counts = list(tensors), []
        for index in range(self.num_stages):
            with FlopCounterMode(display=False) as counter:
                values = self.run(values, index, index + 1)
            counts.append(counter.get_total_flops() // 2)
        return counts

    def outputs_in_order(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The encoder's outputs as it returned them (one tensor may stand for several)."""
        by_node = dict(zip(self._cuts[-1].live, values, strict=True))
        constants = [node for node in self._trace.outputs if node not in by_node]
        by_node.update((node, getattr(self._trace.module, str(node.target))) for node in constants)
        return [by_node[node] for node in self._trace.outputs]

    def with_all_boundaries(self) -> tuple[nn.Module, list[str]]:
        """The whole chain as one module that also returns every tensor of every later boundary, and their names."""
        first = set(self._cuts[0].live)
        nodes = list(dict.fromkeys(node for cut in self._cuts[1:] for node in cut.live if node not in first))
        return extract(self._trace.module, self._cuts[0].live, nodes), [self._names[node] for node in nodes]

    def _spec(self, node: fx.Node) -> TensorSpec:
        return spec_of(self._names[node], node.meta["val"])


def spec_of(name: str, tensor: Tensor) -> TensorSpec:
    """What the wire says of a tensor at a boundary."""
    return TensorSpec(name, _DTYPES[tensor.dtype], tuple(tensor.shape))


def _boundary_names(cuts: Sequence[Cut], input_names: Sequence[str]) -> dict[fx.Node, str]:
    """Each tensor is named by the first split point that it crosses; the chain's inputs by the caller."""
    names = dict(zip(cuts[0].live, input_names, strict=True))
    for cut in cuts[1:]:
        new = [node for node in cut.live if node not in names]
        names.update((node, f"{cut.label}/{i}" if len(new) > 1 else cut.label) for i, node in enumerate(new))
    return names
