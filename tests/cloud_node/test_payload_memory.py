"""A payload of 1.5 KB takes no more memory than its request declares, measured by the size of a process of its own."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import zstandard
from PIL import Image

from tests.kit.memory import peak_bytes_of
from tests.kit.pictures import encoded
from wire.codecs import Codec, all_codecs

pytestmark = pytest.mark.slow

MIB = 1 << 20
PAYLOAD_BYTES = 1500
SHAPE = (1024, 512)
# 16 bytes per number of the boundary (docs/wire.md), and what an allocator takes beside.
MOST_BYTES = 16 * 1024 * 512 + 2 * MIB

PAYLOADS = """
from pathlib import Path
from wire.codecs import all_codecs, decode
from wire.errors import CleaveError
from wire.tensors import DType, TensorSpec
spec = TensorSpec("x", DType.FLOAT32, (1024, 512))
payloads = [(all_codecs()[int(path.name.split(".")[0])], path.read_bytes()) for path in Path(sys.argv[1]).iterdir()]
"""
DECODED_PAYLOADS = """
for codec, payload in payloads:
    try:
        decode(codec, memoryview(payload), [len(payload)], [spec])
        print("decoded", codec)
    except CleaveError:
        pass
"""


def bombs(codec: Codec) -> list[bytes]:
    """What a peer may make of 1.5 KB: the largest tensor that is right, and frames that hold more than they may."""
    frames = [codec.encode_tensor(np.zeros(SHAPE, np.float32))]
    if codec.codec_id.endswith("+zstd"):
        # So that what is declared is reached, and not just refused.
        assert len(frames[0]) <= PAYLOAD_BYTES
        frames += [zstandard.ZstdCompressor(level=19).compress(bytes(size * MIB)) for size in (1, 2, 40)]
    return [frame[:PAYLOAD_BYTES] for frame in frames]


def test_coded_tensors_take_what_their_boundary_allows(tmp_path: Path) -> None:
    for number, codec in enumerate(all_codecs()):
        for index, bomb in enumerate(bombs(codec)):
            (tmp_path / f"{number}.{index}").write_bytes(bomb)
    taken = peak_bytes_of(PAYLOADS, DECODED_PAYLOADS, tmp_path)
    assert 4 * 1024 * 512 < taken < MOST_BYTES


FILES = """
from pathlib import Path
import PIL.Image, PIL.JpegImagePlugin, PIL.WebPImagePlugin, soundfile, soxr
from wire.errors import CleaveError
from wire.media.registry import find_media_codec
from wire.sizes import ImageSize, SoundSize
PIL.Image.init()
files = [(path.name, path.read_bytes()) for path in Path(sys.argv[1]).iterdir()]
said = {"jpeg": ImageSize(64, 48), "webp": ImageSize(64, 48), "flac": SoundSize(16000, 16000)}
"""
DECODED_FILES = """
for codec, data in files:
    try:
        find_media_codec(codec).decode(data, said[codec] if sys.argv[2] == "said" else None)
    except CleaveError:
        pass
"""


def _jpeg() -> bytes:
    """Says that it has 64 million pixels, and holds a few."""
    data = bytearray(encoded(Image.new("L", (64, 48)), "JPEG", quality=5))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = (7990).to_bytes(2, "big") + (8000).to_bytes(2, "big")
    return bytes(data)


def _flac() -> bytes:
    """Half a minute of silence in eight channels."""
    buffer = io.BytesIO()
    soundfile.write(
        buffer, np.zeros((3_000_000, 8), np.int16), 96_000, "PCM_16", format="FLAC", compression_level=1.0
    )
    return buffer.getvalue()


def test_files_that_hold_more_than_was_said_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    (tmp_path / "jpeg").write_bytes(_jpeg())
    (tmp_path / "webp").write_bytes(encoded(Image.new("L", (4000, 4000)), "WEBP", quality=1, method=0))
    (tmp_path / "flac").write_bytes(_flac())
    assert peak_bytes_of(FILES, DECODED_FILES, tmp_path, "said") < 8 * MIB
    # Where nothing is said of them, as on the device that they come from, they take what they hold.
    assert peak_bytes_of(FILES, DECODED_FILES, tmp_path, "unsaid") > 48 * MIB
