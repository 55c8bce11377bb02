"""`cleave health` against real cloud nodes: its word and its exit code are what a probe acts on."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2

from cleave.health import READY_SERVICE, health_and_print
from cloud_node.access.identity import Identity
from edge_node.credentials import Credentials
from tests.kit.certificates import Authority
from tests.kit.clouds import CloudThread, FakeRunner, cloud_thread, served_from
from tests.kit.commands import cleave
from tests.kit.ports import free_port
from tests.kit.tenants import TokenFile
from wire.errors import Unavailable


def health(node: CloudThread, *, alive: bool = False) -> None:
    health_and_print(node.address, "", alive=alive, timeout_s=5.0, as_json=False)


def test_ready_node_is_ready_and_one_that_drains_is_not_but_lives(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with cloud_thread(served_from(tiny_bundle), tiny_bundle, FakeRunner()) as node:
        health(node)
        assert capsys.readouterr().out == "ready\n"
        not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
        node.call(node.server._grpc_health.set(READY_SERVICE, not_serving))
        with pytest.raises(Unavailable, match="not ready"):
            health(node)
        health(node, alive=True)
        assert capsys.readouterr().out == "alive\n"


def test_a_node_that_talks_tls_and_asks_for_tokens_tells_its_health_without_one(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority, tokens = Authority(tmp_path), TokenFile(tmp_path / "tokens.toml", acme={})
    own = authority.pair("cloud")
    identity = Identity(tls_cert=own.cert, tls_key=own.key, tokens=tokens.path)
    with cloud_thread(served_from(tiny_bundle), tiny_bundle, FakeRunner(), identity=identity) as node:
        credentials = Credentials(ca=authority.cert)
        health_and_print(node.address, "", alive=False, timeout_s=5.0, as_json=False, credentials=credentials)
        assert capsys.readouterr().out == "ready\n"
        with pytest.raises(Unavailable):
            health(node)


def test_nobody_there_is_one_clear_error_and_exit_code_1(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    for option in ("--cloud", "--http"):
        ended = cleave("health", option, address, "--timeout", 2, cache=tmp_path)
        assert address in ended.require_one_clear_error()


def test_no_address_is_one_clear_error(tmp_path: Path) -> None:
    assert "CLEAVE_CLOUD" in cleave("health", cache=tmp_path).require_one_clear_error()
