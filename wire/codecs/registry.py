"""The codecs there are, by name. A codec is added here and to tests/golden/wire, nowhere else."""

from wire.codecs.base import Codec, codec_name, split_codec_name
from wire.codecs.half import Bf16, Fp16
from wire.codecs.int4 import Int4
from wire.codecs.int8 import Int8
from wire.codecs.raw import RAW
from wire.codecs.zstd import Zstd
from wire.errors import UnknownCodec
from wire.limits import MAX_ID_CHARS
from wire.v1 import inference_pb2 as pb

# The first setting of a codec id is its default.
_PLAIN: tuple[Codec, ...] = (
    RAW,
    Fp16(),
    Bf16(),
    Int8("channel"),
    Int8("token"),
    Int4("group32"),
    Int4("token"),
    Int4("channel"),
)
_CODECS: tuple[Codec, ...] = _PLAIN + tuple(Zstd(codec) for codec in _PLAIN)
_BY_WIRE: dict[tuple[str, str], Codec] = {(codec.codec_id, codec.setting): codec for codec in _CODECS}


def all_codecs() -> tuple[Codec, ...]:
    """Every codec with every setting."""
    return _CODECS


def parse_codec(name: str) -> Codec:
    """The codec that users write "int8:token+zstd"; without a setting, its default. Raises UnknownCodec."""
    codec_id, setting = split_codec_name(name)
    for codec in _CODECS:
        if codec.codec_id == codec_id and (codec.setting == setting or not setting):
            return codec
    raise _unknown(name)


def find_codec(codec_id: str, setting: str) -> Codec:
    """The codec of an Input's two fields, exactly. Raises UnknownCodec."""
    codec = _BY_WIRE.get((codec_id, setting))
    if codec is None:
        raise _unknown(codec_name(codec_id, setting))
    return codec


def codec_infos() -> list[pb.CodecInfo]:
    """What Describe says about the codecs, one entry per codec id."""
    infos: dict[str, pb.CodecInfo] = {}
    for codec in _CODECS:
        info = infos.setdefault(
            codec.codec_id, pb.CodecInfo(codec_id=codec.codec_id, lossless=codec.is_lossless)
        )
        info.settings.append(codec.setting)
    return list(infos.values())


def _unknown(name: str) -> UnknownCodec:
    known = ", ".join(map(str, _CODECS))
    return UnknownCodec(f"there is no codec {name[: 2 * MAX_ID_CHARS]!r}; expected one of {known}")
