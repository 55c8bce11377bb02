"""Faults of devices and models: a full disk, a stage or a tail that raises, a client that never reads, a clock jump."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.faulty.scene import QUESTION, Scene
from bench.faulty.watched import Seen

FAILS_ON = "unlucky"
_DAY_S = 86_400.0
_NUM_UNREAD = 64
_ENDS_WITHIN_S = 60.0


def disk_full(scene: Scene, folder: Path) -> Seen:
    """A device whose disk takes nothing beyond the manifest; afterwards it has room."""
    hit_s = time.monotonic()
    refused = _ask_by_command(scene, folder, lambda: _bound_files(60_000))
    parts = [path for path in folder.rglob("*.onnx") if path.is_file()]
    healed_s = time.monotonic()
    following = _ask_by_command(scene, folder)
    recovered_s = time.monotonic() - healed_s
    is_right = following.stdout.strip() == scene.expected(split=2, **_BY_COMMAND).strip()
    sentence = refused.stderr.strip().removeprefix("error: ")
    is_clear = refused.returncode == 1 and len(refused.stderr.strip().splitlines()) == 1
    seen = Seen(
        "disk full while the head is fetched",
        sentence,
        healed_s - hit_s,
        recovered_s,
        int(not is_right),
        int(not is_clear),
    )
    return scene.after(replace(seen, left={"half-written files": float(len(parts))} if parts else {}))


_BY_COMMAND = {"codec": "raw", "max_new_tokens": 8}


def _ask_by_command(
    scene: Scene, folder: Path, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "cleave.cli", "ask", "--cloud", scene.cloud.address, "--image", str(scene.pictures[0]),
        "--split", "2", "--codec", "raw", "--max-tokens", "8", QUESTION,
    ]  # fmt: skip
    environment = {**_environment(), "CLEAVE_CACHE": str(folder)}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, preexec_fn=before, timeout=_ENDS_WITHIN_S
    )


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)


def _bound_files(num_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
