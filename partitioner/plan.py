"""Which arm a bundle recommends when the caller names none. Pure: measured codec entries in, an arm out."""

from __future__ import annotations

from collections.abc import Sequence

from wire.manifest import Arm, CodecEntry

# Relative L2 error at the tail's output that a default may cost: well under what changes a sure answer.
MAX_FAITHFULNESS = 0.02


def default_arm(entries: Sequence[CodecEntry], max_faithfulness: float = MAX_FAITHFULNESS) -> Arm:
    """The arm with the fewest payload bytes among those at most that unfaithful; of equals, the least edge work."""
    faithful = [entry for entry in entries if entry.faithfulness <= max_faithfulness]
    best = min(faithful, key=lambda entry: (entry.payload_bytes, entry.split_point, entry.faithfulness))
    return Arm(split_point=best.split_point, codec=best.codec)
