"""The memory of batches: segments that all logs share, filled in order of arrival.

oldest                                       newest
  | a0 b0 a1 a2 | a3 c0   | b1, a large one | a4 ...

A segment is a memory map of its own, and returns to the system as a whole once its last batch is dropped. Batches as
objects on the heap would fragment it, and segments of one log each would stay for as long as the log takes to fill
them: for hours, if it is slow (decision 38).
"""

from __future__ import annotations

from mmap import mmap
from weakref import WeakValueDictionary

MAX_SEGMENT_BYTES = 1 << 20
SHARE = 64
"""A segment is at most this part of the limit: so much is dropped at once."""


class Segments:
    """Only batches keep their segments; this knows which there are."""

    def __init__(self, limit_bytes: int) -> None:
        self._capacity = max(1, min(MAX_SEGMENT_BYTES, limit_bytes // SHARE))
        self._number = 0
        self._kept: WeakValueDictionary[int, mmap] = WeakValueDictionary()

    def write(self, content: bytes) -> tuple[mmap, int]:
        """Store a batch; its segment, and where it begins there. One that is larger than a segment gets its own."""
        segment = self._kept.get(self._number)
        if segment is None or len(segment) - segment.tell() < len(content):
            self._number += 1
            segment = self._kept[self._number] = mmap(-1, max(self._capacity, len(content)))
        start = segment.tell()
        segment.write(content)
        return segment, start

    @property
    def size(self) -> int:
        """Bytes that were written to segments which are kept. The rest of a segment is not resident."""
        return sum(segment.tell() for segment in self._kept.values())

    @property
    def oldest(self) -> mmap | None:
        return next(iter(self._kept.values()), None)
