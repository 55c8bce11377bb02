"""The protocol's numbers, each with its reason, and the gRPC options that follow from them."""

import re
from dataclasses import asdict, dataclass

from wire.errors import MalformedMessage
from wire.v1 import inference_pb2 as pb

PROTOCOL_VERSION = 1

KIB = 1024
MIB = 1024 * KIB

# A cancelled or superseded upload wastes at most one chunk; at 64 KiB the message's own cost is under 1 %.
MAX_CHUNK_BYTES = 64 * KIB
# One round trip less for what fits; more would hold other requests' messages back on the shared stream.
MAX_INLINE_BYTES = 64 * KIB
# A file comes faster in larger pieces, and nothing shares its stream; still far under MAX_MESSAGE_BYTES.
MAX_BUNDLE_PART_BYTES = 256 * KIB
# Raw float32 features of 64 Mi bytes: 4 tiles of 4096 tokens of 1024 numbers. The operator may change it.
MAX_REQUEST_BYTES = 64 * MIB
# gRPC's own default, set explicitly: no message of ours needs more, and a peer can make us hold one of these.
MAX_MESSAGE_BYTES = 4 * MIB
# Above any boundary of a model today; bounds what one header can make the receiver allocate.
MAX_TENSOR_BYTES = 1024 * MIB
# ONNX and torch vision models use up to 6.
MAX_RANK = 8
# Per split point; a boundary with more live tensors is no good place to split.
MAX_TENSORS = 64
MAX_NAME_CHARS = 256
MAX_ID_CHARS = 64
# A manifest of 100 split points with 10 codecs each takes 0.3 MiB.
MAX_MANIFEST_BYTES = 4 * MIB
# The cloud runs a model's processor on a blank picture of the size that the edge names: 64 million pixels take 192 MB,
# and a processor that brings the shorter edge to 1024 makes 210 million of a picture that is 200 times as long.
MAX_IMAGE_PIXELS = 64_000_000
MAX_IMAGE_ASPECT = 200
# Half an hour of sound at 16 kHz is 115 MB of float32; longer recordings go in several requests.
MAX_SOUND_S = 1800
# Text encoders read 64 to 512 tokens.
MAX_TEXT_TOKENS = 4096
# Tiles of a picture, or windows of a sound, in one input: 64 windows of 30 s are more than MAX_SOUND_S.
MAX_TILES = 64
MAX_INDEX_HITS = 1000
MAX_ITEM_CHARS = 256
MAX_SOUND_SAMPLES = 64 * 1024 * 1024  # of all channels
MAX_SOUND_BYTES = 128 * MIB
# The highest that converters are built for; and libsndfile's own bound on channels.
MAX_SAMPLE_RATE_HZ = 768_000
MAX_SOUND_CHANNELS = 1024
# Ten steps are told apart by a person; more invite an arms race.
MAX_PRIORITY = 9
# What an edge keeps of a cloud's words: of one answer, and of one request's messages that nobody has read yet. 4096 new
# tokens make far less of either.
MAX_ANSWER_CHARS = 4 * MIB
MAX_UNREAD_BYTES = 64 * MIB
MAX_STOP_STRINGS = 16
MAX_STOP_CHARS = 256
MAX_CONVERSATION_MESSAGES = 256
MAX_MESSAGE_PARTS = 64
KEY_BYTES = 32

# Together: how long a link that died silently goes unnoticed. Pinging more often wakes a phone's radio.
KEEPALIVE_S = 20.0
KEEPALIVE_TIMEOUT_S = 10.0

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server accepts; the operator's settings, told to the edge in Welcome and Describe."""

    max_request_bytes: int = MAX_REQUEST_BYTES  # payloads of one request, together
    max_chunk_bytes: int = MAX_CHUNK_BYTES
    max_inline_bytes: int = MAX_INLINE_BYTES  # payloads inside one Open, together
    max_prompt_chars: int = 65536
    max_new_tokens: int = 4096
    max_inputs: int = 16  # per request
    max_open_requests: int = 64  # per stream
    stream_idle_s: float = 600.0
    upload_idle_s: float = 30.0
    resume_s: float = 60.0  # how long a request outlives its connection
    priority_s: float = 5.0  # what one step of a request's priority is worth

    def to_wire(self) -> pb.Limits:
        """The message that tells these limits."""
        return pb.Limits(**asdict(self))

    @classmethod
    def from_wire(cls, limits: pb.Limits) -> "Limits":
        """The limits that a message tells."""
        return cls(**{name: getattr(limits, name) for name in cls.__dataclass_fields__})


def check_request_id(request_id: str) -> str:
    """The id itself; raises MalformedMessage unless it is 1 to 64 characters of [A-Za-z0-9_-]."""
    if not _REQUEST_ID.fullmatch(request_id):
        raise MalformedMessage(
            f"request_id {request_id[:MAX_ID_CHARS]!r} is not 1 to 64 characters of [A-Za-z0-9_-]"
        )
    return request_id


def check_edge_id(edge_id: str) -> str:
    """The id itself; raises MalformedMessage unless it is empty, or an id as a request's."""
    if edge_id and not _REQUEST_ID.fullmatch(edge_id):
        raise MalformedMessage(
            f"edge_id {edge_id[:MAX_ID_CHARS]!r} is not 1 to 64 characters of [A-Za-z0-9_-]"
        )
    return edge_id


def grpc_options() -> list[tuple[str, int]]:
    """Channel and server arguments; both sides MUST use the same, or pings are answered with GOAWAY."""
    return [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", int(KEEPALIVE_S * 1000)),
        ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
        # Of gRPC's own pings, too, by which it measures the link: while one is on its way, keepalive sends none, and
        # by default it would be waited for during a minute.
        ("grpc.http2.ping_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", int(KEEPALIVE_S * 500)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", int(KEEPALIVE_S * 500)),
    ]
