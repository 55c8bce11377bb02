"""What each codec costs at each split point: payload bytes, and relative L2 error at the tail's output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from torch import Tensor

from splitmodel.chain import Chain
from splitmodel.tensors import from_numpy, relative_error, to_numpy
from wire.codecs import Codec, all_codecs, decode, encode
from wire.errors import BadInput
from wire.manifest import CodecEntry

# A cloud that measures a codec on the probe may find this much more than calibration did.
_TOLERANCE_FACTOR = 2.0


def calibrate(
    chain: Chain, tiles: Sequence[Sequence[Tensor]], tiles_per_input: float, advance: Callable[[], None]
) -> list[CodecEntry]:
    """One entry per split point and codec that can hold its features; means over the tiles, bytes per input.

    `advance` is called once per split point.
    """
    entries: list[CodecEntry] = []
    values = [list(tensors) for tensors in tiles]
    wholes = [chain.run(tensors, 0) for tensors in values]
    for split_point in range(chain.num_stages + 1):
        entries.extend(_measure(chain, split_point, values, wholes, tiles_per_input))
        if split_point < chain.num_stages:
            values = [chain.run(tensors, split_point, split_point + 1) for tensors in values]
        advance()
    return entries


def _measure(
    chain: Chain,
    split_point: int,
    tiles: Sequence[list[Tensor]],
    wholes: Sequence[list[Tensor]],
    tiles_per_input: float,
) -> Iterator[CodecEntry]:
    """The codecs of one split point; a wrapper such as zstd changes the bytes and not the error."""
    specs = chain.split_points[split_point].tensors
    errors: dict[str, float] = {}
    for codec in all_codecs():
        try:
            coded = [encode(codec, [to_numpy(tensor) for tensor in tensors], specs) for tensors in tiles]
        except BadInput:
            continue
        plain = str(codec).partition("+")[0]
        if plain not in errors:
            errors[plain] = _mean_error(chain, split_point, codec, coded, wholes)
        yield CodecEntry(
            split_point=split_point,
            codec=str(codec),
            payload_bytes=round(tiles_per_input * fmean(sum(map(len, payloads)) for payloads in coded)),
            faithfulness=errors[plain],
            tolerance=_TOLERANCE_FACTOR * errors[plain],
        )


def _mean_error(
    chain: Chain,
    split_point: int,
    codec: Codec,
    coded: Sequence[Sequence[bytes]],
    wholes: Sequence[list[Tensor]],
) -> float:
    """Mean relative L2 error at the tail's output of what these payloads decode to."""
    if codec.is_lossless:
        return 0.0
    specs = chain.split_points[split_point].tensors
    errors = []
    for payloads, whole in zip(coded, wholes, strict=True):
        arrays = decode(codec, memoryview(b"".join(payloads)), [len(payload) for payload in payloads], specs)
        tensors = [
            from_numpy(array, spec).to(whole[0].device) for array, spec in zip(arrays, specs, strict=True)
        ]
        errors.append(relative_error(chain.run(tensors, split_point), whole))
    return fmean(errors)
