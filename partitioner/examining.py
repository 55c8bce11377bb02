"""One encoder of a model without weights: given inputs that it takes, traced, cut and sized."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer

from partitioner.by_modules import module_costs
from partitioner.samples import default_sizes, fitted, made_samples
from partitioner.shapes import trace_encoders
from partitioner.sizing import PointCost, chain_costs, stage_weights
from splitmodel.adapters.base import Adapter
from splitmodel.adapters.find import adapter_for
from splitmodel.encoder import Encoder
from splitmodel.loading import LOAD_ERRORS, Checkpoint, one_line
from splitmodel.media import Media
from splitmodel.shape import Shape, getter_name
from splitmodel.stand_ins import stand_ins
from wire.errors import CleaveError
from wire.modality import Modality
from wire.sizes import Size

# What a model's own code raises on an input that it does not take: whatever its author thought of.
MODEL_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
_NUM_SAMPLES = 3
_PARTS: dict[
    Modality, tuple[str, Any, str]
] = {  # its name in a processor, what loads it, a file that it needs
    "image": ("image_processor", AutoImageProcessor, "*processor_config.json"),
    "audio": ("feature_extractor", AutoFeatureExtractor, "*processor_config.json"),
    "text": ("tokenizer", AutoTokenizer, "tokenizer.json"),
}


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
    notes: tuple[str, ...] = ()
    parameters: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Unloaded:
    """A model without its weights, and the folder of its config."""

    name: str
    path: Path
    model: Any
    shape: Shape


def examine(given: Unloaded, modality: Modality, sizes: Sequence[Size] = ()) -> Examined:
    """Sizes the encoder at the processor's input shape, or at those of the sizes where each has its own."""
    reason = "nothing is known to make one"
    for part, note in _parts(given, modality):
        processor = SimpleNamespace(**{_PARTS[modality][0]: part})
        adapter = adapter_for(Checkpoint(given.name, given.path, given.model, processor, ""))
        notes = (note,) if note else ()
        try:
            return _traced(adapter, modality, sizes, notes)
        except (*MODEL_ERRORS, CleaveError) as error:
            reason = one_line(error)
        try:
            return _by_modules(
                adapter, modality, (*notes, _UNTRACED.format(modality=modality, reason=reason))
            )
        except (*MODEL_ERRORS, CleaveError) as error:  # it takes no such input at all
            reason = one_line(error)
    return Examined(notes=(_UNKNOWN.format(modality=modality, reason=reason),))


_UNTRACED = (
    "{modality}: the encoder cannot be traced without its weights ({reason}), so its split points are estimated from "
    "the modules; `cleave partition` tells whether it can be cut"
)
_UNKNOWN = (
    "{modality}: the encoder is not sized, as no input could be made that it takes ({reason}); put the processor's "
    "files beside config.json"
)
_MANY_SHAPES = (
    "{modality}: every size of input has a shape of its own, and only those that a bundle lists can be split; name "
    "them with --size"
)


def _traced(adapter: Adapter, modality: Modality, sizes: Sequence[Size], notes: tuple[str, ...]) -> Examined:
    samples = made_samples(modality, _NUM_SAMPLES, adapter.processing.rate_hz)
    listed = [*sizes] or _default_size(adapter, modality)
    encoders = trace_encoders(adapter, modality, samples, listed)
    if any(encoder.size is not None for encoder in encoders):
        notes = (*notes, _MANY_SHAPES.format(modality=modality))
    weights = [weight for one in encoders for stage in one.chain.stages for weight in stage_weights(stage)]
    sample = fitted(samples[-1], listed[0]) if listed else samples[-1]
    costs = tuple(_costs(adapter, encoder, sample) for encoder in encoders)
    return Examined(costs, notes, frozenset(map(id, weights)))


def _default_size(adapter: Adapter, modality: Modality) -> list[Size]:
    return [] if modality == "text" else [*default_sizes(modality, adapter.processing.rate_hz)[:1]]


def _costs(adapter: Adapter, encoder: Encoder, sample: Media) -> EncoderCosts:
    tiles = adapter.encoder_input(encoder.modality, sample).tiles(encoder.tile_axis)
    points = tuple(chain_costs(encoder.chain, len(tiles)))
    shape = _shape_text(tensor.shape for tensor in encoder.chain.split_points[0].tensors)
    return EncoderCosts(encoder.modality, shape, len(tiles), True, points)


def _by_modules(adapter: Adapter, modality: Modality, notes: tuple[str, ...]) -> Examined:
    sample = made_samples(modality, 2, adapter.processing.rate_hz)[-1]
    sizes = _default_size(adapter, modality)
    given = adapter.encoder_input(modality, fitted(sample, sizes[0]) if sizes else sample)

    def encode() -> list[Tensor]:
        leaves = pytree.tree_leaves(adapter.encode(modality, given))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]

    points, parameters = module_costs(adapter.model, encode, list(given.content.values()))
    shape = _shape_text(tensor.shape for tensor in given.content.values())
    costs = EncoderCosts(modality, shape, 1, False, tuple(points))
    return Examined((costs,), notes, frozenset(map(id, parameters)))


def _shape_text(shapes: Iterator[Sequence[int]]) -> str:
    return " + ".join("x".join(map(str, shape)) for shape in shapes)


def _parts(given: Unloaded, modality: Modality) -> Iterator[tuple[Any, str]]:
    """What prepares inputs, and what to say of it: the checkpoint's own first, then made ones."""
    _, loader, file = _PARTS[modality]
    reason = f"its files ({file}) are not there"
    if any(given.path.glob(file)):
        try:
            yield loader.from_pretrained(given.path, backend="pil", trust_remote_code=False), ""
        except LOAD_ERRORS as error:
            reason = one_line(error)
        else:
            reason = "the encoder does not take what it makes"
    note = f"{modality}: the input's shape is from config.json, as the processor was not used: {reason}"
    for part in stand_ins(modality, given.model.config, _arguments(given, modality)):
        yield part, note


def _arguments(given: Unloaded, modality: Modality) -> Collection[str]:
    model = given.model
    if given.shape.kind == "encoder-decoder":
        return inspect.signature(model.get_encoder().forward).parameters
    # The outer model's method only hands its arguments on.
    owner = model.base_model if hasattr(model.base_model, getter_name(modality)) else model
    return inspect.signature(getattr(owner, getter_name(modality))).parameters
