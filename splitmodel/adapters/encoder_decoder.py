"""The shape *encoder-decoder*: a decoder attends to what the encoder made, which goes back in as `encoder_outputs`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from splitmodel.adapters.base import Adapter
from splitmodel.encoder import AnyEncoded, read_outputs
from splitmodel.loading import Checkpoint
from splitmodel.model_call import ModelCall
from wire.errors import BadInput
from wire.modality import Modality
from wire.shape import ModelShape


class EncoderDecoder(Adapter):
    """A model with one encoder, of pictures or of sounds; it takes no prompt."""

    shape: ModelShape = "encoder-decoder"

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        if not self.modalities:
            raise BadInput(
                f"the processor of {checkpoint.name} makes nothing that its encoder takes; use another model"
            )

    @property
    def modalities(self) -> tuple[Modality, ...]:
        parts: dict[Modality, Any] = {
            "image": self.processing.image_processor,
            "audio": self.processing.feature_extractor,
        }
        name = self.model.main_input_name
        return tuple(m for m, part in parts.items() if part is not None and name in part.model_input_names)

    def split(self, encoded: Sequence[AnyEncoded], prompt: str) -> ModelCall:
        if len(encoded) != 1:
            raise BadInput(f"this model reads one input per request, and {len(encoded)} came; ask one by one")
        if prompt:
            raise BadInput("this model takes no prompt beside its input; leave it empty")
        [one] = encoded
        output = one.output_type(**one.output)
        inputs = self._on_device(self.processing.prompt_inputs("", [one.modality], [one.size]))
        taken = inspect.signature(self.model.forward).parameters
        inputs = {key: value for key, value in inputs.items() if key in taken}
        return ModelCall(self.model, {**inputs, "encoder_outputs": output})

    def _method(self, modality: Modality) -> Callable[..., Any]:
        forward: Callable[..., Any] = self.model.get_encoder().forward
        return _Call(self.model.get_encoder(), forward)

    def _read(self, modality: Modality, output: Any) -> dict[str, Any]:
        # Some encoders hand on the mask of what they kept.
        return read_outputs(output, inner=("hidden_states", "attentions"))


class _Call:
    """A module's call, through its hooks, with its forward's signature."""

    def __init__(self, module: Any, forward: Callable[..., Any]) -> None:
        self._module = module
        self.__signature__ = inspect.signature(forward)

    def __call__(self, **arguments: Any) -> Any:
        return self._module(**arguments)
