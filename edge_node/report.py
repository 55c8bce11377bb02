"""What an answer cost: the arm it took, the bytes it sent, and where its milliseconds went."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class AnswerReport:
    """Filled while the answer comes; complete once its text has ended. `ms` are milliseconds by step.

    `encode` (preprocessing and head), `codec` and `upload` are measured on the edge, `queue`, `payload`, `tail`,
    `prefill` and `decode` on the cloud; `first_token` and `total` run from the call of `ask`. Features that the
    device remembers take no time to encode, and those that the cloud has are not uploaded: `upload` is missing then.
    """

    question: str
    model: str = ""
    split_point: int = 0
    split_label: str = ""
    codec: str = ""
    feature_bytes: int = 0  # the payload: coded features
    uploaded_bytes: int = 0  # of the payload: what was sent of it
    sent_bytes: int = 0  # of all messages of this question, the payload among them
    jpeg_bytes: int = 0  # of the same picture, at quality 90
    cache: str = "miss"  # what the cloud had already: "answer", "features", or "miss"
    finish_reason: str = ""
    prompt_tokens: int = 0
    generated_tokens: int = 0
    text: str = ""
    ms: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, times rounded to a microsecond."""
        values = asdict(self)
        values["ms"] = {name: round(value, 3) for name, value in self.ms.items()}
        return values
