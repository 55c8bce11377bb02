"""Which shape a loaded model has: by what it can do, never by its name."""

from __future__ import annotations

from splitmodel.adapters.base import Adapter
from splitmodel.adapters.dual_encoder import DualEncoder
from splitmodel.adapters.encoder_decoder import EncoderDecoder
from splitmodel.adapters.generator import Generator
from splitmodel.loading import Checkpoint
from splitmodel.shape import Kind, shape_of
from wire.errors import BadInput

_ADAPTERS: dict[Kind, type[Adapter]] = {
    "generator": Generator,
    "encoder-decoder": EncoderDecoder,
    "dual encoder": DualEncoder,
}


def adapter_for(checkpoint: Checkpoint) -> Adapter:
    """The adapter of a checkpoint's shape; raises BadInput where its shape is none that is served."""
    shape = shape_of(type(checkpoint.model))
    if shape.is_served:
        return _ADAPTERS[shape.kind](checkpoint)
    raise BadInput(
        f"{checkpoint.name} is a {type(checkpoint.model).__name__}, which is not served: {shape.reason}"
    )
