"""What a fuzz target is: a decoder of a peer's bytes, the errors that may come out of it, and what it may cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from wire.errors import CleaveError

MIB = 1024 * 1024

Run = Callable[[bytes], object]


class Finding(AssertionError):
    """A decoder did what it must not: raised something else, or took too long."""


@dataclass(frozen=True, slots=True)
class Target:
    """`make` imports what it needs and prepares it once: a child that fuzzes one target loads no other."""

    decodes: str
    make: Callable[[], Run]
    errors: tuple[type[Exception], ...] = (CleaveError,)
    max_input_bytes: int = 4096
    memory_bytes: int = 64 * MIB  # that one input may take, whatever it declares
    seconds: float = 5.0  # that one input may take, on a machine that does much else


def check(target: Target, run: Run, data: bytes) -> None:
    """Lets the stated errors pass; raises Finding for another, or where it took too long."""
    started = time.monotonic()
    try:
        run(data)
    except target.errors:
        pass
    except Exception as error:
        raise Finding(f"{type(error).__name__} came out, and only the stated errors may: {error}") from error
    took_s = time.monotonic() - started
    if took_s > target.seconds:
        raise Finding(f"{len(data)} bytes took {took_s:.1f} s, and {target.seconds:g} s are allowed")
