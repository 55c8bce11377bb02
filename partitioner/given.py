"""A model without weights and what its folder brings: a processor, parts of one, or nothing but its config."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer

from splitmodel.adapters.sources import find_source
from splitmodel.loading import LOAD_ERRORS, one_line
from splitmodel.processor_parts import load_processor
from splitmodel.shape import Shape
from splitmodel.stand_ins import stand_ins
from wire.modality import Modality

# Per modality: the part's name in a processor, what loads it, and the files that it needs.
_PARTS: dict[Modality, tuple[str, Any, str]] = {
    "image": ("image_processor", AutoImageProcessor, "*processor_config.json"),
    "audio": ("feature_extractor", AutoFeatureExtractor, "*processor_config.json"),
    "text": ("tokenizer", AutoTokenizer, "tokenizer.json"),
}


@dataclass(frozen=True, slots=True)
class ProcessorFound:
    """A processor with a part for one modality; a made one gives tensors shaped by the config."""

    processor: Any
    notes: tuple[str, ...] = ()
    is_made: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """The model has its shape's class and no weights; `path` is the folder of its config.json."""

    name: str
    path: Path
    model: Any
    shape: Shape

    def processors(self, modality: Modality) -> Iterator[ProcessorFound]:
        """Those that there are: the checkpoint's own, its part for the modality alone, and made ones."""
        name, loader, file = _PARTS[modality]
        reason = f"{file} is not there"
        if any(self.path.glob(file)):
            yield from self._whole()
            try:
                part = loader.from_pretrained(self.path, backend="pil", trust_remote_code=False)
            except LOAD_ERRORS as error:
                reason = one_line(error)
            else:
                yield ProcessorFound(SimpleNamespace(**{name: part}))
                reason = "the encoder does not take what it makes"
        note = f"{modality}: the input's shape is from config.json, as the processor was not used: {reason}"
        for part in stand_ins(modality, self.model.config, self._arguments(modality)):
            yield ProcessorFound(SimpleNamespace(**{name: part}), (note,), is_made=True)

    def _whole(self) -> Iterator[ProcessorFound]:
        if (self.path / "tokenizer.json").is_file():
            try:
                yield ProcessorFound(load_processor(self.path, self.model.config))
            except LOAD_ERRORS:  # its parts are tried next
                return

    def _arguments(self, modality: Modality) -> Collection[str]:
        """What the encoder takes."""
        if self.shape.kind == "encoder-decoder":
            return inspect.signature(self.model.get_encoder().forward).parameters
        source = find_source(self.model, modality)
        return source.parameters if source is not None else ()
