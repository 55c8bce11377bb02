"""Faults of processes and links in the middle of a request, each with what the user saw of it."""

from __future__ import annotations

import subprocess
import sys
import time

from bench.faulty.scene import LONG, QUESTION, SHORT, Scene
from bench.faulty.watched import Seen, judge
from wire import limits
from wire.errors import CleaveError

_SLOW_UP, _SLOW_DOWN = 60_000.0, 3_000.0  # bytes/s, so that there is a middle


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
        judge("cloud killed in mid-upload, and started again", watched.end(), expected, hit_s, healed_s)
    )


def cloud_killed_in_mid_answer(scene: Scene) -> Seen:
    """SIGKILL after the first words; started again on the same port."""
    scene.link.down(bytes_per_s=_SLOW_DOWN)
    watched = scene.ask(**LONG)
    watched.await_text(3)
    hit_s = time.monotonic()
    scene.cloud.kill()
    scene.link.down(bytes_per_s=None)
    scene.cloud.start()
    healed_s = time.monotonic()
    seen = judge(
        "cloud killed in mid-answer, and started again",
        watched.end(),
        scene.expected(**LONG),
        hit_s,
        healed_s,
    )
    return scene.after(seen)


def edge_killed(scene: Scene) -> Seen:
    """SIGKILL of a `cleave ask` after its first words, while another edge is being answered."""
    command = [
        sys.executable, "-m", "cleave.cli", "ask", "--cloud", scene.link.address, "--image", str(scene.pictures[0]),
        "--split", "0", "--codec", "raw", "--min-tokens", "200", "--max-tokens", "200", QUESTION,
    ]  # fmt: skip
    scene.link.down(bytes_per_s=_SLOW_DOWN)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as doomed:
        assert doomed.stdout is not None
        doomed.stdout.read(1)
        watched = scene.ask(**LONG)
        hit_s = time.monotonic()
        doomed.kill()
        doomed.wait()
    scene.link.down(bytes_per_s=None)
    healed_s = time.monotonic()
    seen = judge(
        "edge killed in mid-answer: another's answer", watched.end(), scene.expected(**LONG), hit_s, healed_s
    )
    return scene.after(seen)


def link_cut(scene: Scene) -> Seen:
    """Every connection is reset (RST) in mid-answer."""
    scene.link.down(bytes_per_s=_SLOW_DOWN)
    watched = scene.ask(**LONG)
    watched.await_text(3)
    hit_s = time.monotonic()
    scene.link.cut()
    scene.link.down(bytes_per_s=None)
    seen = judge("link cut in mid-answer", watched.end(), scene.expected(**LONG), hit_s, hit_s)
    return scene.after(seen)


def link_stalled(scene: Scene) -> Seen:
    """Packets vanish until the edge has noticed and connects again; the connection that was is never heard of again."""
    scene.link.down(bytes_per_s=_SLOW_DOWN)
    watched = scene.ask(**LONG)
    watched.await_text(3)
    hit_s, accepted = time.monotonic(), scene.link.num_accepted
    scene.link.both(stalls=True, bytes_per_s=None)
    scene.link.await_connection(accepted, limits.KEEPALIVE_S + limits.KEEPALIVE_TIMEOUT_S + 10)
    healed_s = time.monotonic()
    scene.link.both(stalls=False)
    seen = judge(
        "link stalled until the edge noticed", watched.end(), scene.expected(**LONG), hit_s, healed_s
    )
    return scene.after(seen)


def link_slow(scene: Scene) -> Seen:
    """1 kB/s both ways, from before a short question until its end."""
    expected = scene.expected(split=1, codec="jpeg:50" if False else None, max_new_tokens=8)
    scene.link.both(bytes_per_s=1000.0)
    hit_s = time.monotonic()
    watched = scene.ask(split=1, codec=None, max_new_tokens=8).end()
    healed_s = time.monotonic()
    scene.link.both(bytes_per_s=None)
    return scene.after(judge("link slowed to 1 kB/s", watched, expected, hit_s, healed_s))


def bit_flipped(scene: Scene, way: str, after: int) -> Seen:
    """One bit of one byte, so many bytes after a question was asked."""
    set_way = scene.link.up if way == "up" else scene.link.down
    hit_s = time.monotonic()
    set_way(flip_after=after)
    watched = scene.ask(**SHORT).end()
    set_way(flip_after=None)
    return judge(f"one bit flipped on its way {way}", watched, scene.expected(**SHORT), hit_s, hit_s)


def is_clear(error: CleaveError | None) -> bool:
    """Whether a user is told what to do, where there is an error at all."""
    return error is None or any(word in str(error) for word in ("again", "check", "allow", "use ", "give"))
