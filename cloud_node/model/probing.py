"""The tails that run here, on the bundle's own features: which split points miss the bundle's own results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from cloud_node.model.tails import Tail, Tails
from splitmodel.encoder import Encoded
from splitmodel.media import size_of
from splitmodel.probe import ProbeData, first_result
from splitmodel.tensors import relative_error
from wire.manifest import Manifest, ProbeItem

# The probe was made in float32. What half precision may miss it by: several times what was seen, and far less than
# what other weights miss it by.
_DTYPE_TOLERANCE = {torch.bfloat16: 0.1, torch.float16: 0.02}


def probe_tails(manifest: Manifest, probe: ProbeData, tails: Tails) -> dict[str, dict[int, str]]:
    """By chain id, the split points whose tail misses the probe, and by how much; those that hold are not in it."""
    allowed = max(manifest.probe.tolerance, _DTYPE_TOLERANCE.get(tails.adapter.model.dtype, 0.0))
    refused: dict[str, dict[int, str]] = {}
    for chain_id, tail in tails.by_id.items():
        items = [
            (index, item)
            for index, item in enumerate(manifest.probe.items)
            if (item.modality, item.shape_id) == (tail.encoder.modality, tail.listed.input_shape.shape_id)
        ]
        for point in tail.listed.split_points:
            error = max(_error(tails, tail, probe, index, item, point.index) for index, item in items)
            if not error <= allowed:
                reason = f"its tail misses the probe by {error:.3g}, and {allowed:.3g} is allowed"
                refused.setdefault(chain_id, {})[point.index] = reason
    return refused


def _error(
    tails: Tails, tail: Tail, probe: ProbeData, index: int, item: ProbeItem, split_point: int
) -> float:
    """Relative L2 error at the tail's output or of what it leads to, whichever is larger."""
    chain, adapter = tail.encoder.chain, tails.adapter

    def tiles(at: int) -> list[list[Tensor]]:
        arrays: Sequence[NDArray[Any]] = probe.features(index, at)
        return tails.tensors(tail, at, arrays)

    ends = [chain.run(tile, split_point) for tile in tiles(split_point)]
    at_end = relative_error(_flat(ends), _flat(tiles(chain.num_stages)))
    media = probe.media(index, item.modality)
    encoded = Encoded(tail.encoder, ends, size_of(media, adapter.processing.rate_hz))
    result = first_result(adapter, encoded, item.prompt)
    return max(at_end, relative_error([result], [probe.result(index)]))


def _flat(tiles: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [tensor.cpu() for tile in tiles for tensor in tile]
