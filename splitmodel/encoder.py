"""A traced encoder: its chain, and how the chain's last tensors become what the encoder returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from splitmodel.chain import Chain
from wire.modality import Modality
from wire.sizes import Size

# Parts of an encoder's output that nothing behind it reads.
_INNER_OUTPUTS = ("last_hidden_state", "hidden_states", "attentions")


@dataclass(frozen=True, slots=True)
class EncoderInput:
    """What the model's processor makes of one input for its encoder."""

    content: dict[str, Tensor]  # what crosses split point 0; several tiles lie along `tile_axis`
    constants: dict[str, Tensor]  # what follows from the input's size

    def tiles(self, axis: int | None) -> list[EncoderInput]:
        """Each tile by itself; all of it where nothing is tiled."""
        if axis is None:
            return [self]
        count = next(iter(self.content.values())).shape[axis]
        return [EncoderInput(_at(self.content, axis, i), _at(self.constants, axis, i)) for i in range(count)]


def _at(tensors: Mapping[str, Tensor], axis: int, index: int) -> dict[str, Tensor]:
    return {
        key: value.narrow(axis, index, 1) if value.dim() > axis else value for key, value in tensors.items()
    }


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """One encoder at one input shape."""

    modality: Modality
    shape_id: str
    size: Size | None  # of the inputs that have this shape; None: all have
    tile_axis: int | None  # along which the processor lays tiles; None: an input is one
    chain: Chain
    output_type: type
    output_spec: pytree.TreeSpec

    def output(self, ends: Sequence[Tensor]) -> dict[str, Any]:
        """The encoder's output for the chain's last tensors."""
        leaves = self.chain.outputs_in_order(ends)
        kept: dict[str, Any] = pytree.tree_unflatten(leaves, self.output_spec)
        return kept


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One input of a request behind its chain: the last tensors of every tile."""

    encoder: Encoder
    tiles: list[list[Tensor]]
    size: Size

    @property
    def modality(self) -> Modality:
        return self.encoder.modality

    @property
    def output_type(self) -> type:
        return self.encoder.output_type

    @property
    def output(self) -> dict[str, Any]:
        """The encoder's output for the input."""
        return join_tiles([self.encoder.output(tile) for tile in self.tiles])

    @property
    def is_finite(self) -> bool:
        return _is_finite(self.tiles)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedWhole:
    """One input of a request behind the model's own encoder, where no chain is for inputs of its shape."""

    modality: Modality
    output_type: type
    output: dict[str, Any]
    size: Size

    @property
    def is_finite(self) -> bool:
        return _is_finite(self.output)


AnyEncoded = Encoded | EncodedWhole


def _is_finite(values: Any) -> bool:
    tensors = (leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor))
    return all(bool(tensor.isfinite().all()) for tensor in tensors if tensor.is_floating_point())


def read_outputs(output: Mapping[str, Any], inner: Sequence[str] = _INNER_OUTPUTS) -> dict[str, Any]:
    """The parts of an encoder's output that something behind it reads."""
    return {key: value for key, value in output.items() if key not in inner and value is not None}


def join(outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The output that an encoder gives for several inputs, from those for each.

    A list with one entry for an input goes on with the next one's; in a list with several, of one layer each, the
    entries grow.
    """
    if len(outputs) == 1:
        return dict(outputs[0])
    return {key: _join([output[key] for output in outputs]) for key in outputs[0]}


def join_tiles(outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The output for one input of several tiles: what a list holds of it grows, and not the list."""
    if len(outputs) == 1:
        return dict(outputs[0])
    return {key: _grown([output[key] for output in outputs]) for key in outputs[0]}


def _join(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Tensor):
        return torch.cat(list(values))
    if len(values[0]) == 1:
        return type(values[0])(value[0] for value in values)
    return type(values[0])(_join(parts) for parts in zip(*values, strict=True))


def _grown(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Tensor):
        return torch.cat(list(values))
    return type(values[0])(_grown(parts) for parts in zip(*values, strict=True))
