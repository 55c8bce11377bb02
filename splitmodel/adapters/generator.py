"""The shape *generator with encoders*: features of pictures and sounds stand in for placeholder tokens of a decoder.

A picture's features go back in as `mm_encoder_outputs` where the model takes that; else an encoder's result stands in
for the encoder on a twin.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from splitmodel.adapters.base import Adapter
from splitmodel.adapters.sources import MethodSource, Source, find_source
from splitmodel.encoder import AnyEncoded, join
from splitmodel.loading import Checkpoint
from splitmodel.media import Media, MediaInput
from splitmodel.model_call import ModelCall
from wire.errors import BadInput
from wire.modality import Modality
from wire.shape import ModelShape

# Stands for whatever will be asked, where only the media's half of the processor's work is wanted.
_ANY_PROMPT = "?"


class Generator(Adapter):
    """A model whose encoders are chains and whose decoder generates from the chains' ends."""

    shape: ModelShape = "generator"

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        parts: dict[Modality, Any] = {
            "image": self.processing.image_processor,
            "audio": self.processing.feature_extractor,
        }
        found = {m: find_source(self.model, m) for m, part in parts.items() if part is not None}
        self._sources: dict[Modality, Source] = {
            m: source for m, source in found.items() if source is not None
        }
        if not self._sources:
            raise BadInput(
                f"{checkpoint.name} has no picture or sound encoder with a processor for it, so none can be split off; "
                "use another model"
            )

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(self._sources)

    def split(self, encoded: Sequence[AnyEncoded], prompt: str) -> ModelCall:
        kinds = [one.modality for one in encoded]
        inputs = self._on_device(self.processing.blank_inputs(prompt, kinds, [one.size for one in encoded]))
        model = self.model
        outputs: dict[str, Any] = {}
        for modality in dict.fromkeys(kinds):
            output = _output([one for one in encoded if one.modality == modality])
            if self._takes_outputs(modality):
                outputs[modality] = output
                inputs = self._without_media(modality, inputs)
            else:
                # Blank media stay, so that the encoder is called.
                model = self._sources[modality].standing_in(model, output)
        return ModelCall(model, {**inputs, "mm_encoder_outputs": outputs} if outputs else dict(inputs))

    def _takes_outputs(self, modality: Modality) -> bool:
        is_method = isinstance(self._sources[modality], MethodSource)
        taken = inspect.signature(self.model.forward).parameters
        return is_method and modality == "image" and "mm_encoder_outputs" in taken

    def _without_media(self, modality: Modality, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Neither the content nor what only the encoder takes."""
        only = self._sources[modality].parameters - set(inspect.signature(self.model.forward).parameters)
        return {
            key: value
            for key, value in inputs.items()
            if key not in only and not self.processing.is_content(modality, key, value)
        }

    def _arguments(self, modality: Modality, media: Media) -> dict[str, Tensor]:
        source = self._sources[modality]
        if modality == "image" and isinstance(source, MethodSource):
            return source.arguments(self._on_device(self.processing.encoder_inputs(modality, media)))
        # The processor may rename what its part makes, and the model make something of it before its encoder.
        whole = self.processing.whole(_ANY_PROMPT, [MediaInput(modality, media)])
        return source.arguments(self._on_device(whole))

    def _method(self, modality: Modality) -> Callable[..., Any]:
        return self._sources[modality].call

    def _read(self, modality: Modality, output: Any) -> dict[str, Any]:
        return self._sources[modality].read(output)


def _output(encoded: Sequence[AnyEncoded]) -> Any:
    return encoded[0].output_type(**join([one.output for one in encoded]))
