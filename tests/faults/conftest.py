"""A cloud process, a link that breaks and an edge behind it, for all faults that leave the cloud alive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.faulty import devices
from bench.faulty.sabotage import Sabotage
from bench.faulty.scene import Scene, scene
from tests.kit.pictures import written
from wire import limits

NUM_PICTURES = 4


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    return [written(folder / f"{i}.png", 64, 48, seed=i) for i in range(NUM_PICTURES)]


@pytest.fixture(scope="session")
def edges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What edges keep of the bundle."""
    return tmp_path_factory.mktemp("edges") / "bundles"


@pytest.fixture(scope="session")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By how many seconds the cloud's wall clock is wrong."""
    file = tmp_path_factory.mktemp("clock") / "wrong_by"
    file.write_text("0")
    return file


@pytest.fixture(scope="session")
def lasting(
    tiny_checkpoint: Path, tiny_bundle: Path, edges: Path, pictures: list[Path], clock: Path
) -> Iterator[Scene]:
    """Whatever a test does to it, the next one finds it as it was: that is what they show."""
    sabotage = Sabotage(clock_file=str(clock), fails_on=devices.FAILS_ON)
    with scene(str(tiny_checkpoint), tiny_bundle, edges, pictures, sabotage=sabotage) as made:
        yield made


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edges that are made from now on notice in two seconds what takes them half a minute."""
    monkeypatch.setattr(limits, "KEEPALIVE_S", 1.0)
    monkeypatch.setattr(limits, "KEEPALIVE_TIMEOUT_S", 1.0)
