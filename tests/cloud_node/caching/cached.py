"""A request about one picture, and what may be kept of it."""

from __future__ import annotations

from cloud_node.asked.inputs import RequestInput
from cloud_node.asked.request import Request
from cloud_node.asked.sequence import FinishReason
from cloud_node.asked.settings import Settings
from cloud_node.caching.cache import Answer
from wire.sizes import ImageSize

KEY = bytes(range(32))
ANSWER = Answer("a red square", 4, 7, FinishReason.LENGTH)
PAYLOAD = bytes(range(256)) * 2 + bytes(16)

SETTINGS = Settings(max_new_tokens=8, temperature=0.0)
ITEM = RequestInput(
    modality="image", shape_id="32x32", split_point=1, codec="raw", size=ImageSize(64, 48), payload_sizes=(512, 16),
    crc32=1, num_tiles=0, input_key=bytes(32),
)  # fmt: skip
REQUEST = Request(
    request_id="r1", prompt="What?", settings=SETTINGS, deadline_s=60, inputs=(ITEM,), priority=0
)
