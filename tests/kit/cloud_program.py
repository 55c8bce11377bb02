"""A cloud node in a process of its own, with a fake runner: python -m tests.kit.cloud_program BUNDLE SETTINGS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.clouds import CloudProcess
from tests.kit.clouds import FakeRunner, cloud, limits, served_from


async def _serve(bundle: Path, settings: dict[str, Any]) -> None:
    bounds = limits(**settings.pop("limits", {}))
    async with cloud(served_from(bundle), bundle, FakeRunner(), limits=bounds, **settings) as server:
        print(server.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)


@contextlib.contextmanager
def fake_cloud_process(bundle: Path, **settings: Any) -> Iterator[CloudProcess]:
    """It ends with its standard input."""
    command = [sys.executable, "-m", "tests.kit.cloud_program", str(bundle), json.dumps(settings)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield CloudProcess(process.stdout.readline().strip(), process.pid)
    finally:
        process.communicate(timeout=20)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), json.loads(sys.argv[2])))
