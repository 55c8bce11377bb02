"""Codecs: features to bytes and back."""

from wire.codecs.base import (
    Codec,
    check_payload_sizes,
    codec_name,
    decode,
    encode,
    split_codec_name,
)
from wire.codecs.registry import all_codecs, codec_infos, find_codec, parse_codec

__all__ = [
    "Codec",
    "all_codecs",
    "check_payload_sizes",
    "codec_infos",
    "codec_name",
    "decode",
    "encode",
    "find_codec",
    "parse_codec",
    "split_codec_name",
]
