"""One encoder of a model without weights: given inputs that it takes, traced, cut and sized."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils import _pytree as pytree

from partitioner.by_modules import module_costs
from partitioner.given import Given, ProcessorFound
from partitioner.samples import default_sizes, made_samples
from partitioner.shapes import trace_encoders
from partitioner.sizing import PointCost, chain_costs, stage_weights
from splitmodel.adapters.base import Adapter
from splitmodel.adapters.find import adapter_for
from splitmodel.encoder import Encoder
from splitmodel.loading import Checkpoint, one_line
from splitmodel.media import Media
from splitmodel.recipes import recipe_of
from wire.errors import BadInput, CleaveError
from wire.modality import Modality
from wire.sizes import ImageSize, Size

# What a model's own code raises on an input that it does not take: whatever its author thought of.
MODEL_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
_NUM_SAMPLES = 3
_PICTURE = ImageSize(640, 480)  # what a picture's tiles are counted for
_SECONDS = 2

_UNTRACED = (
    "{modality}: the encoder cannot be traced without its weights ({reason}), so its split points are estimated from "
    "the modules; `cleave partition` tells whether it can be cut"
)
_UNKNOWN = (
    "{modality}: the encoder is not sized, as no input could be made that it takes ({reason}); put the processor's "
    "files beside config.json"
)
_MANY_SHAPES = (
    "{modality}: every size of input has a shape of its own, and only those that a bundle lists can be split; "
    "name them with --size"
)
_UNPREPARED = "{modality}: a device cannot prepare its input ({reason})"


@dataclass(frozen=True, slots=True)
class EncoderCosts:
    """One encoder at one input shape. Features are of a whole input, which makes so many tiles."""

    modality: Modality
    input_shape: str
    num_tiles: int
    is_traced: bool  # else estimated from the modules
    points: tuple[PointCost, ...]

    @property
    def num_parameters(self) -> int:
        """Of the whole encoder."""
        return self.points[-1].head_parameters


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found of one modality; `parameters` are those that its encoder reads, by id."""

    encoders: tuple[EncoderCosts, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    parameters: frozenset[int] = frozenset()


def examine(given: Given, modality: Modality, sizes: Sequence[Size] = ()) -> Examined:
    """Sizes the encoder at the processor's input shape, or at those of the sizes where each has its own."""
    reason = "nothing is known to make one"
    for found in given.processors(modality):
        try:
            adapter = adapter_for(Checkpoint(given.name, given.path, given.model, found.processor, ""))
            return _traced(adapter, modality, sizes, found)
        except (*MODEL_ERRORS, CleaveError) as error:
            reason = one_line(error)
        try:
            note = _UNTRACED.format(modality=modality, reason=reason)
            return _by_modules(adapter, modality, (*found.notes, note))
        except (*MODEL_ERRORS, CleaveError) as error:  # it takes no such input at all
            reason = one_line(error)
    return Examined(notes=(_UNKNOWN.format(modality=modality, reason=reason),))


def _traced(adapter: Adapter, modality: Modality, sizes: Sequence[Size], found: ProcessorFound) -> Examined:
    notes = found.notes
    if found.is_made:  # the same tensors of whatever goes in
        encoders = [adapter.trace_encoder(modality, _blank(adapter, modality))]
    else:
        listed = [*sizes] or (default_sizes(adapter, modality)[:1] if modality != "text" else [])
        samples = made_samples(adapter, modality, _NUM_SAMPLES)
        encoders = trace_encoders(adapter, modality, samples, listed)
    if any(encoder.size is not None for encoder in encoders):
        notes = (*notes, _MANY_SHAPES.format(modality=modality))
    weights = [weight for one in encoders for stage in one.chain.stages for weight in stage_weights(stage)]
    return Examined(
        encoders=tuple(_costs(adapter, encoder) for encoder in encoders),
        problems=() if found.is_made else tuple(_unprepared(adapter, encoders[0])),
        notes=notes,
        parameters=frozenset(map(id, weights)),
    )


def _costs(adapter: Adapter, encoder: Encoder) -> EncoderCosts:
    tiles = (
        1 if encoder.tile_axis is None else adapter.num_tiles(encoder.modality, _PICTURE, encoder.tile_axis)
    )
    points = tuple(chain_costs(encoder.chain, tiles))
    shape = _shape_text(tensor.shape for tensor in encoder.chain.split_points[0].tensors)
    return EncoderCosts(encoder.modality, shape, tiles, True, points)


def _unprepared(adapter: Adapter, encoder: Encoder) -> Iterator[str]:
    """Where the processor does what no recipe expresses."""
    try:
        recipe_of(adapter, encoder)
    except BadInput as error:
        yield _UNPREPARED.format(modality=encoder.modality, reason=str(error))


def _by_modules(adapter: Adapter, modality: Modality, notes: tuple[str, ...]) -> Examined:
    given = adapter.encoder_input(modality, _blank(adapter, modality))

    def encode() -> list[Tensor]:
        leaves = pytree.tree_leaves(adapter.encode(modality, given))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]

    points, parameters = module_costs(adapter.model, encode, list(given.content.values()))
    shape = _shape_text(tensor.shape for tensor in given.content.values())
    costs = EncoderCosts(modality, shape, 1, False, tuple(points))
    return Examined((costs,), (), notes, frozenset(map(id, parameters)))


def _blank(adapter: Adapter, modality: Modality) -> Media:
    match modality:
        case "image":
            return Image.new("RGB", (_PICTURE.width, _PICTURE.height), "grey")
        case "audio":
            return np.zeros(_SECONDS * adapter.processing.rate_hz, np.float32)
        case _:
            return ""


def _shape_text(shapes: Iterator[Sequence[int]]) -> str:
    return " + ".join("x".join(map(str, shape)) for shape in shapes)
