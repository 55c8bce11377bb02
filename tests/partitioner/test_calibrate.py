"""Calibration and the default arm: bytes are real, lossless costs nothing, cheaper codecs cost more error."""

from __future__ import annotations

import pytest
import torch

from partitioner.calibrate import calibrate
from partitioner.plan import default_arm
from splitmodel.tensors import from_numpy, relative_error, to_numpy
from tests.kit.shapes import partitioned
from tests.splitmodel.encoders import Mlp, Residual, example, make_chain
from wire.codecs import all_codecs, decode, encode, parse_codec
from wire.manifest import CodecEntry

_SHAPE = "clip, 2 layers"


def entry(split_point: int, codec: str, payload_bytes: int, faithfulness: float) -> CodecEntry:
    return CodecEntry(split_point, codec, payload_bytes, faithfulness, 2 * faithfulness)


def chosen(*entries: CodecEntry) -> tuple[int, str]:
    """The default arm of a chain with these measurements."""
    arm = default_arm(entries)
    return arm.split_point, arm.codec


def test_default_is_the_arm_with_the_fewest_bytes_among_the_faithful() -> None:
    entries = (entry(0, "raw", 100, 0), entry(1, "fp16", 40, 0.02), entry(2, "int8:token", 10, 0.0201))
    assert chosen(*entries) == (1, "fp16")


def test_default_of_equal_bytes_is_the_earlier_split_point_and_then_the_more_faithful() -> None:
    assert chosen(entry(2, "raw", 50, 0), entry(1, "fp16", 50, 0.01)) == (1, "fp16")
    assert chosen(entry(1, "bf16", 50, 0.01), entry(1, "fp16", 50, 0.001)) == (1, "fp16")


@pytest.mark.slow
def test_default_of_a_made_bundle_is_the_cheapest_faithful_arm() -> None:
    [chain] = partitioned(_SHAPE).manifest.chains
    arm = chain.default_arm
    default = chain.codec(arm.split_point, arm.codec)
    assert default is not None
    assert default.faithfulness <= 0.02
    faithful = [entry.payload_bytes for entry in chain.codecs if entry.faithfulness <= 0.02]
    assert default.payload_bytes == min(faithful)


@pytest.mark.slow
def test_every_split_point_is_measured_with_every_codec() -> None:
    chain = partitioned(_SHAPE).manifest.chains[0]
    measured = {(entry.split_point, entry.codec) for entry in chain.codecs}
    assert measured == {(p.index, str(codec)) for p in chain.split_points for codec in all_codecs()}


@pytest.mark.slow
def test_lossless_codecs_cost_no_faithfulness_and_lossy_ones_do() -> None:
    for measured in partitioned(_SHAPE).manifest.chains[0].codecs:
        is_lossless = parse_codec(measured.codec).is_lossless
        assert (measured.faithfulness == 0) == is_lossless, measured
        assert measured.tolerance == 2 * measured.faithfulness


@pytest.mark.slow
def test_faithfulness_falls_with_the_bits_that_are_kept() -> None:
    chain = partitioned(_SHAPE).manifest.chains[0]
    for point in chain.split_points:
        errors = []
        for codec in ("raw", "fp16", "bf16", "int8:token"):
            measured = chain.codec(point.index, codec)
            assert measured is not None
            errors.append(measured.faithfulness)
        assert errors[0] < errors[1] < errors[2] < 2 * errors[3], point.label
        assert errors[3] < 0.1, point.label


def test_entries_are_the_means_of_what_coding_and_decoding_gives() -> None:
    chain, inputs = make_chain(Residual(2)), [[example(seed)] for seed in range(3)]
    advances: list[None] = []
    entries = {
        (e.split_point, e.codec): e for e in calibrate(chain, inputs, 1, lambda: advances.append(None))
    }
    assert len(advances) == chain.num_stages + 1
    codec, specs = parse_codec("int8:token+zstd"), chain.split_points[1].tensors
    sizes, errors = [], []
    for tensors in inputs:
        payloads = encode(codec, [to_numpy(t) for t in chain.run(tensors, 0, 1)], specs)
        lengths = [len(payload) for payload in payloads]
        arrays = decode(codec, memoryview(b"".join(payloads)), lengths, specs)
        decoded = [from_numpy(array, spec) for array, spec in zip(arrays, specs, strict=True)]
        sizes.append(sum(lengths))
        errors.append(relative_error(chain.run(decoded, 1), chain.run(tensors, 0)))
    measured = entries[1, "int8:token+zstd"]
    assert measured.payload_bytes == round(sum(sizes) / 3)
    assert measured.faithfulness == pytest.approx(sum(errors) / 3)


def test_bytes_are_those_of_all_tiles_of_an_input() -> None:
    chain, tiles = make_chain(Residual(2)), [[example(seed)] for seed in range(5)]
    one, several = (
        {(e.split_point, e.codec): e for e in calibrate(chain, tiles, count, lambda: None)}
        for count in (1, 2.5)
    )
    raw = sum(spec.num_bytes for spec in chain.split_points[1].tensors)
    assert one[1, "raw"].payload_bytes == raw
    assert several[1, "raw"].payload_bytes == round(2.5 * raw)
    assert several[1, "int8:token"].faithfulness == one[1, "int8:token"].faithfulness


def test_codec_that_cannot_hold_the_features_is_left_out() -> None:
    """fp16 reaches to 65504."""
    chain = make_chain(Mlp(1))
    entries = calibrate(chain, [[torch.full((1, 3, 8), 1e5)]], 1, lambda: None)
    at_input = {entry.codec for entry in entries if entry.split_point == 0}
    assert "fp16" not in at_input
    assert {"raw", "bf16"} <= at_input
