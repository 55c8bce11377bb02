"""Media codecs by name, and which files need no coding."""

from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image

from tests.kit import picture_files as files
from tests.kit.picture_files import animated
from tests.kit.pictures import encoded, textured
from wire.codecs import all_codecs
from wire.errors import UnknownCodec
from wire.media.registry import find_media_codec, is_media_codec, media_codecs, sniff_picture


def test_pictures_have_three_codecs_and_each_is_found_with_its_settings() -> None:
    codecs = media_codecs("image")
    assert [codec.codec_id for codec in codecs] == ["jpeg", "webp", "avif"]
    for codec in codecs:
        assert all(
            find_media_codec(codec.codec_id, setting) is codec
            for setting in ("", "1", "100", *codec.settings)
        )


def test_no_name_is_both_a_tensor_codec_and_a_media_codec() -> None:
    tensor_codecs = {codec.codec_id for codec in all_codecs()}
    assert not any(is_media_codec(codec_id) for codec_id in tensor_codecs)
    assert tensor_codecs.isdisjoint(codec.codec_id for codec in media_codecs("image"))


@pytest.mark.parametrize("setting", ["0", "101", "090", "best", "9" * 999])
def test_setting_that_is_none_is_refused(setting: str) -> None:
    with pytest.raises(UnknownCodec, match="1 to 100") as raised:
        find_media_codec("webp", setting)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("codec_id", ["", "jpg", "JPEG", "raw", "jpeg+zstd", "x" * 999])
def test_unknown_codec_names_those_there_are(codec_id: str) -> None:
    with pytest.raises(UnknownCodec, match="expected one of jpeg, webp, avif") as raised:
        find_media_codec(codec_id, "90")
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(("kind", "codec_id"), [("JPEG", "jpeg"), ("WEBP", "webp"), ("AVIF", "avif")])
def test_file_that_is_such_already_is_sent_as_it_is(kind: str, codec_id: str) -> None:
    data = encoded(textured(24, 16), kind)
    assert sniff_picture(data) == sniff_picture(memoryview(data)) == codec_id
    codec = find_media_codec(codec_id, "")
    assert codec.decode(data).size == (24, 16)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff and no more",
        encoded(textured(24, 16), "PNG"),
        encoded(textured(24, 16), "GIF"),
        encoded(textured(24, 16), "TIFF"),
        animated("WEBP"),
        animated("AVIF"),
        animated("MPO"),
        files.jpeg_that_claims(9_000, 9_000),
        files.jpeg_that_claims(4_001, 20),
        files.jpeg_with_scans(101),
        encoded(Image.new("RGB", (16_000, 8)), "WEBP"),
    ],
    ids=lambda data: data[:12].hex(),
)
def test_what_is_another_format_or_several_frames_or_out_of_bounds_must_be_coded(data: bytes) -> None:
    assert sniff_picture(data) is None


def test_looking_a_codec_up_needs_no_pillow() -> None:
    """The wire alone runs where no picture library is installed."""
    code = (
        "import sys, wire.media.registry as r; r.find_media_codec('jpeg', '90'); print('PIL' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output == "False\n"
