"""The CRC-32 of a whole from those of its parts, without another pass over the bytes.

CRC-32 is arithmetic with polynomials over GF(2), modulo zlib's own, bits reversed (the highest bit is x^0): appending n
bytes multiplies what was before by x^(8n). As in zlib's `crc32_combine`, which Python does not offer.
"""

from functools import lru_cache

_MODULUS = 0xEDB88320
_ONE = 1 << 31


def combine(first: int, second: int, second_bytes: int) -> int:
    """The CRC-32 of two runs of bytes behind one another; of the second, its length is needed, too."""
    return _times(_shift(second_bytes), first) ^ second


def _times(a: int, b: int) -> int:
    """The product of two polynomials."""
    product = 0
    bit = _ONE
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = (b >> 1) ^ _MODULUS if b & 1 else b >> 1
    return product


# Chunks of one upload have one length, all but the last; few uploads differ in that one's.
@lru_cache(maxsize=256)
def _shift(num_bytes: int) -> int:
    """x^(8 * num_bytes)."""
    result, power = _ONE, _ONE >> 8
    while num_bytes:
        if num_bytes & 1:
            result = _times(power, result)
        power = _times(power, power)
        num_bytes >>= 1
    return result
