"""Pictures for the tests: two whose answers differ, and files of every kind."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def textured(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with noise on them: no two pixels alike, no two seeds alike."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = smooth + rng.integers(-12, 13, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def written(path: Path, width: int, height: int, seed: int = 0, kind: str = "PNG") -> Path:
    path.write_bytes(encoded(textured(width, height, seed), kind))
    return path


def png_that_claims(width: int, height: int) -> bytes:
    """A small PNG file whose header says another size."""
    from zlib import crc32

    data = bytearray(encoded(textured(8, 8)))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)
