"""Tracing: an encoder's Python becomes a flat aten graph that knows which module made each node.

`make_fx` in real mode, before autograd's dispatch, at batch 1: it takes encoders that `torch.export` refuses
(shapes from constant grids) and keeps composite operators whole. It records no module stack, so forward hooks
note which nodes each module made. Parameters stay the model's own tensors: nothing is copied.

A number that Python takes out of a tensor is a constant where the tensor is one (grids, lengths of a listed shape);
where it comes out of the input, `guard` decides.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx

from splitmodel.guard import Guard, NotingReads, settle_masks, settle_reads
from splitmodel.subgraph import depends_on_input
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

    `ordinals` numbers the nodes, by name, in the order in which they were traced. `guard` says for which inputs the
    graph stands; for all of the same shapes where there is none.
    """

    module: fx.GraphModule
    spans: tuple[ModuleSpan, ...]
    ordinals: dict[str, int]
    guard: Guard | None = None

    @property
    def inputs(self) -> list[fx.Node]:
        return [node for node in self.module.graph.nodes if node.op == "placeholder"]

    @property
    def outputs(self) -> list[fx.Node]:
        return list(self.module.graph.output_node().args[0])  # type: ignore[arg-type]


def trace(fn: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor], root: nn.Module) -> Trace:
    """Traces `fn(*examples)`, whose modules live under `root`, at the examples' shapes.

    Raises BadInput where an operator writes into a tensor (a graph with such a write cannot be cut), where Python goes
    on by a number that another input would change, and where the model does not take the examples.
    """
    spans: list[ModuleSpan] = []
    ordinals: dict[str, int] = {}

    def flat(*inputs: Tensor) -> tuple[Tensor, ...]:
        with NotingReads():
            outputs = tuple(fn(*inputs))
        ordinals.update((node.name, index) for index, node in enumerate(_graph_in_progress().nodes))
        return outputs

    with torch.no_grad(), _noting_spans(root, spans), _saying_that_it_compiles():
        # Numbers read out of tensors come from the examples: all such reads are in the graph, and looked at below.
        tracer = make_fx(flat, tracing_mode="real", pre_dispatch=True, _error_on_data_dependent_ops=False)
        try:
            module = tracer(*examples)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:  # the model's own refusals, too
            reason = " ".join(str(error).split(" - ")[0].split()).rstrip(".")
            raise BadInput(f"the encoder cannot be traced: {reason}; use another model") from error
    guard = settle_reads(module, examples)
    fold_constants(module)
    _refuse_writes(module.graph)
    return Trace(module, tuple(spans), ordinals, guard)


@contextlib.contextmanager
def _saying_that_it_compiles() -> Iterator[None]:
    """Models ask this, and then take no short cut for a mask that happens to be all ones."""
    with mock.patch.object(torch.compiler, "is_compiling", return_value=True):
        yield


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


def fold_constants(module: fx.GraphModule) -> None:
    """Replaces every computed constant by its value, held as a buffer; removes what nothing uses.

    Position embeddings and grids are computed from constants: folded, they cost nothing at run time and cross
    no boundary. Constants may be built in place; raises BadInput where one is written to after it was read.
    """
    graph = module.graph
    live = depends_on_input(graph)
    constants = [node for node in graph.nodes if node not in live and node.op != "output"]
    values: dict[fx.Node, Any] = {}
    versions: dict[fx.Node, int] = {}  # of weights, and of what the live nodes read, when they first do
    for node in graph.nodes:
        if node in live or node.op == "output":
            read = [source for source in node.all_input_nodes if source in values]
        else:
            values[node] = _constant_value(module, node, values)
            read = [node] if node.op == "get_attr" else []
        for source in read:
            if isinstance(values[source], Tensor):
                versions.setdefault(source, values[source]._version)
    _refuse_later_writes(values, versions)
    settle_masks(module, values)
    for index, node in enumerate(node for node in versions if node.op != "get_attr"):
        module.register_buffer(f"_folded_{index}", values[node])
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.get_attr(f"_folded_{index}"), delete_user_cb=live.__contains__)
    _remove_unused(graph, constants)
    module.recompile()


def _refuse_later_writes(values: dict[fx.Node, Any], versions: dict[fx.Node, int]) -> None:
    for node, version in versions.items():
        if values[node]._version != version:
            raise BadInput(
                f"the encoder writes in place into a weight, or a constant that it has read ({node.name}); use a "
                "model whose encoder is free of in-place operators"
            )


def _remove_unused(graph: fx.Graph, constants: Sequence[fx.Node]) -> None:
    """Also what builds a constant in place, which the graph's own clean-up keeps."""
    graph.eliminate_dead_code()
    remaining = set(graph.nodes)
    for node in reversed(constants):
        if node in remaining and not node.users:
            graph.erase_node(node)


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
