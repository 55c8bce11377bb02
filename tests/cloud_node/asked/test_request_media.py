"""What an Open may say of an input that is a file of its own, in a media codec."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_node.asked.served import Served
from tests.cloud_node.asked.test_request import Change, parsed
from wire.errors import BadInput, CleaveError, MalformedMessage, TooLarge, UnknownCodec
from wire.sizes import ImageSize
from wire.v1 import inference_pb2 as pb


def media(codec_id: str = "jpeg", setting: str = "85", **changes: Any) -> Change:
    """The input as a file of its own."""

    def change(message: pb.Open) -> None:
        item = message.inputs[0]
        del item.tensors[:]
        item.shape_id, item.split_point, item.codec_id, item.setting = "", 0, codec_id, setting
        item.payload, item.total_bytes = b"a file", 6
        for name, value in changes.items():
            setattr(item, name, value)

    return change


def test_file_of_its_own_is_taken_at_split_point_0(served: Served) -> None:
    (item,) = parsed(served, media()).inputs
    assert (item.is_media, item.codec, item.payload_sizes) == (True, "jpeg:85", (6,))
    (as_it_is,) = parsed(served, media("webp", "")).inputs
    assert (as_it_is.codec, as_it_is.size) == ("webp", ImageSize(64, 48))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (media("jpeg", "101"), UnknownCodec),
        (media("jpeg", "x"), UnknownCodec),
        (media("bmp", ""), UnknownCodec),
        (media("raw", ""), UnknownCodec),
        (media("flac", "16"), BadInput),
        (media(split_point=1), MalformedMessage),
        (media(num_tiles=1), MalformedMessage),
        (media(total_bytes=0, payload=b""), MalformedMessage),
        (media(total_bytes=7), MalformedMessage),
        (media(total_bytes=1 << 40, payload=b""), TooLarge),
        (lambda message: (media()(message), message.inputs[0].tensors.add()), MalformedMessage),
        (lambda message: setattr(message.inputs[0], "shape_id", ""), UnknownCodec),
    ],
)
def test_file_that_says_what_only_features_may_is_refused(
    served: Served, change: Change, error: type[CleaveError]
) -> None:
    with pytest.raises(error) as refused:
        parsed(served, change)
    assert type(refused.value) is error
