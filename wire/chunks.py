"""A payload in pieces, and the pieces put together again, with every bound checked before memory is taken."""

from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

from wire.crc import combine
from wire.errors import Corrupt, MalformedMessage, TooLarge
from wire.limits import MAX_CHUNK_BYTES

# From here on a CRC-32 is put together from those of two parts more quickly than it is counted again.
_COMBINED_FROM_BYTES = 16 * 1024
# Smaller pieces are put together as they come: each takes some 45 bytes as an object, and a peer may send 2 at a time.
_SMALL_BYTES = 4 * 1024


class Piece(NamedTuple):
    """The fields of a Chunk that come from the payload."""

    offset: int  # bytes from the start of the payload
    data: bytes
    crc32: int  # of data


def split(payload: memoryview | bytes, max_bytes: int = MAX_CHUNK_BYTES, start: int = 0) -> Iterator[Piece]:
    """The payload from byte `start` on, in pieces of at most `max_bytes`; nothing for an empty rest."""
    view = memoryview(payload).cast("B")
    for offset in range(start, len(view), max_bytes):
        data = bytes(view[offset : offset + max_bytes])
        yield Piece(offset, data, crc32(data))


class Assembler:
    """Puts the pieces of one payload together. Memory grows with what came, not with what was declared."""

    def __init__(self, total_bytes: int, limit: int, max_chunk_bytes: int = MAX_CHUNK_BYTES) -> None:
        """Expects `total_bytes`, of at most `limit`. Raises TooLarge."""
        if not 0 <= total_bytes <= limit:
            raise TooLarge(f"the payload declares {total_bytes} bytes; at most {limit} are accepted")
        self._total_bytes = total_bytes
        self._max_chunk_bytes = max_chunk_bytes
        self._pieces: list[bytes] = []
        self._small = bytearray()  # what came after them, in small pieces
        self._received_bytes = 0
        self._crc32 = 0  # of all that has come

    @property
    def total_bytes(self) -> int:
        """Bytes declared."""
        return self._total_bytes

    @property
    def received_bytes(self) -> int:
        """Bytes that have come; the next piece starts here."""
        return self._received_bytes

    @property
    def is_complete(self) -> bool:
        """Whether all bytes have come."""
        return self._received_bytes == self._total_bytes

    def add(self, offset: int, data: bytes, crc: int) -> int:
        """Take the next piece and return `received_bytes`. A piece that is refused changes nothing.

        Raises MalformedMessage (empty, a gap, an overlap, past the end), TooLarge (the piece) or Corrupt.
        """
        if len(data) > self._max_chunk_bytes:
            raise TooLarge(f"a chunk has {len(data)} bytes; at most {self._max_chunk_bytes} are accepted")
        if not data:
            raise MalformedMessage("a chunk is empty; expected at least 1 byte")
        if offset != self.received_bytes:
            raise MalformedMessage(
                f"a chunk starts at byte {offset}; expected {self.received_bytes}, the next one"
            )
        if offset + len(data) > self._total_bytes:
            raise MalformedMessage(f"a chunk ends at byte {offset + len(data)} of {self._total_bytes}")
        if crc32(data) != crc:
            raise Corrupt(f"the chunk at byte {offset} does not have its CRC-32; send it again")
        is_large = len(data) >= _COMBINED_FROM_BYTES
        self._crc32 = combine(self._crc32, crc, len(data)) if is_large else crc32(data, self._crc32)
        if len(data) < _SMALL_BYTES:
            self._small += data
        else:
            self._join_small()
            self._pieces.append(data)
        self._received_bytes += len(data)
        return self._received_bytes

    def payload(self, crc: int) -> memoryview:
        """The whole payload, read-only; it is put together once. Raises MalformedMessage (incomplete) or Corrupt."""
        if not self.is_complete:
            raise MalformedMessage(f"the payload ended at byte {self.received_bytes} of {self._total_bytes}")
        if self._crc32 != crc:
            raise Corrupt("the payload does not have its CRC-32; send it again")
        self._join_small()
        # What came in one piece is not copied.
        self._pieces = [b"".join(self._pieces)]
        return memoryview(self._pieces[0])

    def _join_small(self) -> None:
        if self._small:
            self._pieces.append(bytes(self._small))
            self._small.clear()
