"""A bundle that is only a manifest and a few bytes: what the cloud needs where no model runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_node.asked.served import Served
from tests.kit.clouds import FakeRunner, served_from
from tests.wire.samples import make_manifest, write_bundle
from wire.manifest import dump_manifest


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    write_bundle(folder)
    (folder / "manifest.json").write_bytes(dump_manifest(make_manifest()))
    return folder


@pytest.fixture
def served(bundle: Path) -> Served:
    return served_from(bundle)


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()
