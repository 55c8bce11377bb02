"""What each split point of a chain costs a device and its link, read off the chain's graphs. Runs nothing."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from splitmodel.chain import Chain
from splitmodel.chain import SplitPoint as Boundary
from wire.codecs import parse_codec

# What the edge's process takes beside its head (bench footprint), and what a loaded weight takes, with what loading it
# leaves behind: measured on stages of 25 to 50 MB with the edge's own session options.
RUNTIME_BYTES = 110_000_000
LOADED_WEIGHT = 1.37
CODECS = ("raw", "fp16", "int8")

_SDPA = "scaled_dot_product_attention"
# Composite operators that mostly give a view, though their schema cannot promise it.
_VIEWS = frozenset(("reshape", "flatten", "contiguous", "unflatten", "dropout"))


@dataclass(frozen=True, slots=True)
class PointCost:
    """A split point. Memory is of the device, for one tile; features are of a whole input, all its tiles."""

    index: int
    label: str
    feature_bytes: dict[str, int]  # by codec
    head_parameters: int  # numbers of the stages before: weights, and constants folded into them
    head_bytes: int
    activation_bytes: int  # the most that lives at once while the head runs

    @property
    def memory_bytes(self) -> int:
        """What the device's process takes, with everything in it."""
        return RUNTIME_BYTES + int(LOADED_WEIGHT * self.head_bytes) + self.activation_bytes


def chain_costs(chain: Chain, num_tiles: int = 1) -> list[PointCost]:
    """One per split point of the chain."""
    seen: dict[int, Tensor] = {}
    costs, peak = [], 0
    for point in chain.split_points:
        if point.index:
            stage = chain.stages[point.index - 1]
            seen.update((id(weight), weight) for weight in stage_weights(stage))
            peak = max(peak, peak_bytes(stage))
        costs.append(
            PointCost(
                index=point.index,
                label=point.label,
                feature_bytes=feature_bytes(point, num_tiles),
                head_parameters=sum(weight.numel() for weight in seen.values() if weight.is_floating_point()),
                head_bytes=sum(map(_num_bytes, seen.values())),
                activation_bytes=peak,
            )
        )
    return costs


def feature_bytes(point: Boundary, num_tiles: int) -> dict[str, int]:
    """By codec: what crosses the network for an input of so many tiles."""
    return {
        name: num_tiles * sum(parse_codec(name).max_payload_bytes(spec) for spec in point.tensors)
        for name in CODECS
    }


def stage_weights(stage: fx.GraphModule) -> list[Tensor]:
    """The weights and folded constants that a stage reads."""
    return [getattr(stage, str(node.target)) for node in stage.graph.nodes if node.op == "get_attr"]


def peak_bytes(stage: fx.GraphModule) -> int:
    """The most bytes of tensors that live at once, inputs and results included, and the work space of attention.

    Attention's scores are made in full: the device's runtime has no kernel that avoids it.
    """
    nodes = [node for node in stage.graph.nodes if node.op in ("placeholder", "call_function")]
    root = {node: node for node in nodes}
    for node in nodes:
        if _is_view(node):
            root[node] = root.get(node.all_input_nodes[0], node)
    last_use = {node: index for index, node in enumerate(nodes)}
    for index, node in enumerate(nodes):
        for source in node.all_input_nodes:
            if source in root:
                last_use[root[source]] = index
    for node in stage.graph.output_node().all_input_nodes:
        if node in root:
            last_use[root[node]] = len(nodes)
    peak, alive = 0, {}
    for index, node in enumerate(nodes):
        if root[node] is node:
            alive[node] = _num_bytes(node.meta.get("val"))
        peak = max(peak, sum(alive.values()) + _work_space(node))
        alive = {other: size for other, size in alive.items() if last_use[other] > index}
    return peak


@dataclass(frozen=True, slots=True)
class Choice:
    """Of the split points that fit a device: the one that sends least, and the one that spares the cloud most."""

    best: PointCost
    deepest: PointCost


def choose(points: Sequence[PointCost], memory_bytes: int) -> Choice:
    """Sent is int8, and of equals the smallest head is best; split point 0, which needs no head, always fits."""
    fitting = [point for point in points if not point.index or point.memory_bytes <= memory_bytes]
    best = min(fitting, key=lambda point: (point.feature_bytes["int8"], point.memory_bytes, point.index))
    return Choice(best, fitting[-1])


def _is_view(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if node.target is operator.getitem:
        return True
    if schema is None or not node.args or not isinstance(node.args[0], fx.Node):
        return False
    name = schema.name.partition("::")[2]
    return name in _VIEWS or any(result.alias_info is not None for result in schema.returns)


def _work_space(node: fx.Node) -> int:
    """Scores and their softmax, [heads, queries, keys] each."""
    if getattr(getattr(node.target, "_schema", None), "name", "").partition("::")[2] != _SDPA:
        return 0
    queries, keys = (node.args[i].meta["val"] for i in (0, 1))  # type: ignore[union-attr]
    return int(2 * math.prod(queries.shape[:-1]) * keys.shape[-2] * queries.element_size())


def _num_bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, list | tuple):
        return sum(map(_num_bytes, value))
    return 0
