"""Where a generator's features come from: a method that its family has for them, or the tower that its forward calls.

Both say how the tensors at split point 0 are had, what encodes them, and how a result stands in for that.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from splitmodel.encoder import read_outputs
from splitmodel.twin import name_of, shallow, twin_with


class Source(Protocol):
    """Of the features of one modality."""

    @property
    def call(self) -> Callable[..., Any]:
        """What encodes: keyword tensors in, a ModelOutput out."""

    @property
    def parameters(self) -> frozenset[str]:
        """What it takes."""

    def arguments(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What it is called with, inside a call of the whole model with these inputs."""

    def read(self, output: Any) -> dict[str, Any]:
        """The parts of its output that something behind it reads."""

    def standing_in(self, model: Any, output: Any) -> Any:
        """A twin in which it gives this output, whatever it is called with."""


class MethodSource:
    """`get_image_features` and its like: of the outer model, or of the one inside it."""

    def __init__(self, model: Any, name: str) -> None:
        self._name = name
        self._owner = _owner(model, name)

    @property
    def call(self) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._owner, self._name)
        return method

    @property
    def parameters(self) -> frozenset[str]:
        return frozenset(inspect.signature(self.call).parameters)

    def arguments(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {key: value for key, value in whole.items() if key in self.parameters}

    def read(self, output: Any) -> dict[str, Any]:
        return read_outputs(output)

    def standing_in(self, model: Any, output: Any) -> Any:
        owner = _owner(model, self._name)
        stand_in = shallow(owner)
        # With the method's own signature: `generate` looks at it to know what to call the method with.
        setattr(stand_in, self._name, functools.wraps(self.call)(lambda *_, **__: output))
        return stand_in if owner is model else twin_with(model, name_of(model, owner), stand_in)


class TowerSource:
    """The encoder module itself, where no method leads to it; what the model does behind it stays on the cloud."""

    def __init__(self, model: Any, tower: nn.Module) -> None:
        self._model = model
        self._tower = tower
        self._name = name_of(model, tower)

    @property
    def call(self) -> Callable[..., Any]:
        return self._tower

    @property
    def parameters(self) -> frozenset[str]:
        return frozenset(inspect.signature(self._tower.forward).parameters)

    @torch.no_grad()
    def arguments(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        signature = inspect.signature(self._tower.forward)

        def note(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            raise _Noted({key: value for key, value in given.items() if isinstance(value, Tensor)})

        stand_in = shallow(self._tower)
        stand_in.forward = note
        try:
            twin_with(self._model, self._name, stand_in)(**whole)
        except _Noted as noted:
            return noted.arguments
        return {}

    def read(self, output: Any) -> dict[str, Any]:
        return read_outputs(output, inner=("hidden_states", "attentions"))

    def standing_in(self, model: Any, output: Any) -> Any:
        stand_in = shallow(self._tower)
        stand_in.forward = lambda *_, **__: output
        return twin_with(model, self._name, stand_in)


class _Noted(Exception):
    """The tower has been called."""

    def __init__(self, arguments: dict[str, Tensor]) -> None:
        super().__init__("noted")
        self.arguments = arguments


def find_source(model: Any, modality: str) -> Source | None:
    """The model's source of a modality's features; None where it has none."""
    name = f"get_{modality}_features"
    if hasattr(model, name) or hasattr(model.base_model, name):
        return MethodSource(model, name)
    tower = model.get_encoder(modality=modality)
    inner = (model, model.base_model)
    return TowerSource(model, tower) if isinstance(tower, nn.Module) and tower not in inner else None


def _owner(model: Any, name: str) -> Any:
    """Whose method does the encoding: the outer model's may only hand its arguments on."""
    return model.base_model if hasattr(model.base_model, name) else model
