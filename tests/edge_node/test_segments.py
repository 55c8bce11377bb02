"""Speech is cut at pauses and within bounds, and nothing of it is lost, however it comes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_node.segments import Samples, Segment, Segmenter

RATE = 8000


def tone(seconds: float, level: float = 0.3) -> Samples:
    return (level * np.sin(np.arange(int(seconds * RATE)) * 0.2)).astype(np.float32)


def silence(seconds: float) -> Samples:
    return (1e-4 * np.random.default_rng(0).standard_normal(int(seconds * RATE))).astype(np.float32)


def cut(sound: Samples, longest_s: float = 6.0, chunk: int = 400) -> list[Segment]:
    segmenter = Segmenter(RATE, int(longest_s * RATE))
    segments = [
        segment for at in range(0, len(sound), chunk) for segment in segmenter.add(sound[at : at + chunk])
    ]
    last = segmenter.end()
    return [*segments, *([last] if last is not None else [])]


def test_pieces_end_in_pauses_and_hold_the_words() -> None:
    sound = np.concatenate(
        [silence(0.5), tone(1), silence(1), tone(0.6), silence(0.2), tone(0.6), silence(1)]
    )
    segments = cut(sound)
    assert len(segments) == 2, "a short gap is no pause"
    for segment, (start, stop) in zip(segments, [(0.5, 1.5), (2.5, 3.9)], strict=True):
        assert segment.start / RATE <= start
        assert (segment.start + len(segment.samples)) / RATE >= stop
        assert np.array_equal(segment.samples, sound[segment.start :][: len(segment.samples)])


def test_piece_without_a_pause_is_cut_at_its_quietest_place_before_it_is_too_long() -> None:
    sound = np.concatenate([tone(1.5), tone(0.1, 0.05), tone(1.5), tone(0.1, 0.05), tone(1.5)])
    segments = cut(sound, longest_s=2.0)
    assert all(len(segment.samples) <= 2.0 * RATE for segment in segments)
    ends = [(segment.start + len(segment.samples)) / RATE for segment in segments]
    assert ends[0] == pytest.approx(1.55, abs=0.06)
    assert sum(len(segment.samples) for segment in segments) == len(sound)


def test_silence_is_no_piece_and_is_not_kept() -> None:
    segmenter = Segmenter(RATE, 6 * RATE)
    for _ in range(100):
        assert segmenter.add(silence(1)) == []
        assert segmenter.current() is None
        assert len(segmenter._kept) < 2 * RATE
    assert segmenter.end() is None


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=30), st.integers(0, 9))
def test_pieces_do_not_depend_on_how_the_sound_comes(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [tone(rng.uniform(0.2, 1.5)) if i % 2 else silence(rng.uniform(0.1, 1)) for i in range(8)]
    sound = np.concatenate(parts)
    segmenter, segments, at = Segmenter(RATE, 2 * RATE), [], 0
    for length in [*lengths, len(sound)]:
        segments += segmenter.add(sound[at : at + length])
        at += length
    expected = Segmenter(RATE, 2 * RATE).add(sound)
    assert [(s.start, len(s.samples)) for s in segments] == [(s.start, len(s.samples)) for s in expected]
