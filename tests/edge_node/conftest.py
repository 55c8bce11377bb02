"""A cloud that serves the tiny bundle to real edge nodes, with answers that a test conducts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cleave import EdgeNode
from cloud_node.asked.served import Served
from edge_node.models import Models
from tests.kit.clouds import CloudThread, FakeRunner, cloud_thread, served_from


@pytest.fixture
def served(tiny_bundle: Path) -> Served:
    return served_from(tiny_bundle)


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def node(served: Served, tiny_bundle: Path, runner: FakeRunner) -> Iterator[CloudThread]:
    with cloud_thread(served, tiny_bundle, runner) as running:
        yield running


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where edge nodes keep bundles, so that only the first fetches them."""
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture
def edge(node: CloudThread, bundles: Path) -> Iterator[EdgeNode]:
    with EdgeNode(node.address, bundles=bundles) as made:
        yield made


@pytest.fixture
def always_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edges that ask before every question what is served; others do so every few minutes."""
    made = Models.__init__

    def init(self: Models, *arguments: object) -> None:
        made(self, *arguments, refresh_s=0.0)  # type: ignore[arg-type]

    monkeypatch.setattr(Models, "__init__", init)
