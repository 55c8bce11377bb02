"""What each codec costs at each split point: payload bytes, and relative L2 error at the tail's output."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from splitmodel.chain import Chain
from splitmodel.tensors import from_numpy, relative_error, to_numpy
from wire.codecs import Codec, all_codecs, decode, encode
from wire.errors import BadInput
from wire.manifest import CodecEntry
from wire.tensors import Array

# A cloud that measures a codec on the probe may find this much more than calibration did.
_TOLERANCE_FACTOR = 2.0


def calibrate(
    chain: Chain, inputs: Sequence[Sequence[Tensor]], advance: Callable[[], None]
) -> list[CodecEntry]:
    """One entry per split point and codec that can hold its features; means over the inputs.

    `advance` is called once per split point.
    """
    entries: list[CodecEntry] = []
    values = [list(tensors) for tensors in inputs]
    wholes = [chain.run(tensors, 0) for tensors in values]
    for split_point in range(chain.num_stages + 1):
        for codec in all_codecs():
            entry = _measure(chain, split_point, codec, values, wholes)
            if entry is not None:
                entries.append(entry)
        if split_point < chain.num_stages:
            values = [chain.run(tensors, split_point, split_point + 1) for tensors in values]
        advance()
    return entries


def _measure(
    chain: Chain,
    split_point: int,
    codec: Codec,
    inputs: Sequence[list[Tensor]],
    wholes: Sequence[list[Tensor]],
) -> CodecEntry | None:
    specs = chain.split_points[split_point].tensors
    sizes, errors = [], []
    for tensors, whole in zip(inputs, wholes, strict=True):
        try:
            payloads = encode(codec, [to_numpy(tensor) for tensor in tensors], specs)
        except BadInput:
            return None
        lengths = [len(payload) for payload in payloads]
        sizes.append(sum(lengths))
        if codec.is_lossless:
            errors.append(0.0)
            continue
        arrays: list[Array] = decode(codec, memoryview(b"".join(payloads)), lengths, specs)
        decoded = [
            from_numpy(array, spec).to(whole[0].device) for array, spec in zip(arrays, specs, strict=True)
        ]
        errors.append(relative_error(chain.run(decoded, split_point), whole))
    faithfulness = float(np.mean(errors))
    return CodecEntry(
        split_point=split_point,
        codec=str(codec),
        payload_bytes=round(float(np.mean(sizes))),
        faithfulness=faithfulness,
        tolerance=_TOLERANCE_FACTOR * faithfulness,
    )
