"""A recipe for sounds: one digest per meaning, and nothing out of its bounds or out of order."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.sound_preprocessing import (
    CosineTransform,
    FitFrames,
    FitSamples,
    KeepRange,
    MelBank,
    MelSpectrogram,
    NormalizeBins,
    NormalizeFeatures,
    ScaleSamples,
    SoundPreprocessing,
    Standardize,
)

BANK = MelBank(num_mels=80, min_hz=0.0, max_hz=8000.0, scale="slaney", area_norm=True, in_mel=False)
MEL = MelSpectrogram(
    frame_length=400, hop_length=160, fft_length=512, window="hann", is_periodic=True, centred=True,
    drops_last_frame=False, removes_mean=False, preemphasis=0.0, power=2, bank=BANK, floor=1e-10, log="log10",
)  # fmt: skip
RECIPE = SoundPreprocessing(
    16_000, 480_000, [FitSamples(480_000, "value", 0.0), MEL, KeepRange(8.0)], "bins_frames"
)
EVERY_STEP = SoundPreprocessing(
    16_000,
    None,
    [
        *(FitSamples(1000, "repeats", 0.0), ScaleSamples(2.0), Standardize(1e-7), MEL, CosineTransform(13, True, 22.0)),
        *(KeepRange(8.0), NormalizeFeatures(-4.0, 4.0), NormalizeBins(True, True), FitFrames(100, 0.0)),
    ],
    "copies_frames_bins",
    4,
)  # fmt: skip


def decoded(recipe: SoundPreprocessing, **changes: Any) -> SoundPreprocessing:
    """The recipe as a manifest holds it, with other values at the top or in its spectrogram."""
    plain = msgspec.json.decode(msgspec.json.encode(recipe))
    for name, value in changes.items():
        spectrogram = next(step for step in plain["steps"] if step["op"] == "mel_spectrogram")
        target = next(part for part in (plain, spectrogram, spectrogram["bank"]) if name in part)
        target[name] = value
    return msgspec.json.decode(msgspec.json.encode(plain), type=SoundPreprocessing)


@pytest.mark.parametrize("recipe", [RECIPE, EVERY_STEP])
def test_recipe_comes_back_from_json_with_its_digest(recipe: SoundPreprocessing) -> None:
    assert decoded(recipe) == recipe
    assert decoded(recipe).digest() == recipe.digest()


def test_digest_is_the_same_for_ever() -> None:
    assert RECIPE.digest() == "7bda6f575285e2f19e6294682726504221e2d9917172c65e663af5b631b84006"
    assert EVERY_STEP.digest() == "293c3c74ce74fafb568332afc072dea2b8d1e14f08436961a792926c16900377"


def test_digest_knows_no_difference_between_one_and_one_point_zero() -> None:
    assert decoded(RECIPE, max_hz=8000, preemphasis=0).digest() == RECIPE.digest()


CHANGES: dict[str, Any] = {
    "sample_rate_hz": 8_000, "window_samples": None, "layout": "frames_bins", "frame_length": 320,
    "hop_length": 80, "fft_length": 1024, "window": "hamming", "is_periodic": False, "centred": False,
    "drops_last_frame": True, "removes_mean": True, "preemphasis": 0.97, "power": 1, "floor": 1e-9, "log": "dB",
    "num_mels": 40, "min_hz": 20.0, "max_hz": 7600.0, "scale": "htk", "area_norm": False, "in_mel": True,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_digest_depends_on_every_setting(name: str) -> None:
    assert decoded(RECIPE, **{name: CHANGES[name]}).digest() != RECIPE.digest()


OUT_OF_BOUNDS: dict[str, list[Any]] = {
    "sample_rate_hz": [0, 768_001, 1.5, "16000"], "window_samples": [0, -1, 2**40], "layout": ["", "x"],
    "frame_length": [0, 1, 513, 2**20], "hop_length": [0, -1], "fft_length": [256, 2**15, 2**40],
    "window": ["", "kaiser"], "power": [0, 3, 2.5], "floor": [0, -1.0, None], "log": ["log2"],
    "preemphasis": [-0.1, 1.1], "num_mels": [0, 1025], "min_hz": [-1, 8000], "max_hz": [0, 1e9, None],
    "scale": ["bark"], "copies": [0, 17, 2], "steps": [[{"op": "eval"}], [{"op": "keep_range", "range": 0}]],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [(n, value) for n, values in OUT_OF_BOUNDS.items() for value in values]
)
def test_value_out_of_its_bounds_is_refused(name: str, value: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        decoded(RECIPE, **{name: value})


def test_unknown_field_is_refused() -> None:
    plain = msgspec.json.decode(msgspec.json.encode(RECIPE)) | {"code": "x"}
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(msgspec.json.encode(plain), type=SoundPreprocessing)


@pytest.mark.parametrize(
    ("steps", "layout"),
    [
        ([KeepRange(8.0), MEL], "bins_frames"),
        ([MEL, ScaleSamples(2.0)], "bins_frames"),
        ([MEL, MEL], "bins_frames"),
        ([KeepRange(8.0)], "samples"),
        ([MEL], "samples"),
        ([Standardize(1e-7)], "bins_frames"),
        ([], "frames_bins"),
    ],
)
def test_steps_that_make_no_sense_together_are_refused(steps: list[Any], layout: Any) -> None:
    with pytest.raises(ValueError, match=r"steps on samples come first|does not fit the steps"):
        SoundPreprocessing(16_000, None, steps, layout)


@given(st.integers(1, 5_000), st.integers(2, 600), st.integers(1, 400), st.booleans(), st.booleans())
def test_frames_are_as_many_as_fit(
    num_samples: int, frame_length: int, hop: int, centred: bool, drops_last: bool
) -> None:
    step = msgspec.structs.replace(
        MEL, frame_length=frame_length, hop_length=hop, fft_length=1024, centred=centred, drops_last_frame=drops_last
    )  # fmt: skip
    padded = num_samples + 2 * (frame_length // 2) * centred
    starts = [start for start in range(0, padded, hop) if start + frame_length <= padded]
    assert max(step.num_frames(num_samples), 0) == max(len(starts) - drops_last, 0)
