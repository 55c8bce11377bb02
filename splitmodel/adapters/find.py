"""Which shape a loaded model has: by what it can do, never by its name."""

from __future__ import annotations

from splitmodel.adapters.base import Adapter
from splitmodel.adapters.dual_encoder import DualEncoder
from splitmodel.adapters.encoder_decoder import EncoderDecoder
from splitmodel.adapters.generator import Generator
from splitmodel.adapters.sources import find_source
from splitmodel.loading import Checkpoint
from wire.errors import BadInput


def adapter_for(checkpoint: Checkpoint) -> Adapter:
    """The adapter of a checkpoint's shape; raises BadInput where its shape is none that is served."""
    model = checkpoint.model
    has_features = any(find_source(model, modality) is not None for modality in ("image", "audio"))
    if hasattr(model, "get_text_features") and has_features:
        return DualEncoder(checkpoint)
    if model.can_generate() and has_features:
        return Generator(checkpoint)
    if model.can_generate() and model.config.is_encoder_decoder:
        return EncoderDecoder(checkpoint)
    raise BadInput(
        f"{checkpoint.name} is a {type(model).__name__}, and served are generators with picture or sound encoders, "
        "encoder-decoders and dual encoders; see `cleave doctor`"
    )
