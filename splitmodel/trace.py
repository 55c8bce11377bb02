"""Tracing: an encoder's Python becomes a flat aten graph that knows which module made each node.

`make_fx` in real mode, before autograd's dispatch, at batch 1: it takes encoders that `torch.export` refuses
(shapes from constant grids) and keeps composite operators whole. It records no module stack, so forward hooks
note which nodes each module made. Parameters stay the model's own tensors: nothing is copied.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx

from wire.errors import BadInput


@dataclass(frozen=True, slots=True)
class ModuleSpan:
    """The graph nodes that one module call made: those with `start <= ordinal < stop`."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Trace:
    """A flat graph: one placeholder per input, constants folded into `get_attr` nodes, no dead nodes.

    `ordinals` numbers the nodes, by name, in the order in which they were traced.
    """

    module: fx.GraphModule
    spans: tuple[ModuleSpan, ...]
    ordinals: dict[str, int]

    @property
    def inputs(self) -> list[fx.Node]:
        return [node for node in self.module.graph.nodes if node.op == "placeholder"]

    @property
    def outputs(self) -> list[fx.Node]:
        return list(self.module.graph.output_node().args[0])  # type: ignore[arg-type]


def trace(fn: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor], root: nn.Module) -> Trace:
    """Traces `fn(*examples)`, whose modules live under `root`, at the examples' shapes.

    Raises BadInput where an operator writes into a tensor: a graph with such a write cannot be cut.
    """
    spans: list[ModuleSpan] = []
    ordinals: dict[str, int] = {}

    def flat(*inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = tuple(fn(*inputs))
        ordinals.update((node.name, index) for index, node in enumerate(_graph_in_progress().nodes))
        return outputs

    with torch.no_grad(), _noting_spans(root, spans):
        module = make_fx(flat, tracing_mode="real", pre_dispatch=True)(*examples)
    fold_constants(module)
    _refuse_writes(module.graph)
    return Trace(module, tuple(spans), ordinals)


def _graph_in_progress() -> fx.Graph:
    mode = get_proxy_mode()
    assert mode is not None, "only called while make_fx traces"
    return mode.tracer.graph


@contextlib.contextmanager
def _noting_spans(root: nn.Module, spans: list[ModuleSpan]) -> Iterator[None]:
    """While open, every call of a named module under `root` notes the span of nodes that it added."""
    starts: list[int] = []

    def before(_module: nn.Module, _args: object) -> None:
        starts.append(len(_graph_in_progress().nodes))

    def after(name: str) -> Callable[..., None]:
        def note(*_: object) -> None:
            spans.append(ModuleSpan(name, starts.pop(), len(_graph_in_progress().nodes)))

        return note

    handles = []
    for name, module in root.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(before))
            handles.append(module.register_forward_hook(after(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def depends_on_input(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose value depends on a placeholder; all others are constants."""
    live: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(source in live for source in node.all_input_nodes):
            live.add(node)
    return live


def fold_constants(module: fx.GraphModule) -> None:
    """Replaces every computed constant by its value, held as a buffer; removes what nothing uses.

    Position embeddings and grids are computed from constants: folded, they cost nothing at run time and cross
    no boundary.
    """
    graph = module.graph
    live = depends_on_input(graph)
    values: dict[fx.Node, Any] = {}
    folded = 0
    for node in list(graph.nodes):
        if node in live or node.op == "output":
            continue
        values[node] = _constant_value(module, node, values)
        used = any(user in live or user.op == "output" for user in node.users)
        if node.op == "get_attr" or not isinstance(values[node], Tensor) or not used:
            continue
        name = f"_folded_{folded}"
        folded += 1
        module.register_buffer(name, values[node])
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.get_attr(name), delete_user_cb=live.__contains__)
    graph.eliminate_dead_code()
    module.recompile()


@torch.no_grad()
def _constant_value(module: fx.GraphModule, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    if node.op == "get_attr":
        return getattr(module, str(node.target))
    assert callable(node.target), f"a constant is a get_attr or a call, got {node.op}"
    args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
    return node.target(*args, **kwargs)


def _refuse_writes(graph: fx.Graph) -> None:
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable:
            raise BadInput(
                f"the encoder writes into a tensor in place ({node.target} at node {node.name}), which no split "
                "point may cut; use a model whose encoder is free of in-place operators"
            )
