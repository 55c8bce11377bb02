"""Where a traced encoder may be cut: every point where few tensors are live. Reads graphs, runs nothing.

A point lies after a node. Its live tensors are those that depend on the input, exist by then, and are still
needed. A point is kept where their number is locally least: inside an attention block three or four tensors
are live, between two residual additions one is. Neighbouring points with no arithmetic between them are one
point, and the smallest of them stands for it.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, fx

from splitmodel.subgraph import depends_on_input
from splitmodel.trace import ModuleSpan, Trace

MAX_LIVE_TENSORS = 4

# Operators that move or rename numbers and compute none.
_FREE_OPERATORS = frozenset(
    "__and__ __or__ alias as_strided bitwise_and bitwise_not bitwise_or cat chunk clone contiguous detach expand "
    "expand_as flatten getitem index index_select lift_fresh_copy logical_and logical_not logical_or movedim narrow "
    "permute repeat reshape select select_copy slice split split_with_sizes squeeze stack t to transpose unbind "
    "unflatten unfold unsqueeze view view_as where _to_copy _unsafe_view dropout pad constant_pad_nd".split()
)


@dataclass(frozen=True, slots=True)
class Cut:
    """One split point of a traced graph: its label and the tensors that cross it, in graph order."""

    label: str
    live: tuple[fx.Node, ...]

    @property
    def num_bytes(self) -> int:
        return sum(_num_bytes(node) for node in self.live)


def find_cuts(trace: Trace) -> list[Cut]:
    """All legal split points of the trace, from the inputs (first) to the outputs (last)."""
    points = _live_points(trace)
    least = [point for point in _locally_least(points) if len(point.live) <= MAX_LIVE_TENSORS]
    first, last = points[0], points[-1]
    inner = [point for point in _collapsed(points, [first, *least, last]) if point not in (first, last)]
    labels = _unique([_label(trace, point.node) for point in inner])
    return [
        Cut("input", first.live),
        *(Cut(label, point.live) for label, point in zip(labels, inner, strict=True)),
        Cut("output", last.live),
    ]


@dataclass(frozen=True, slots=True)
class _Point:
    """The boundary after `node`; `work` counts the arithmetic operators up to it."""

    node: fx.Node
    live: tuple[fx.Node, ...]
    work: int


def _live_points(trace: Trace) -> list[_Point]:
    graph = trace.module.graph
    order = {node: index for index, node in enumerate(graph.nodes)}
    depends = depends_on_input(graph)
    carried = [node for node in graph.nodes if node in depends and node.op != "output"]
    # A point before all inputs exist is none: start at the last placeholder.
    steps = carried[len(trace.inputs) - 1 :]
    last_use = {node: max((order[user] for user in node.users), default=-1) for node in carried}
    points: list[_Point] = []
    work = 0
    alive: list[fx.Node] = list(trace.inputs[:-1])
    for node in steps:
        alive = [*(other for other in alive if last_use[other] > order[node]), node]
        work += node.op != "placeholder" and not _is_free(node)
        if all(_is_tensor(other) for other in alive):
            points.append(_Point(node, tuple(alive), work))
    outputs = tuple(node for node in dict.fromkeys(trace.outputs) if node in depends)
    return [*points[:-1], _Point(points[-1].node, outputs, work)]


def _locally_least(points: Sequence[_Point]) -> list[_Point]:
    """The points of every plateau whose number of live tensors is under that of both its neighbours."""
    plateaus = [list(group) for _, group in itertools.groupby(points, key=lambda point: len(point.live))]
    kept: list[_Point] = []
    for index, plateau in enumerate(plateaus):
        neighbours = plateaus[max(index - 1, 0) : index] + plateaus[index + 1 : index + 2]
        if all(len(other[0].live) > len(plateau[0].live) for other in neighbours):
            kept.extend(plateau)
    return kept


def _collapsed(points: Sequence[_Point], chosen: Sequence[_Point]) -> list[_Point]:
    """One point per amount of work done: the smallest; at both ends, the end itself."""
    ends = (points[0], points[-1])
    kept: list[_Point] = []
    for _, group in itertools.groupby(dict.fromkeys(chosen), key=lambda point: point.work):
        alternatives = list(group)
        end = [point for point in alternatives if point in ends]
        kept.extend(end or [min(alternatives, key=lambda point: sum(map(_num_bytes, point.live)))])
    return kept


def _label(trace: Trace, node: fx.Node) -> str:
    """The outermost module that ends at the node, else the innermost one around it and the operator.

    Between modules it is the outermost one that ended last, and the operator.
    """
    ordinal = trace.ordinals[node.name]
    surviving = sorted(trace.ordinals.get(other.name, -1) for other in trace.module.graph.nodes)
    following = bisect.bisect_right(surviving, ordinal)
    next_ordinal = surviving[following] if following < len(surviving) else ordinal + 1
    around = [span for span in trace.spans if span.start <= ordinal < span.stop]
    ending = [span for span in around if next_ordinal >= span.stop]
    if ending:
        return max(ending, key=_length).name
    if around:
        return f"{min(around, key=_length).name}:{_operator(node)}"
    ended = [span for span in trace.spans if span.stop <= ordinal]
    if not ended:
        return _operator(node)
    return f"{max(ended, key=lambda span: (span.stop, _length(span))).name}:{_operator(node)}"


def _length(span: ModuleSpan) -> int:
    return span.stop - span.start


def _unique(labels: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    unique = []
    for label in labels:
        seen[label] += 1
        unique.append(label if seen[label] == 1 else f"{label}#{seen[label]}")
    return unique


def _operator(node: fx.Node) -> str:
    name = getattr(node.target, "_opname", None) or getattr(node.target, "__name__", str(node.target))
    return str(name).split(".")[0]


def _is_free(node: fx.Node) -> bool:
    return _operator(node) in _FREE_OPERATORS


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor)


def _num_bytes(node: fx.Node) -> int:
    value: Tensor = node.meta["val"]
    return value.numel() * value.element_size()
