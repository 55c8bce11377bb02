"""Faults of processes and links in the middle of a request, each with what the user saw of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

from bench.faulty.cloud import running
from bench.faulty.scene import LONG, QUESTION, SHORT, Scene
from bench.faulty.watched import Seen, Watched, judge
from edge_node.blocking import EdgeNode
from wire import limits

_SLOW_UP, _SLOW_DOWN = 60_000.0, 3_000.0  # bytes/s, so that there is a middle
_SLOWEST = 1000.0
# Features that are small: one split point and codec suffices for a link that takes a second for each kilobyte.
_SMALL: dict[str, Any] = {"split": 0, "codec": "jpeg:50", "max_new_tokens": 8}


def cloud_killed_in_mid_upload(scene: Scene) -> Seen:
    """SIGKILL while the features of several pictures go up; started again on the same port."""
    count = len(scene.pictures)
    expected = scene.expected(count, **SHORT)
    scene.link.up(bytes_per_s=_SLOW_UP)
    sent = scene.link.passed("up")
    watched = scene.ask(count, hash_first=False, **SHORT)
    scene.link.await_bytes("up", sent + 40_000)
    hit_s = time.monotonic()
    scene.cloud.kill()
    scene.link.up(bytes_per_s=None)
    scene.cloud.start()
    healed_s = time.monotonic()
    return scene.after(
        judge("cloud killed in mid-upload, started again", watched.end(), expected, hit_s, healed_s)
    )


def cloud_killed_in_mid_answer(scene: Scene) -> Seen:
    """SIGKILL after the first words; started again on the same port."""
    watched = _in_mid_answer(scene)
    hit_s = time.monotonic()
    scene.cloud.kill()
    scene.link.down(bytes_per_s=None)
    scene.cloud.start()
    healed_s = time.monotonic()
    return _long(scene, "cloud killed in mid-answer, started again", watched, hit_s, healed_s)


def cloud_lost_for_another(scene: Scene) -> Seen:
    """The first of two addresses dies after the first words; the second's cloud has never heard of the request."""
    with (
        running(scene.model, scene.bundle, "--cache-mb", "0") as other,
        EdgeNode(f"{scene.link.address},{other.address}", bundles=scene.folder) as edge,
    ):
        scene.ask(edge=edge, **SHORT).end()  # it is connected to the first
        watched = _in_mid_answer(scene, edge)
        hit_s = time.monotonic()
        scene.link.close_port()
        seen = _judged(scene, "cloud lost in mid-answer, another at a second address", watched, hit_s, hit_s)
        scene.link.down(bytes_per_s=None)
        scene.link.open_port()
    return scene.after(seen)


def cloud_hangs(scene: Scene) -> Seen:
    """SIGSTOP after the first words, until the edge has noticed; then it goes on."""
    watched = _in_mid_answer(scene)
    hit_s, accepted = time.monotonic(), scene.link.num_accepted
    scene.cloud.pause()
    scene.link.down(bytes_per_s=None)
    try:
        scene.link.await_connection(accepted, limits.KEEPALIVE_S + limits.KEEPALIVE_TIMEOUT_S + 30)
    finally:
        scene.cloud.go_on()
    healed_s = time.monotonic()
    return _long(scene, "cloud hangs (SIGSTOP) until the edge noticed", watched, hit_s, healed_s)


def edge_killed(scene: Scene) -> Seen:
    """SIGKILL of a `cleave ask` after its first words, while another edge is being answered."""
    command = [
        sys.executable, "-m", "cleave.cli", "ask", "--cloud", scene.link.address, "--image", str(scene.pictures[0]),
        "--split", "0", "--codec", "raw", "--min-tokens", "200", "--max-tokens", "200", QUESTION,
    ]  # fmt: skip
    environment = {**os.environ, "CLEAVE_CACHE": str(scene.folder.parent)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as doomed:
        assert doomed.stdout is not None
        scene.link.down(bytes_per_s=_SLOW_DOWN)
        doomed.stdout.read(1)
        watched = scene.ask(**LONG)
        hit_s = time.monotonic()
        doomed.kill()
        doomed.wait()
    scene.link.down(bytes_per_s=None)
    return _long(scene, "edge killed in mid-answer: the answer of another", watched, hit_s, hit_s)


def link_cut(scene: Scene) -> Seen:
    """Every connection is reset (RST) in mid-answer."""
    watched = _in_mid_answer(scene)
    hit_s = time.monotonic()
    scene.link.cut()
    scene.link.down(bytes_per_s=None)
    return _long(scene, "link cut (RST) in mid-answer", watched, hit_s, hit_s)


def link_stalled(scene: Scene) -> Seen:
    """Packets vanish until the edge has noticed and connects again."""
    watched = _in_mid_answer(scene)
    hit_s, accepted = time.monotonic(), scene.link.num_accepted
    scene.link.both(stalls=True, bytes_per_s=None)
    scene.link.await_connection(accepted, limits.KEEPALIVE_S + limits.KEEPALIVE_TIMEOUT_S + 30)
    healed_s = time.monotonic()
    scene.link.both(stalls=False)
    return _long(scene, "link stalled until the edge noticed", watched, hit_s, healed_s)


def link_slow(scene: Scene) -> Seen:
    """1 kB/s both ways, from before a short question until its end."""
    expected = scene.expected(**_SMALL)
    scene.link.both(bytes_per_s=_SLOWEST)
    hit_s = time.monotonic()
    watched = scene.ask(hash_first=False, **_SMALL).end()
    scene.link.both(bytes_per_s=None)
    return scene.after(judge("link slowed to 1 kB/s", watched, expected, hit_s, hit_s))


def bit_flipped(scene: Scene, way: str, after: int) -> Seen:
    """One bit, so many bytes after a question was asked; what follows is asked by whoever wants to know."""
    change = scene.link.up if way == "up" else scene.link.down
    hit_s = time.monotonic()
    change(flip_after=after)
    watched = scene.ask(hash_first=False, **SHORT).end()
    change(flip_after=None)
    return judge(f"one bit flipped on its way {way}", watched, scene.expected(**SHORT), hit_s, hit_s)


def _in_mid_answer(scene: Scene, edge: EdgeNode | None = None) -> Watched:
    """A long answer that has begun, and that comes slowly from now on."""
    scene.link.down(bytes_per_s=_SLOW_DOWN)
    watched = scene.ask(edge=edge, **LONG)
    watched.await_text(3)
    return watched


def _long(scene: Scene, fault: str, watched: Watched, hit_s: float, healed_s: float) -> Seen:
    return scene.after(_judged(scene, fault, watched, hit_s, healed_s))


def _judged(scene: Scene, fault: str, watched: Watched, hit_s: float, healed_s: float) -> Seen:
    return judge(fault, watched.end(), scene.expected(**LONG), hit_s, healed_s)
