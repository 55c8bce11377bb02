"""The shape *generator with encoders*: features of pictures and sounds stand in for placeholder tokens of a decoder.

The encoders are the model's own `get_image_features` and `get_audio_features`; their results go back in as
`mm_encoder_outputs` where the model takes that, else they stand in for the method on a twin.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from splitmodel.adapters.base import Adapter
from splitmodel.encoder import AnyEncoded, join
from splitmodel.loading import Checkpoint
from splitmodel.model_call import ModelCall
from splitmodel.twin import name_of, shallow, twin_with
from wire.errors import BadInput
from wire.modality import Modality
from wire.shape import ModelShape

_METHODS: dict[Modality, str] = {"image": "get_image_features", "audio": "get_audio_features"}


class Generator(Adapter):
    """A model whose encoders are chains and whose decoder generates from the chains' ends."""

    shape: ModelShape = "generator"

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        if not self.modalities:
            raise BadInput(
                f"{checkpoint.name} has neither get_image_features nor get_audio_features with a processor for it, so "
                "no encoder can be split off; use another model"
            )

    @property
    def modalities(self) -> tuple[Modality, ...]:
        parts = {"image": self.processing.image_processor, "audio": self.processing.feature_extractor}
        return tuple(m for m, name in _METHODS.items() if hasattr(self.model, name) and parts[m] is not None)

    def split(self, encoded: Sequence[AnyEncoded], prompt: str) -> ModelCall:
        kinds = [one.modality for one in encoded]
        inputs = self._on_device(self.processing.blank_inputs(prompt, kinds, [one.size for one in encoded]))
        model = self.model
        outputs: dict[str, Any] = {}
        for modality in dict.fromkeys(kinds):
            output = _output([one for one in encoded if one.modality == modality])
            if "mm_encoder_outputs" in inspect.signature(model.forward).parameters and modality == "image":
                outputs[modality] = output
                inputs = self._without_media(modality, inputs)
            else:
                model = self._standing_in(model, modality, output)
        return ModelCall(model, {**inputs, "mm_encoder_outputs": outputs} if outputs else dict(inputs))

    def _without_media(self, modality: Modality, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Neither the content nor what only the encoder takes."""
        only = set(inspect.signature(getattr(self.model, _METHODS[modality])).parameters)
        only -= set(inspect.signature(self.model.forward).parameters)
        return {
            key: value
            for key, value in inputs.items()
            if key not in only and not self.processing.is_content(modality, key, value)
        }

    def _standing_in(self, model: Any, modality: Modality, output: Any) -> Any:
        """A twin whose method returns this, whatever it is given; blank media go in to have it called."""
        owner = _owner(model, _METHODS[modality])
        if owner is model:
            twin = shallow(model)
            setattr(twin, _METHODS[modality], lambda *_, **__: output)
            return twin
        stand_in = shallow(owner)
        setattr(stand_in, _METHODS[modality], lambda *_, **__: output)
        return twin_with(model, name_of(model, owner), stand_in)

    def _method(self, modality: Modality) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(_owner(self.model, _METHODS[modality]), _METHODS[modality])
        return method


def _output(encoded: Sequence[AnyEncoded]) -> Any:
    outputs = [output for one in encoded for output in one.outputs]
    return encoded[0].output_type(**join(outputs))


def _owner(model: Any, name: str) -> Any:
    """Whose method does the encoding: the outer model's may only hand its arguments on."""
    return model.base_model if hasattr(model.base_model, name) else model
