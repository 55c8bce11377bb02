"""What an answer cost: the arms it took, the bytes it sent, and where its milliseconds went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from wire.v1 import inference_pb2 as pb

_FINISH_REASONS = {
    pb.FINISH_REASON_STOP_TOKEN: "stop_token",
    pb.FINISH_REASON_STOP_STRING: "stop_string",
    pb.FINISH_REASON_LENGTH: "length",
}
_CACHES = {pb.CACHE_FEATURES: "features", pb.CACHE_ANSWER: "answer"}


@dataclass(slots=True)
class InputReport:
    """One picture, sound or text of a request."""

    modality: str
    split_point: int
    split_label: str
    codec: str
    feature_bytes: int  # the payload: coded features, or the input itself
    uploaded_bytes: int = 0  # what was sent of it
    media_codec: str = ""  # what it would be sent as without a head: "jpeg:90", "opus:24" or "utf-8"
    media_bytes: int = 0  # and how many bytes that is
    note: str = ""  # what a person should know of how it was read


@dataclass(slots=True)
class AnswerReport:
    """Filled while the answer comes; complete once its text has ended. `ms` are milliseconds by step.

    Of several inputs, arm and label are the first's, bytes are those of all; `inputs` has each. `encode`
    (preprocessing and head), `codec` and `upload` are measured on the edge, `queue`, `payload`, `tail`, `prefill` and
    `decode` on the cloud; `first_token` and `total` run from the call of `ask`. Features that the device remembers take
    no time to encode, and those that the cloud has are not uploaded: `upload` is missing then.
    """

    question: str
    model: str = ""
    split_point: int = 0
    split_label: str = ""
    codec: str = ""
    feature_bytes: int = 0  # the payloads: coded features
    uploaded_bytes: int = 0  # of the payloads: what was sent of them
    sent_bytes: int = 0  # of all messages of this question, the payloads among them
    jpeg_bytes: int = 0  # of the pictures, at quality 90
    cache: str = "miss"  # what the cloud had already: "answer", "features", or "miss"
    num_resumed: int = 0  # how often it was sent again: after a lost connection, or when the cloud said
    finish_reason: str = ""
    prompt_tokens: int = 0
    generated_tokens: int = 0
    text: str = ""
    ms: dict[str, float] = field(default_factory=dict)
    inputs: list[InputReport] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, times rounded to a microsecond."""
        values = asdict(self)
        values["ms"] = {name: round(value, 3) for name, value in self.ms.items()}
        return values

    def note_inputs(self, inputs: Sequence[InputReport], encode_s: float, codec_s: float) -> None:
        """Once all are coded."""
        self.inputs = list(inputs)
        first = inputs[0]
        self.split_point, self.split_label, self.codec = first.split_point, first.split_label, first.codec
        self.feature_bytes = sum(one.feature_bytes for one in inputs)
        self.ms.update(encode=encode_s * 1e3, codec=codec_s * 1e3)

    def note_sent(self, payload_bytes: Sequence[int], message_bytes: int) -> None:
        """By input, and in all."""
        for one, uploaded in zip(self.inputs, payload_bytes, strict=True):
            one.uploaded_bytes = uploaded
        self.uploaded_bytes, self.sent_bytes = sum(payload_bytes), message_bytes

    def note_media(self, media_bytes: Sequence[int]) -> None:
        """What the inputs themselves would have cost."""
        for one, num_bytes in zip(self.inputs, media_bytes, strict=True):
            one.media_bytes = num_bytes
        self.jpeg_bytes = sum(one.media_bytes for one in self.inputs if one.modality == "image")

    def note_done(self, done: pb.Done) -> None:
        """What the cloud says at the end."""
        self.finish_reason = _FINISH_REASONS.get(done.finish_reason, "")
        self.cache = _CACHES.get(done.cache, "miss")
        self.prompt_tokens, self.generated_tokens = done.prompt_tokens, done.generated_tokens
        times = done.times
        self.ms.update(
            queue=times.queue_s * 1e3,
            payload=times.decode_payload_s * 1e3,
            tail=times.tail_s * 1e3,
            prefill=times.prefill_s * 1e3,
            decode=times.decode_s * 1e3,
        )
