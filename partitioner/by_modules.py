"""Split points at module boundaries, for an encoder that cannot be traced without its weights: an estimate.

The encoder runs once; each child of its longest list of modules ends one split point.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from partitioner.sizing import PointCost, feature_bytes
from splitmodel.chain import SplitPoint, spec_of


@dataclass(frozen=True, slots=True)
class _Ended:
    """A module's call that has ended: what it returned, and the parameters that were read until then."""

    name: str
    output: Tensor | None
    parameters: tuple[nn.Parameter, ...]
    largest_bytes: int  # of all outputs so far


def module_costs(
    root: nn.Module, encode: Callable[[], Sequence[Tensor]], inputs: Sequence[Tensor], num_tiles: int = 1
) -> tuple[list[PointCost], tuple[nn.Parameter, ...]]:
    """One per boundary, from the inputs to the encoder's outputs, and the parameters that it reads."""
    calls: list[_Ended] = []
    with _noting_calls(root, calls):
        outputs = [tensor for tensor in encode() if isinstance(tensor, Tensor)]
    if not calls:
        return [], ()
    inside = _children_of_longest_list(root, {call.name for call in calls})
    blocks = [call for call in calls if call.name in inside and call.output is not None]
    ends = [(call.name, [call.output], call) for call in blocks if call.output is not None]
    costs = [_cost(0, "input", inputs, None, num_tiles)]
    for label, tensors, call in [*ends, ("output", outputs, calls[-1])]:
        costs.append(_cost(len(costs), label, tensors, call, num_tiles))
    return costs, calls[-1].parameters


def _cost(
    index: int, label: str, tensors: Sequence[Tensor], call: _Ended | None, num_tiles: int
) -> PointCost:
    specs = tuple(spec_of(f"{label}/{i}", tensor) for i, tensor in enumerate(tensors))
    parameters = call.parameters if call is not None else ()
    return PointCost(
        index=index,
        label=label,
        feature_bytes=feature_bytes(SplitPoint(index, label, specs), num_tiles),
        head_parameters=sum(parameter.numel() for parameter in parameters),
        head_bytes=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        # A module's input, its output and what it makes between them.
        activation_bytes=4 * call.largest_bytes if call is not None else 0,
    )


@contextlib.contextmanager
def _noting_calls(root: nn.Module, calls: list[_Ended]) -> Iterator[None]:
    read: dict[int, nn.Parameter] = {}
    largest = 0

    def after(name: str) -> Callable[..., None]:
        def note(module: nn.Module, _args: object, output: Any) -> None:
            nonlocal largest
            read.update((id(one), one) for one in module.parameters(recurse=False))
            tensors = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
            largest = max([largest, *(tensor.numel() * tensor.element_size() for tensor in tensors)])
            calls.append(_Ended(name, tensors[0] if tensors else None, tuple(read.values()), largest))

        return note

    handles = [module.register_forward_hook(after(name)) for name, module in root.named_modules() if name]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _children_of_longest_list(root: nn.Module, called: set[str]) -> set[str]:
    lists = [
        [f"{name}.{child}" for child, _ in module.named_children()]
        for name, module in root.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
    ]
    ran = [{child for child in children if child in called} for children in lists]
    return max(ran, key=len, default=set())
