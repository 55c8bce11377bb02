"""Picture files that Pillow does not write: made by hand, to the letter of their formats."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from zlib import compress, crc32

import numpy as np
from PIL import Image

from tests.kit.pictures import encoded

CORNERS = ((250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10))


def four_corners(width: int = 32, height: int = 16) -> Image.Image:
    """Red, green, blue, yellow: top left, top right, bottom left, bottom right; no turn of it looks like another."""
    image = Image.new("RGB", (width, height))
    for index, colour in enumerate(CORNERS):
        left, top = index % 2 * width // 2, index // 2 * height // 2
        image.paste(colour, (left, top, left + width // 2, top + height // 2))
    return image


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc32(kind + content))


def png_file(
    width: int, height: int, depth: int, colour_type: int, pixels: bytes, before: Sequence[bytes] = ()
) -> bytes:
    """`pixels` without filter bytes; `before`: chunks that stand before the pixels."""
    row_bytes = len(pixels) // height
    rows = b"".join(b"\0" + pixels[i * row_bytes : (i + 1) * row_bytes] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = [
        png_chunk(b"IHDR", header),
        *before,
        png_chunk(b"IDAT", compress(rows)),
        png_chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff_file(width: int, height: int, bits: Sequence[int], pixels: bytes, **tags: int) -> bytes:
    """Little-endian, one strip, or one tile where `tile_width` and `tile_length` are given."""
    is_tiled = "tile_width" in tags
    data_at, bits_at = 8, 8 + len(pixels) + len(pixels) % 2
    fields = [
        (256, width),
        (257, height),
        (259, tags.get("compression", 1)),
        (262, tags.get("photometric", 2 if len(bits) > 1 else 1)),
        (277, len(bits)),
        *([] if is_tiled else [(273, data_at), (278, height), (279, len(pixels))]),
        *([(322, tags["tile_width"]), (323, tags["tile_length"])] if is_tiled else []),
        *([(324, data_at), (325, len(pixels))] if is_tiled else []),
    ]
    entries = [(tag, struct.pack("<HHII", tag, 4, 1, value)) for tag, value in fields]
    many = len(bits) > 2
    inline = bits_at if many else sum(value << 16 * index for index, value in enumerate(bits))
    entries.append((258, struct.pack("<HHII", 258, 3, len(bits), inline)))
    listed = struct.pack(f"<{len(bits)}H", *bits) if many else b""
    directory = struct.pack("<H", len(entries)) + b"".join(entry for _, entry in sorted(entries)) + bytes(4)
    padded = pixels + bytes(len(pixels) % 2)
    return struct.pack("<2sHI", b"II", 42, bits_at + len(listed)) + padded + listed + directory


def tiff_with_a_tile(side: int) -> bytes:
    """A picture of 8 x 8 pixels in a tile that says it has another size, and has, well compressed."""
    pixels = compress(bytes(side * side), 1)
    return tiff_file(8, 8, [8], pixels, compression=8, tile_width=side, tile_length=side)


def jpeg_with_scans(num_scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded(four_corners(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * num_scans + data[-2:]


def png_with_text_of(num_bytes: int) -> bytes:
    """A picture with a comment that takes as many bytes once it is decompressed."""
    text = png_chunk(b"zTXt", b"Comment\0\0" + compress(bytes(num_bytes)))
    return png_file(1, 1, 8, 0, b"\x80", [text])


def animated(kind: str, num_frames: int = 3) -> bytes:
    """The four corners first, then other pictures."""
    others = [Image.new("RGB", (32, 16), (index, 0, 90)) for index in range(1, num_frames)]
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(four_corners(), kind, save_all=True, append_images=others, duration=100, **options)


def bmp_that_claims(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("L", (8, 8)), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def gif_that_claims(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("L", (8, 8)), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def jpeg_that_claims(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("L", (8, 8)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def shades_16() -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
    """[16, 16]: from black to white, one shade of 8 bits apart, with something below it."""
    return (np.arange(256, dtype=np.uint16) * 256 + 77).reshape(16, 16)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))
