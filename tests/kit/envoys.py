"""Envoy as a process, with the configuration of deploy/: other ports and nodes, and nothing else changed."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import yaml

from tests.kit.deployed import DEPLOY, tool
from tests.kit.ports import free_port

START_S = 20.0


@contextlib.asynccontextmanager
async def envoy(nodes: Sequence[str], folder: Path) -> AsyncIterator[str]:
    """The address that edges come to, once it has a node that is ready."""
    port = free_port()
    config = folder / "envoy.yaml"
    config.write_text(yaml.safe_dump(configured(nodes, port)))
    with tempfile.TemporaryFile("w+") as log:
        command = [tool("envoy"), "-c", str(config), "--use-dynamic-base-id", "--concurrency", "1"]
        process = subprocess.Popen(command, stdout=log, stderr=log, text=True)
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await channel.channel_ready()
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=START_S)


def configured(nodes: Sequence[str], port: int) -> dict[str, object]:
    config: dict[str, object] = yaml.safe_load((DEPLOY / "envoy" / "envoy.yaml").read_text())
    config["admin"]["address"]["socket_address"]["port_value"] = 0  # type: ignore[index]
    static = config["static_resources"]
    static["listeners"][0]["address"]["socket_address"] |= {"address": "127.0.0.1", "port_value": port}  # type: ignore[index]
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(number)}}}}
        for host, _, number in (node.rpartition(":") for node in nodes)
    ]
    static["clusters"][0]["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]  # type: ignore[index]
    return config
