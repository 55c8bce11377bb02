"""Faults inside devices and clouds: a full disk, a model that raises, a client that never reads, a wrong clock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc

from bench.faulty.broken_stage import break_stage
from bench.faulty.sabotage import SABOTAGED, Sabotage, told
from bench.faulty.scene import LONG, QUESTION, SHORT, Scene
from bench.faulty.watched import Seen, judge
from bench.load import JobMaker
from cleave.processes import PROGRAM
from cleave.terminal import printable
from edge_node.blocking import EdgeNode
from wire import limits
from wire.errors import ModelFailed
from wire.v1 import inference_pb2 as pb
from wire.v1 import inference_pb2_grpc as pb_grpc

FAILS_ON = "unlucky"
_DAY_S = 86_400
_NUM_UNREAD = 32
_LIMIT_S = 60.0
_SPLIT = 2
_BY_COMMAND: dict[str, Any] = {"codec": "raw", "max_new_tokens": 8}
# Runs a program that can write no file longer than this.
_BOUNDED = (
    "import os, resource, sys; n = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_FSIZE, (n, n)); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)


def disk_full(scene: Scene, folder: Path) -> Seen:
    """A device that has no room for the first file of the head; afterwards it has."""
    expected = scene.expected(split=_SPLIT, **_BY_COMMAND)
    room = (scene.bundle / "stages/image/000.onnx").stat().st_size - 1
    # The manifest is there already, as of an earlier question.
    _ask_by_command(scene, folder, "--split", "0", "--codec", "jpeg:50")
    hit_s = time.monotonic()
    refused = _ask_by_command(scene, folder, "--split", str(_SPLIT), "--codec", "raw", most_bytes=room)
    half = [path for path in folder.rglob("*.onnx") if path.is_file()]
    healed_s = time.monotonic()
    following = _ask_by_command(scene, folder, "--split", str(_SPLIT), "--codec", "raw")
    is_clear = refused.returncode == 1 and len(refused.stderr.splitlines()) == 1
    seen = Seen(
        "disk full while the head is fetched", refused.stderr.strip().removeprefix("error: "), healed_s - hit_s,
        time.monotonic() - healed_s, int(following.stdout.strip() != printable(expected).strip()), int(not is_clear),
        left={"half-written files": float(len(half))} if half else {},
    )  # fmt: skip
    return scene.after(seen)


def head_fails(scene: Scene, folder: Path) -> Seen:
    """A device whose stage fails when it runs; it is removed, as the error says, and fetched again."""
    expected = scene.expected(split=_SPLIT, **_BY_COMMAND)
    with EdgeNode(scene.link.address, bundles=folder) as edge:
        scene.ask(edge=edge, split=_SPLIT, **_BY_COMMAND).end()
    (stage,) = folder.rglob("stages/image/000.onnx")
    break_stage(stage)
    with EdgeNode(scene.link.address, bundles=folder) as edge:
        hit_s = time.monotonic()
        failed = scene.ask(edge=edge, split=_SPLIT, **_BY_COMMAND).end()
        whole = scene.ask(edge=edge, **SHORT).end()  # another arm does without the stage
    healed_s = time.monotonic()
    shutil.rmtree(folder)
    with EdgeNode(scene.link.address, bundles=folder) as edge:
        following = scene.ask(edge=edge, split=_SPLIT, **_BY_COMMAND).end()
    num_wrong = (whole.text != scene.expected(**SHORT)) + (following.text != expected)
    seen = Seen(
        "a stage of the head fails", f"{type(failed.error).__name__}: {failed.error}", healed_s - hit_s,
        following.ended_s - healed_s, num_wrong, int(not isinstance(failed.error, ModelFailed)),
    )  # fmt: skip
    return scene.after(seen)


def tail_raises(scene: Scene) -> Seen:
    """A request whose tail raises beside one that is being answered; the scene's cloud fails on such prompts."""
    mate = scene.ask(**LONG)
    mate.await_text()
    hit_s = time.monotonic()
    failed = scene.ask(question=f"{FAILS_ON}?", **SHORT).end()
    mate.end()
    seen = Seen(
        "a tail raises beside another's answer", f"{type(failed.error).__name__}: {failed.error}",
        failed.ended_s - hit_s, 0.0, int(mate.text != scene.expected(**LONG)),
        int(not isinstance(failed.error, ModelFailed)),
    )  # fmt: skip
    return scene.after(seen)


def client_never_reads(scene: Scene) -> Seen:
    """A peer that asks for many long answers and reads none, while an edge asks; then the peer is gone."""
    job = JobMaker(scene.bundle).job(
        scene.pictures[0], QUESTION, 0, "raw", max_new_tokens=200, min_new_tokens=200
    )

    def ups() -> Iterator[pb.Up]:
        yield pb.Up(hello=pb.Hello(protocol_version=limits.PROTOCOL_VERSION, edge_id="unread"))
        for number in range(_NUM_UNREAD):
            opening = pb.Open()
            opening.CopyFrom(job.opening)
            opening.request_id = f"unread-{number}"
            opening.inputs[0].payload = job.payloads[0]
            yield pb.Up(open=opening)

    with grpc.insecure_channel(scene.cloud.address) as channel:
        call = pb_grpc.InferenceStub(channel).Stream(ups())
        hit_s = time.monotonic()
        watched = scene.ask(**LONG).end()
        healed_s = time.monotonic()
        call.cancel()
    seen = judge(
        "a client never reads: the answer of another", watched, scene.expected(**LONG), hit_s, healed_s
    )
    return scene.after(replace(seen, recovered_s=0.0))


def clock_jumps(scene: Scene, clock: Path) -> Seen:
    """The wall clock of the cloud, and of a device, jumps a day ahead and two back while both are at work."""
    scene.link.down(bytes_per_s=3000.0)
    options = (
        "--split",
        "0",
        "--codec",
        "raw",
        "--min-tokens",
        "200",
        "--max-tokens",
        "200",
        "--deadline-s",
        "30",
    )
    with told(Sabotage(clock_file=str(clock))):
        device = subprocess.Popen(
            _command(SABOTAGED, scene.link.address, scene, *options),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=_environment(scene.folder.parent),
        )  # fmt: skip
    assert device.stdout is not None
    said = device.stdout.read(1)
    watched = scene.ask(**LONG, deadline_s=30.0)
    watched.await_text(2)
    hit_s = time.monotonic()
    clock.write_text(str(_DAY_S))
    watched.await_text(4)
    clock.write_text(str(-_DAY_S))
    scene.link.down(bytes_per_s=None)
    said += device.stdout.read()
    device.wait(_LIMIT_S)
    seen = judge("clock jumps by a day, on both sides", watched.end(), scene.expected(**LONG), hit_s, hit_s)
    num_wrong = seen.num_wrong + (said.strip() != printable(scene.expected(**LONG)).strip())
    seen = scene.after(replace(seen, num_wrong=num_wrong))
    clock.write_text("0")
    return seen


def _ask_by_command(
    scene: Scene, folder: Path, *options: str, most_bytes: int | None = None
) -> subprocess.CompletedProcess[str]:
    """`cleave ask` on a device with its own folder."""
    command = _command(PROGRAM, scene.cloud.address, scene, *options, "--max-tokens", "8")
    if most_bytes is not None:
        command = [sys.executable, "-c", _BOUNDED, str(most_bytes), *command[1:]]
    return subprocess.run(
        command, capture_output=True, text=True, env=_environment(folder), timeout=_LIMIT_S, check=False
    )


def _command(program: str, address: str, scene: Scene, *options: str) -> list[str]:
    return [
        sys.executable, "-m", program, "ask", "--cloud", address, "--image", str(scene.pictures[0]), *options, QUESTION,
    ]  # fmt: skip


def _environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "CLEAVE_CACHE": str(cache)}
