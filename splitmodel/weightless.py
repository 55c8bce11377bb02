"""Models without their weights: parameters that have a shape and no numbers, so that any size takes no memory.

What does not touch a parameter is computed for real: position grids, masks, and whatever is read off the input before
the first weight. So an encoder's Python takes the way that it takes with its weights, and can be traced as with them.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.initialization import no_init_weights


def make_weightless(model_class: Any, config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """The config's model in evaluation mode, its parameters on the meta device and its buffers real."""
    handle = register_module_parameter_registration_hook(_without_numbers)
    try:
        with no_init_weights():
            model = model_class._from_config(config, dtype=dtype)
    finally:
        handle.remove()
    model.tie_weights()
    return model.eval()


def _without_numbers(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> Any:
    if parameter is None or parameter.is_meta:
        return parameter
    return nn.Parameter(parameter.data.to("meta"), requires_grad=False)


class Weightless(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While open, an operator that reads a tensor without numbers gives one, and all others compute.

    A tensor made "on the device of" one without numbers is made for real: it is a grid, a mask or a length.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # For each value the tracer makes a mode that notes the whole stack: a third of all the time.
        self._no_stacks = mock.patch("torch._subclasses.fake_tensor.traceback.extract_stack", return_value=[])

    def __enter__(self) -> Any:
        self._no_stacks.start()
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        self._no_stacks.stop()

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given: tuple[tuple[Any, ...], dict[str, Any]] = (args, kwargs or {})
        tensors = [leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, Tensor)]
        if any(tensor.is_meta for tensor in tensors):
            args, keywords = pytree.tree_map_only(Tensor, _meta, given)
        else:
            args, keywords = given
            if keywords.get("device") is not None and torch.device(keywords["device"]).type == "meta":
                keywords = {**keywords, "device": torch.device("cpu")}
        return func(*args, **keywords)


def _meta(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_meta else tensor.to("meta")
