"""An observer for engines whose numbers no test looks at."""

from __future__ import annotations


class Unobserved:
    """Hears nothing."""

    def tail_batch(self, size: int, seconds: float) -> None: ...
    def prefill_chunk(self, tokens: int, seconds: float, reused_tokens: int) -> None: ...
    def decode_step(self, batch: int, seconds: float) -> None: ...
