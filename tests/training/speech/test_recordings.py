"""fsdd's recordings: the split is the official one, and what is no such recording is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.training.speech.conftest import tone, wave_file
from training.speech.recordings import SAMPLING_RATE, read_recordings, read_wave, split_of


def test_split_is_official() -> None:
    assert [index for index in range(50) if split_of(index) == "test"] == [0, 1, 2, 3, 4]


def test_every_recording_is_in_one_split(archive: Path) -> None:
    found = {split: read_recordings(archive, split) for split in ("test", "validation", "train")}
    assert {split: {one.index for one in part} for split, part in found.items()} == {
        "test": {0, 4},
        "validation": {5, 9},
        "train": {10, 49},
    }
    assert all(len(part) == 10 * 2 * 2 for part in found.values())


def test_recording_keeps_its_samples_and_names(archive: Path) -> None:
    first = read_recordings(archive, "test")[0]
    assert (first.digit, first.speaker, first.index) == (0, "ann", 0)
    assert np.abs(first.samples - tone(0)).max() < 1e-4


def test_archive_without_recordings_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as files:
        files.writestr("README.md", "nothing")
    with pytest.raises(ValueError, match="holds no recording of the test part"):
        read_recordings(tmp_path / "other.zip", "test")


@pytest.mark.parametrize(("rate", "seconds"), [(16000, 0.1), (SAMPLING_RATE, 11.0)])
def test_wave_of_another_rate_or_too_long_is_refused(rate: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="at most 10 s"):
        read_wave(wave_file(tone(1, seconds), rate))
