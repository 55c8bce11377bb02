"""Whether a model can be split, and what it would cost: from its config alone, before any weight is read.

The model is built without its weights, and its encoders are traced and cut as partitioning does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partitioner.examining import MODEL_ERRORS, EncoderCosts, Examined, examine
from partitioner.given import Given
from splitmodel.loading import load_config, one_line, resolve
from splitmodel.shape import Shape, class_of, shape_of
from splitmodel.weightless import Weightless, make_weightless
from wire.errors import BadInput
from wire.sizes import Size

_FILES = ("*.json",)  # of a hub id: settings and vocabularies, no weights


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What there is to say of a model. `problems` keep it from being split; `notes` do not."""

    model: str
    architecture: str
    shape: Shape
    num_parameters: int
    decoder_parameters: int  # of all that no encoder reads, and that stays in the cloud
    encoders: tuple[EncoderCosts, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def is_splittable(self) -> bool:
        """Whether some encoder has a split point between its ends, and nothing is in the way."""
        return not self.problems and any(len(encoder.points) > 2 for encoder in self.encoders)


def diagnose(name: str, sizes: Sequence[Size] = ()) -> Diagnosis:
    """Raises UnknownModel where there is no such model, BadInput where its config describes none that can be built."""
    path = resolve(name, _FILES)
    config = load_config(name, path)
    model_class, shape = class_of(config), shape_of(config)
    architecture = str(getattr(model_class, "__name__", config.model_type))
    problems = tuple(_problems(path, config, shape))
    if not shape.is_served:
        return Diagnosis(name, architecture, shape, 0, 0, (), problems, ())
    try:
        model = make_weightless(model_class, config)
    except MODEL_ERRORS as error:
        raise BadInput(
            f"the config.json of {name} describes no model that can be built ({one_line(error)}); use a complete one"
        ) from error
    with Weightless():
        found = [_examine(Given(name, path, model, shape), one, sizes) for one in shape.modalities]
    sizes_by_id = {id(parameter): parameter.numel() for parameter in model.parameters()}
    in_encoders = {one for examined in found for one in examined.parameters}
    rest = sum(size for one, size in sizes_by_id.items() if one not in in_encoders)
    problems += tuple(problem for examined in found for problem in examined.problems)
    encoders = tuple(encoder for examined in found for encoder in examined.encoders)
    if not any(len(encoder.points) > 2 for encoder in encoders):
        problems = (*problems, "none of its encoders has a split point; see the notes")
    return Diagnosis(
        model=name,
        architecture=architecture,
        shape=shape,
        num_parameters=sum(sizes_by_id.values()),
        decoder_parameters=0 if shape.kind == "dual encoder" else rest,
        encoders=encoders,
        problems=problems,
        notes=tuple(note for examined in found for note in examined.notes),
    )


def _examine(given: Given, modality: Any, sizes: Sequence[Size]) -> Examined:
    if modality == "video":
        return Examined(notes=("video: its encoder is not split; send frames as pictures",))
    return examine(given, modality, sizes)


def _problems(path: Path, config: Any, shape: Shape) -> Iterator[str]:
    if shape.reason:
        yield shape.reason
    if getattr(config, "quantization_config", None) is not None:
        yield "its weights are quantised, which the export to ONNX does not read; use the checkpoint that is not"
    if any(path.glob("*.bin")) and not any(path.glob("*.safetensors")):
        yield "its weights are pickled, and reading those can run code; convert them to safetensors"
