"""Parts of a flat graph: the nodes between some tensors and others, as a module that shares the weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx


def extract(module: fx.GraphModule, inputs: Sequence[fx.Node], outputs: Sequence[fx.Node]) -> fx.GraphModule:
    """A module that computes the outputs from the inputs, both nodes of the given one, in that order."""
    needed = _between(inputs, outputs)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for index, node in enumerate(inputs):
        copies[node] = graph.placeholder(f"input_{index}")
        copies[node].meta = dict(node.meta)
    for node in module.graph.nodes:
        if node in needed:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in outputs))
    return fx.GraphModule(module, graph).eval()


def _between(inputs: Sequence[fx.Node], outputs: Sequence[fx.Node]) -> set[fx.Node]:
    needed: set[fx.Node] = set()
    pending = [node for node in outputs if node not in inputs]
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            pending.extend(source for source in node.all_input_nodes if source not in inputs)
    return needed


def depends_on_input(graph: fx.Graph, but_for: Sequence[fx.Node] = ()) -> set[fx.Node]:
    """The nodes whose value depends on a placeholder; all others are constants, and so are those that are named."""
    live: set[fx.Node] = set()
    for node in graph.nodes:
        reads = node.op == "placeholder" or any(source in live for source in node.all_input_nodes)
        if reads and node not in but_for:
            live.add(node)
    return live
