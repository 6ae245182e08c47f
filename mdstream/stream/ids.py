"""Which trade ids of one feed were seen: exact for integer ids, a window for opaque ones. Bounded either way.

Integer ids of venues that count by one:      seen  1..40  43..57       last = 57, missing = [(41, 42)]
A late id that fills a hole is new; any other id up to `last` is a repeat. Holes are remembered up to MOST_HOLES, the
oldest are given up first: then a late trade in them counts as a repeat.
"""

from __future__ import annotations

import msgspec

from mdstream.ticks import NO_ID

MOST_HOLES = 256
MOST_OPAQUE = 1024


class SeenIds(msgspec.Struct, gc=False, array_like=True):
    """What was seen of one id space. The fields are its whole state, for the checkpoint."""

    last: int = NO_ID
    missing: list[tuple[int, int]] = []
    """Holes below `last`, both ends included, in rising order and not touching."""
    recent: dict[str, None] = {}
    """Opaque ids, oldest first."""

    def add(self, first: int, last: int) -> bool:
        """Take in ids first..last (both included); whether any of them is new."""
        newest = self.last
        if first == newest + 1 or newest == NO_ID:
            self.last = last
            return True
        if first > newest:
            self.missing.append((newest + 1, first - 1))
            if len(self.missing) > MOST_HOLES:
                del self.missing[0]
            self.last = last
            return True
        filled = self._fill(first, min(last, newest))
        if last > newest:
            self.last = last
            return True
        return filled

    def _fill(self, first: int, last: int) -> bool:
        """Take first..last out of the holes; whether any was in one."""
        kept: list[tuple[int, int]] = []
        filled = False
        for low, high in self.missing:
            if high < first or low > last:
                kept.append((low, high))
                continue
            filled = True
            if low < first:
                kept.append((low, first - 1))
            if high > last:
                kept.append((last + 1, high))
        if filled:
            # A hole that is filled in its middle leaves two.
            self.missing = kept[-MOST_HOLES:]
        return filled

    def add_opaque(self, identity: str) -> bool:
        """Take in an id without order; whether it is new among the last MOST_OPAQUE."""
        if identity in self.recent:
            return False
        self.recent[identity] = None
        if len(self.recent) > MOST_OPAQUE:
            del self.recent[next(iter(self.recent))]
        return True
