"""What shape a model has: told from what its class can do, before any weight is read. Pure, and names no family.

generator         get_{image,audio,video}_features, and generates from tokens that the features stand among
encoder-decoder   generates from `encoder_outputs`
dual encoder      get_text_features beside another modality's, and generates nothing
single            one input of one modality, and nothing generated from it: not served
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from transformers import (
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
    MODEL_MAPPING,
    AutoModel,
    AutoModelForMultimodalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
)

from wire.modality import MODALITIES, Modality
from wire.shape import MODEL_SHAPES, ModelShape

Kind = ModelShape | Literal["single", "not supported"]

# Which of transformers' classes loads a config, the first that knows it: those that generate before those that do not.
LOADERS = (
    (MODEL_FOR_MULTIMODAL_LM_MAPPING, AutoModelForMultimodalLM),
    (MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING, AutoModelForSpeechSeq2Seq),
    (MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, AutoModelForSeq2SeqLM),
    (MODEL_MAPPING, AutoModel),
)
# The arguments of `forward` that hold content, as transformers calls them.
_CONTENT: dict[str, Modality] = {
    "pixel_values": "image",
    "flattened_patches": "image",
    "input_features": "audio",
    "input_values": "audio",
    "pixel_values_videos": "video",
    "input_ids": "text",
}


_TOWERS: dict[Modality, str] = {"image": "vision_config", "audio": "audio_config"}


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's shape and the modalities that have an encoder. `reason` says why it cannot be split, and what to do."""

    kind: Kind
    modalities: tuple[Modality, ...] = ()
    reason: str = ""

    @property
    def is_served(self) -> bool:
        """Whether it has encoders that can be split."""
        return self.kind in MODEL_SHAPES and not self.reason


def shape_of(model: Any) -> Shape:
    """The shape of a config, or of a model's class."""
    model_class = model if isinstance(model, type) else class_of(model)
    if model_class is None:
        return _not_supported(
            f"transformers has no class that answers for {model.model_type}; use a model that takes pictures or sound"
        )
    try:
        return _shape_of_class(model_class)
    except ImportError as error:  # the class is a stand-in for one whose libraries are missing
        return _not_supported(" ".join(str(error).split()))


def class_of(config: Any) -> Any:
    """The class that such a config's model is loaded with; None where transformers has none."""
    for mapping, _ in LOADERS:
        if type(config) in mapping:
            try:
                found = mapping[type(config)]
            except ValueError:  # listed, and not in this version
                continue
            return found[0] if isinstance(found, tuple) else found
    return None


def getter_name(modality: Modality) -> str:
    """The method of a model that encodes a modality, where it has one."""
    return f"get_{modality}_features"


def _shape_of_class(model_class: Any) -> Shape:
    arguments = inspect.signature(model_class.forward).parameters
    getters = tuple(one for one in MODALITIES if callable(getattr(model_class, getter_name(one), None)))
    generates = bool(model_class.can_generate())
    towers = _towers(model_class, arguments) if generates and "encoder_outputs" not in arguments else set()
    senses = tuple(one for one in MODALITIES if one != "text" and one in {*getters, *towers})
    reason = _VIDEO_ONLY if senses == ("video",) else ""
    if generates and senses:
        return Shape("generator", senses, reason)
    if generates and "encoder_outputs" in arguments:
        modality = _CONTENT.get(_main_input(model_class, arguments))
        if modality is None:
            return _not_supported(_NO_CONTENT)
        return Shape("encoder-decoder", (modality,), _TEXT_ONLY if modality == "text" else "")
    if not generates and "text" in getters and senses:
        return Shape("dual encoder", getters, reason)
    return _without_encoders(arguments)


def _towers(model_class: Any, arguments: Collection[str]) -> set[Modality]:
    """The modalities whose encoder is a mere part of the model, told by its forward and by its config."""
    parts = getattr(model_class.config_class, "sub_configs", ())
    taken = {_CONTENT[name] for name in _CONTENT if name in arguments}
    return {sense for sense, name in _TOWERS.items() if name in parts and sense in taken}


def _main_input(model_class: Any, arguments: Collection[str]) -> str:
    named = str(getattr(model_class, "main_input_name", ""))
    return named if named in arguments else next((name for name in _CONTENT if name in arguments), "")


def _without_encoders(arguments: Collection[str]) -> Shape:
    modalities = tuple(dict.fromkeys(_CONTENT[name] for name in _CONTENT if name in arguments))
    if not modalities:
        return _not_supported(_NO_CONTENT)
    if modalities == ("text",):
        return _not_supported(_TEXT_ONLY)
    if len(modalities) > 1:
        names = " or ".join(getter_name(one) for one in modalities if one != "text")
        return _not_supported(
            f"it takes {' and '.join(modalities)} into one graph and has no {names}, so no encoder can be split off; "
            "use a model that has one"
        )
    return Shape("single", modalities, _ENDS_IN_NOTHING)


def _not_supported(reason: str) -> Shape:
    return Shape("not supported", (), reason)


_VIDEO_ONLY = (
    "its only encoder is one of videos, which are not split; use a model that takes pictures, and send frames"
)
_TEXT_ONLY = (
    "it takes text alone, and text is smaller than any features of it, so there is nothing to run on a device; use a "
    "model that takes pictures or sound"
)
_NO_CONTENT = (
    "no input of it is named as transformers names pictures, sound or text; use a model that takes them"
)
_ENDS_IN_NOTHING = (
    "it neither generates tokens nor compares embeddings, and only what does is served; use a generator, an "
    "encoder-decoder or a dual encoder"
)
