"""A checkpoint's processor, also where one of its parts cannot be loaded here, or where it has no class of its own.

The processors of some models can only be loaded with torchvision, for the sake of videos. Without it, one is put
together from the parts that do load, and the part that is missing says so when it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoProcessor,
    AutoTokenizer,
    AutoVideoProcessor,
    ProcessorMixin,
)
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from wire.errors import BadInput

_LOADERS = {
    "image_processor": AutoImageProcessor,
    "feature_extractor": AutoFeatureExtractor,
    "video_processor": AutoVideoProcessor,
    "tokenizer": AutoTokenizer,
}
_OPTIONS = {"backend": "pil", "trust_remote_code": False}


class MissingPart:
    """Stands for a part of a processor that cannot be loaded; whatever setting is asked for, it has none."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        self.model_input_names: list[str] = []

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)

    def __call__(self, *_: object, **__: object) -> Any:
        kind = self.name.removesuffix("_processor")
        raise BadInput(f"no {kind} can be read: its processor does not load ({self.reason}); send none")


class LooseParts:
    """What a checkpoint without a processor class has: those of its parts that exist, None for the others."""

    def __init__(self, parts: dict[str, Any]) -> None:
        self.image_processor = parts.get("image_processor")
        self.feature_extractor = parts.get("feature_extractor")
        self.tokenizer = parts.get("tokenizer")
        self.chat_template = getattr(self.tokenizer, "chat_template", None)


def load_processor(path: Path, config: Any) -> Any:
    """The checkpoint's own processor; put together from its parts where that needs what is not installed.

    Raises what transformers raises where no processor can be had: OSError, ValueError, ImportError.
    """
    try:
        whole = AutoProcessor.from_pretrained(path, **_OPTIONS)
    except ImportError as error:
        # Raised for a part, or for the class itself, which then stays out of reach.
        kind = PROCESSOR_MAPPING.get(type(config), None)
        if not isinstance(kind, type) or not issubclass(kind, ProcessorMixin):
            raise
        return _from_parts(kind, path, " ".join(str(error).split()))
    return whole if isinstance(whole, ProcessorMixin) else _loose_parts(path)


def _from_parts(kind: Any, path: Path, reason: str) -> Any:
    parts = [_part_or_missing(name, path, reason) for name in kind.get_attributes()]
    settings, _ = kind.get_processor_dict(path)
    return _lenient(kind).from_args_and_dict(parts, settings)


def _part_or_missing(name: str, path: Path, reason: str) -> Any:
    try:
        return _LOADERS[name].from_pretrained(path, **_OPTIONS)
    except ImportError:
        return MissingPart(name, reason)


def _lenient(kind: Any) -> Any:
    """The same class, but a part may be missing."""

    def check(self: Any, name: str, part: Any) -> Any:
        if isinstance(part, MissingPart):
            return MissingPart
        return kind.check_argument_for_proper_class(self, name, part)

    def to_dict(self: Any) -> dict[str, Any]:  # also what its text is made of
        return {key: part for key, part in kind.to_dict(self).items() if not isinstance(part, MissingPart)}

    members = {"check_argument_for_proper_class": check, "to_dict": to_dict, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), members)


def _loose_parts(path: Path) -> LooseParts:
    parts = {}
    for name, loader in _LOADERS.items():
        try:
            parts[name] = loader.from_pretrained(path, **_OPTIONS)
        except (OSError, ValueError, ImportError):
            continue
    return LooseParts(parts)
