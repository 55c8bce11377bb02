"""The modalities: as a word in manifests and Python, as an enum on the wire."""

from typing import Literal, get_args

from wire.errors import MalformedMessage
from wire.v1 import inference_pb2 as pb

Modality = Literal["image", "audio", "video", "text"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)

_TO_WIRE: dict[Modality, pb.Modality.ValueType] = {
    "image": pb.MODALITY_IMAGE,
    "audio": pb.MODALITY_AUDIO,
    "video": pb.MODALITY_VIDEO,
    "text": pb.MODALITY_TEXT,
}
_FROM_WIRE: dict[int, Modality] = {number: name for name, number in _TO_WIRE.items()}


def modality_to_wire(modality: Modality) -> pb.Modality.ValueType:
    """The proto's number of a modality."""
    return _TO_WIRE[modality]


def modality_from_wire(number: int) -> Modality:
    """The modality of a proto number; raises MalformedMessage if there is none."""
    if number not in _FROM_WIRE:
        raise MalformedMessage(f"modality number {number} is unknown; expected one of {sorted(_FROM_WIRE)}")
    return _FROM_WIRE[number]
