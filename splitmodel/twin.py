"""Twins: shallow copies of a model that share its weights, in which one module is another one's.

What a model's own code does around its decoder can so be run, and listened to, without a hook or a number left on the
model itself: whatever that code keeps (Qwen keeps `rope_deltas`) stays on the twin, and goes with it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn


def shallow(module: Any) -> Any:
    """A module of the same class with the same children, parameters and settings, in dictionaries of its own."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


def twin_with(root: Any, name: str, replacement: nn.Module, configs: Mapping[int, Any] | None = None) -> Any:
    """A twin of `root` in which the module called `name` is `replacement`; only the path to it is copied.

    `configs` gives, by the id of a config, another one for the copies to go by.
    """
    twin = current = _on_path(root, configs)
    *parents, last = name.split(".")
    for parent in parents:
        child = _on_path(current._modules[parent], configs)
        current._modules[parent] = child
        current = child
    current._modules[last] = replacement
    return twin


def name_of(root: nn.Module, module: nn.Module) -> str:
    """The module's name below `root`."""
    return next(str(name) for name, candidate in root.named_modules() if candidate is module)


def eager_configs(config: Any) -> dict[int, Any]:
    """By the id of a config and of each inside it: the same with attention that always states its mask."""
    copies: dict[int, Any] = {}
    copy.deepcopy(config, copies)._attn_implementation = "eager"
    return copies


def _on_path(module: Any, configs: Mapping[int, Any] | None) -> Any:
    twin = shallow(module)
    if configs is not None and hasattr(twin, "config"):
        twin.config = configs[id(module.config)]
    return twin
