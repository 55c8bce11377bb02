"""What a trace takes for granted: numbers that Python read out of the input while it ran, and went on by.

An encoder may leave out what is padding, or ask whether a mask is all ones. Its graph holds for every input that
gives these numbers again. They become constants; a guard says whether an input gives them. One that hangs on
what the input shows, and not only on what it is, is no graph's business: such an encoder is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode

from splitmodel.subgraph import depends_on_input, extract
from wire.errors import BadInput

_aten = torch.ops.aten
# Python's ways to many numbers at once, which make no node of their own.
_BULK_READS = (Tensor.tolist, Tensor.numpy, Tensor.__array__)


class NotingReads(TorchFunctionMode):
    """While open, whoever reads all numbers of a tensor leaves a node that reads it, too."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _BULK_READS:
            torch.equal(args[0], args[0])
        return func(*args, **(kwargs or {}))


class Guard:
    """Whether an input gives the numbers that the trace went on by."""

    def __init__(self, module: fx.GraphModule, names: tuple[str, ...]) -> None:
        self.module = module  # from the chain's inputs to one bool
        self.names = names  # of what is taken for granted: the operators that made it

    @torch.no_grad()
    def holds(self, inputs: Sequence[Tensor]) -> bool:
        return bool(self.module(*inputs)[0])


def settle_reads(module: fx.GraphModule, examples: Sequence[Tensor]) -> Guard | None:
    """Makes constants of what was read out of the examples; None where nothing was.

    Raises BadInput where other inputs of the same shapes would give other numbers, and Python went on by them.
    """
    read = _settled(module, [list(examples), *_others(examples)])
    if not read:
        return None
    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    values = [value.clone() for value in extract(module, inputs, read)(*examples)]
    guard = Guard(_guard_module(module, inputs, read, values), tuple(str(node.target) for node in read))
    for index, (node, value) in enumerate(zip(read, values, strict=True)):
        module.register_buffer(f"_read_{index}", value)
        with module.graph.inserting_after(node):
            constant = module.graph.get_attr(f"_read_{index}")
        with module.graph.inserting_after(constant):  # which may be written to, as the tensor was
            owned = module.graph.call_function(_aten.clone.default, (constant,))
        node.replace_all_uses_with(owned)
    return guard


def settle_masks(module: fx.GraphModule, values: dict[fx.Node, Any]) -> None:
    """Constant masks that pick rows become the numbers of these rows, so that every shape is known."""
    for node in module.graph.nodes:
        if node.target is not _aten.index.Tensor:
            continue
        picks: list[Any] = []
        for pick in node.args[1]:
            if pick in values and values[pick].dtype in (torch.bool, torch.uint8):
                picks.extend(values[pick].nonzero(as_tuple=True))
            else:
                picks.append(pick)
        if any(isinstance(pick, Tensor) for pick in picks):
            node.args = (node.args[0], [_as_node(module, node, pick) for pick in picks])


def _as_node(module: fx.GraphModule, before: fx.Node, pick: Any) -> Any:
    if not isinstance(pick, Tensor):
        return pick
    name = f"_rows_{sum(key.startswith('_rows_') for key in module._buffers)}"
    module.register_buffer(name, pick)
    with module.graph.inserting_before(before):
        return module.graph.get_attr(name)


def _settled(module: fx.GraphModule, inputs: Sequence[Sequence[Tensor]]) -> list[fx.Node]:
    """The tensors that numbers were read out of, the same for all inputs; what follows from earlier ones is none.

    Operators that pick by numbers that differ stay as they are: their shapes are theirs to find.
    """
    settled: list[fx.Node] = []
    live = depends_on_input(module.graph)
    for node in module.graph.nodes:
        for source in _sources(node):
            if source not in live:
                continue
            if _gives_the_same(module, source, inputs):
                settled.append(source)
                live = depends_on_input(module.graph, but_for=settled)
            elif torch.Tag.data_dependent_output in node.target.tags:
                raise BadInput(
                    f"the encoder cannot be traced: it goes on by a number that it reads out of its input "
                    f"({source.name}), and other inputs give another; use another model"
                )
    return settled


def _gives_the_same(module: fx.GraphModule, node: fx.Node, inputs: Sequence[Sequence[Tensor]]) -> bool:
    placeholders = [other for other in module.graph.nodes if other.op == "placeholder"]
    part = extract(module, placeholders, [node])
    first, *others = [part(*tensors)[0] for tensors in inputs]
    return all(torch.equal(first, other) for other in others)


def _sources(node: fx.Node) -> list[fx.Node]:
    """Those of a node's tensors that it makes a number of, or its result's shape."""
    tags = getattr(node.target, "tags", ())
    if node.target in (_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default):
        picks: Any = node.args[1]
        return [pick for pick in picks if pick is not None and _is_mask(pick)]
    if torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags:
        return list(node.all_input_nodes)
    return []


def _is_mask(node: fx.Node) -> bool:
    return node.meta["val"].dtype in (torch.bool, torch.uint8)


def _guard_module(
    module: fx.GraphModule, inputs: Sequence[fx.Node], read: Sequence[fx.Node], values: Sequence[Tensor]
) -> fx.GraphModule:
    guard = extract(module, inputs, read)
    graph, output = guard.graph, guard.graph.output_node()
    with graph.inserting_before(output):
        equal = []
        for index, (node, value) in enumerate(zip(output.all_input_nodes, values, strict=True)):
            guard.register_buffer(f"_expected_{index}", value.clone())
            same = graph.call_function(_aten.eq.Tensor, (node, graph.get_attr(f"_expected_{index}")))
            equal.append(graph.call_function(_aten.all.default, (same,)))
        holds = equal[0]
        for more in equal[1:]:
            holds = graph.call_function(_aten.logical_and.default, (holds, more))
    output.args = ((holds,),)
    guard.recompile()
    return guard


def _others(examples: Sequence[Tensor]) -> list[list[Tensor]]:
    """Inputs of the same shapes that show something else; integers are taken from the example, as not all are legal."""
    generator = torch.Generator().manual_seed(0)

    def noise(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator).to(tensor)

    def cut_short(tensor: Tensor) -> Tensor:
        half = tensor.shape[-1] // 2
        return torch.cat([tensor[..., :half], tensor[..., -1:].expand_as(tensor)[..., half:]], dim=-1)

    floats: list[Callable[[Tensor], Tensor]] = [
        noise,
        lambda x: x.flip(-1),
        lambda x: -2 * x - 0.1,
        lambda x: torch.full_like(x, 0.5),
    ]
    integers: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.flip(-1),
        cut_short,
        lambda x: x,
        lambda x: cut_short(x).flip(-1),
    ]
    return [
        [change(x) if x.is_floating_point() else reorder(x) for x in examples]
        for change, reorder in zip(floats, integers, strict=True)
    ]
