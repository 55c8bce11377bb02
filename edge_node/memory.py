"""What the device keeps of the inputs it was asked about: coded features, so that no input is encoded twice."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from edge_node.coding import Coded

DEFAULT_BYTES = 64 << 20
# Bounds the headers and keys of many small inputs, which the bytes of their payloads do not count.
MAX_ENTRIES = 1024


class Place(NamedTuple):
    """All that coded features follow from."""

    bundle_digest: str
    input_key: bytes
    shape_id: str
    split_point: int
    codec: str


class FeatureMemory:
    """The least recently used go first when `max_bytes` of payload, or MAX_ENTRIES, are reached."""

    def __init__(self, max_bytes: int = DEFAULT_BYTES, max_entries: int = MAX_ENTRIES) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._kept: OrderedDict[Place, Coded] = OrderedDict()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, place: Place) -> Coded | None:
        coded = self._kept.get(place)
        if coded is not None:
            self._kept.move_to_end(place)
        return coded

    def put(self, place: Place, coded: Coded) -> None:
        """Keeps the features, unless they alone are more than all that is kept."""
        if place in self._kept:
            self.num_bytes -= len(self._kept.pop(place).payload)
        if len(coded.payload) > self._max_bytes:
            return
        self._kept[place] = coded
        self.num_bytes += len(coded.payload)
        while self.num_bytes > self._max_bytes or len(self._kept) > self._max_entries:
            _, oldest = self._kept.popitem(last=False)
            self.num_bytes -= len(oldest.payload)
