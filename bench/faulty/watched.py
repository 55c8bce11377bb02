"""An answer that is watched while something breaks: what came of it, and when."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field

from edge_node.blocking import Answer
from wire.errors import CleaveError

_LIMIT_S = 120.0


class Watched:
    """Reads an answer in a thread of its own, to its end or its error."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._changed = threading.Condition()
        self.arrivals: list[float] = []  # of pieces of text, monotonic
        self.text = ""
        self.error: CleaveError | None = None
        self.ended_s = 0.0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def num_resumed(self) -> int:
        return self._answer.report.num_resumed

    @property
    def cache(self) -> str:
        """Where the answer came from."""
        return self._answer.report.cache

    def await_text(self, pieces: int = 1) -> None:
        """Until so many pieces came; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.arrivals) >= pieces or self.ended_s, _LIMIT_S):
                raise TimeoutError(f"{len(self.arrivals)} pieces of text came, and {pieces} were waited for")

    def end(self) -> Watched:
        """Waits for the end; raises TimeoutError where it hangs."""
        self._thread.join(_LIMIT_S)
        if self._thread.is_alive():
            raise TimeoutError(f"an answer did not end within {_LIMIT_S:g} s")
        return self

    def _read(self) -> None:
        try:
            for text in self._answer:
                with self._changed:
                    self.text += text
                    self.arrivals.append(time.monotonic())
                    self._changed.notify_all()
        except CleaveError as error:
            self.error = error
        finally:
            with self._changed:
                self.ended_s = time.monotonic()
                self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class Seen:
    """What one fault led to. `lasted_s` is the fault itself, `recovered_s` from its end to the next piece or error."""

    fault: str
    saw: str
    lasted_s: float
    recovered_s: float
    num_wrong: int = 0  # answers that differ from the undisturbed ones
    num_lost: int = 0  # requests that ended in no answer and no error that says what to do
    num_resumed: int = 0
    left: dict[str, float] = field(default_factory=dict)  # what the cloud holds more than before

    @property
    def is_ok(self) -> bool:
        return not (self.num_wrong or self.num_lost or self.left)


def judge(fault: str, watched: Watched, expected: str, hit_s: float, healed_s: float) -> Seen:
    """Of a request that was to be answered all the same, and has ended: an error is its loss.

    What was on its way already is heard after the fault: the longest pause counts.
    """
    heard = [hit_s, *(at for at in watched.arrivals if at > hit_s), watched.ended_s]
    pause_s, ended_s = max((after - before, after) for before, after in itertools.pairwise(heard))
    is_wrong = watched.error is None and watched.text != expected
    is_wrong = is_wrong or not expected.startswith(watched.text)
    if is_wrong:
        saw = "A WRONG ANSWER"
    elif watched.error is not None:
        saw = f"{type(watched.error).__name__}: {watched.error}"
    else:
        saw = f"the whole answer, after a pause of {pause_s:.1f} s"
    return Seen(
        fault,
        saw,
        healed_s - hit_s,
        max(0.0, ended_s - healed_s),
        int(is_wrong),
        num_lost=int(watched.error is not None),
        num_resumed=watched.num_resumed,
    )
