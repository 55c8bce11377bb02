"""Weights that the stages of several input shapes have in common: stored once, beside the stages that read them.

A chain per listed size is the same encoder with other constants. For every stage, the tensors that are equal in two or
more of them move into one file of ONNX's external data, from which onnxruntime loads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import onnx
from msgspec.structs import replace
from onnx import ModelProto, TensorProto
from onnx.external_data_helper import set_external_data

from wire.manifest import Chain, Stage

# Less than this costs more as a reference than it saves.
_LEAST_BYTES = 1024


def share_between(folder: Path, chains: Sequence[Chain]) -> list[Chain]:
    """The chains of a bundle's folder, those of one modality with their stages' common weights in one file each."""
    shared: dict[tuple[str, int], str] = {}
    for modality in dict.fromkeys(chain.modality for chain in chains):
        alike = [chain for chain in chains if chain.modality == modality]
        if len(alike) < 2 or len({_labels(chain) for chain in alike}) > 1:
            continue
        for index in range(len(alike[0].stages)):
            target = f"stages/{modality}/shared-{index:03}.bin"
            if share_weights([folder / chain.stages[index].path for chain in alike], folder / target):
                shared[modality, index] = target
    return [_with_weights(chain, shared) for chain in chains]


def _labels(chain: Chain) -> tuple[str, ...]:
    return tuple(point.label for point in chain.split_points)


def _with_weights(chain: Chain, shared: Mapping[tuple[str, int], str]) -> Chain:
    stages = [
        Stage(stage.index, stage.path, shared.get((chain.modality, stage.index), ""))
        for stage in chain.stages
    ]
    return replace(chain, stages=stages)


def share_weights(stages: Sequence[Path], target: Path) -> bool:
    """Moves what the same stage of several shapes has in common to `target`, beside them; whether there was any.

    The files are rewritten in place.
    """
    models = [onnx.load(path) for path in stages]
    counts = Counter(digest for model in models for digest in {_digest(t) for t in _large(model)})
    common = {digest for digest, count in counts.items() if count > 1}
    if not common:
        return False
    places: dict[str, tuple[int, int]] = {}  # digest -> offset, length
    with target.open("wb") as file:
        for model in models:
            for tensor in _large(model):
                digest = _digest(tensor)
                if digest in common and digest not in places:
                    places[digest] = (file.tell(), len(tensor.raw_data))
                    file.write(tensor.raw_data)
    for path, model in zip(stages, models, strict=True):
        for tensor in _large(model):
            if (digest := _digest(tensor)) in places:
                offset, length = places[digest]
                set_external_data(tensor, target.name, offset, length)
                tensor.ClearField("raw_data")
        path.write_bytes(model.SerializeToString(deterministic=True))
    return True


def _large(model: ModelProto) -> list[TensorProto]:
    return [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= _LEAST_BYTES]


def _digest(tensor: TensorProto) -> str:
    return sha256(f"{tensor.data_type}{list(tensor.dims)}".encode() + tensor.raw_data).hexdigest()
