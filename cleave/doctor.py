"""`cleave doctor`: whether a model can be split, and what every split point would cost a device."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

from transformers import logging as transformers_logging

from cleave.assets import resolve_model
from cleave.terminal import print_table
from partitioner.doctor import Diagnosis, diagnose
from partitioner.examining import EncoderCosts
from partitioner.sizing import Choice, PointCost, choose
from wire.errors import BadInput
from wire.sizes import ImageSize

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def examine_and_print(model: str, memory: str, sizes: Sequence[str], *, as_json: bool) -> bool:
    """Prints the diagnosis, as tables or as one JSON object; False where the model cannot be split."""
    memory_bytes = parse_bytes(memory)
    transformers_logging.set_verbosity_error()
    found = diagnose(resolve_model(model), [ImageSize.parse(text) for text in sizes])
    found = dataclasses.replace(found, model=model)
    if as_json:
        print(json.dumps(to_dict(found, memory_bytes)))
    else:
        _print(found, memory_bytes)
    return found.is_splittable


def parse_bytes(text: str) -> int:
    """512MB, 1.5GiB or a plain number of bytes; raises BadInput for anything else."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMG]i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise BadInput(f"{text!r} is no amount of memory; give one such as 512MB or 2GiB")
    number, unit = match.groups(default="")
    return int(float(number) * _UNITS[unit.upper()])


def to_dict(found: Diagnosis, memory_bytes: int) -> dict[str, Any]:
    """The diagnosis as plain values."""
    return {
        "ok": found.is_splittable,
        "model": found.model,
        "architecture": found.architecture,
        "shape": found.shape.kind,
        "modalities": list(found.shape.modalities),
        "parameters": found.num_parameters,
        "decoder_parameters": found.decoder_parameters,
        "memory_bytes": memory_bytes,
        "encoders": [_encoder(encoder, memory_bytes) for encoder in found.encoders],
        "problems": list(found.problems),
        "notes": list(found.notes),
    }


def _encoder(encoder: EncoderCosts, memory_bytes: int) -> dict[str, Any]:
    choice = choose(encoder.points, memory_bytes)
    return {
        "modality": encoder.modality,
        "input_shape": encoder.input_shape,
        "tiles": encoder.num_tiles,
        "traced": encoder.is_traced,
        "parameters": encoder.num_parameters,
        "best": choice.best.index,
        "deepest": choice.deepest.index,
        "split_points": [
            {
                "index": point.index,
                "label": point.label,
                "feature_bytes": point.feature_bytes,
                "head_parameters": point.head_parameters,
                "head_bytes": point.head_bytes,
                "activation_bytes": point.activation_bytes,
                "memory_bytes": point.memory_bytes,
                "fits": point.memory_bytes <= memory_bytes,
            }
            for point in encoder.points
        ],
    }


def _print(found: Diagnosis, memory_bytes: int) -> None:
    print(f"{found.model}: {found.architecture}, {_with_article(found.shape.kind)}")
    print(f"can it be split: {'yes' if found.is_splittable else 'no'}")
    for problem in found.problems:
        print(f"  because {problem}")
    if found.num_parameters:
        print(f"parameters: {_count(found.num_parameters)}{_decoder(found)}")
    for encoder in found.encoders:
        print(_summary(encoder, choose(encoder.points, memory_bytes), memory_bytes))
    for note in found.notes:
        print(f"note: {note}")
    for encoder in found.encoders:
        _print_encoder(encoder, memory_bytes)


def _decoder(found: Diagnosis) -> str:
    count = found.decoder_parameters
    if not count:
        return ""
    return f"; the cloud's decoder has {_count(count)}: {_size(4 * count)} as float32, {_size(2 * count)} as bfloat16"


def _summary(encoder: EncoderCosts, choice: Choice, memory_bytes: int) -> str:
    start = f"{encoder.modality}: in {_size(memory_bytes)}"
    if not choice.deepest.index:
        return f"{start} no head fits, only split point 0, which sends the input itself"
    best, deepest = (f"{point.index} ({point.label})" for point in (choice.best, choice.deepest))
    sends = f"{_size(choice.best.feature_bytes['int8'])} as int8"
    first = f"the best split point is {best}: {sends}, {_size(choice.best.memory_bytes)} of memory"
    if not choice.best.index:
        first = f"split point 0 sends least: {sends}, and less as a compressed file"
    if choice.best == choice.deepest:
        return f"{start} {first}; none that is deeper fits"
    return f"{start} {first}; the deepest that fits is {deepest}"


def _print_encoder(encoder: EncoderCosts, memory_bytes: int) -> None:
    how = "" if encoder.is_traced else ", estimated from the modules"
    tiles = f", {encoder.num_tiles} tiles per input" if encoder.num_tiles > 1 else ""
    choice = choose(encoder.points, memory_bytes)
    rows = [(*_row(point), _mark(point, choice, memory_bytes)) for point in encoder.points]
    columns = (
        "split",
        "label",
        "raw",
        "fp16",
        "int8",
        "head parameters",
        "head",
        "activations",
        "memory",
        "",
    )
    title = f"{encoder.modality} {encoder.input_shape}{tiles}: {len(rows)} split points{how}"
    print_table(title, columns, rows)


def _row(point: PointCost) -> tuple[object, ...]:
    sent = (_size(point.feature_bytes[codec]) for codec in ("raw", "fp16", "int8"))
    held = (_size(size) for size in (point.head_bytes, point.activation_bytes, point.memory_bytes))
    return (point.index, point.label, *sent, _count(point.head_parameters), *held)


def _mark(point: PointCost, choice: Choice, memory_bytes: int) -> str:
    if point.memory_bytes > memory_bytes:
        return "too large"
    return {choice.best.index: "best", choice.deepest.index: "deepest that fits"}.get(point.index, "fits")


def _with_article(kind: str) -> str:
    return kind if kind == "not supported" else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _size(num_bytes: int) -> str:
    return f"{_scaled(num_bytes)}B"


def _count(number: int) -> str:
    return _scaled(number).strip()


def _scaled(number: int) -> str:
    for factor, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {letter}"
    return f"{number} "
