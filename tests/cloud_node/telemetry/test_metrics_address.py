"""Where the metrics are served over HTTP: nowhere unless asked for, and at an address that can be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_node.asked.served import Served
from cloud_node.config import CloudConfig
from tests.kit.clouds import FakeRunner, cloud, settle
from wire.errors import BadInput


def test_http_is_off_unless_asked_for(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner()) as server:
            assert server.metrics_address == ""

    settle(run())


def test_taken_metrics_address_is_one_sentence(served: Served, bundle: Path) -> None:
    async def run() -> None:
        async with cloud(served, bundle, FakeRunner(), metrics_listen="127.0.0.1:0") as server:
            with pytest.raises(BadInput, match=r"^cannot serve metrics on .*; is the address taken"):
                async with cloud(served, bundle, FakeRunner(), metrics_listen=server.metrics_address):
                    pass

    settle(run())


@pytest.mark.parametrize("address", ["9100", ":9100", "localhost:", "localhost:65536", "localhost:http"])
def test_metrics_address_must_have_host_and_port(bundle: Path, address: str) -> None:
    with pytest.raises(BadInput, match="is no address to listen on"):
        CloudConfig(metrics_listen=address)
