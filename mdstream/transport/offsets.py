"""Which offset of one partition may be committed: pure bookkeeping, one instance per assignment.

    delivered, in order        [100,150) [150,170) [170,240)
    acknowledged, in any order [100,150)           [170,240)
    committable                150: the end of the longest acknowledged prefix

Invariants, whatever the order of calls: `committable` never passes a batch that is not acknowledged, never falls, and
reaches the end of the last delivered batch once all are acknowledged. `confirmed` is what the broker has confirmed: a
failed commit does not change it, so the same offset is offered again.
"""

from __future__ import annotations

from collections import deque


class Offsets:
    """The offsets of one partition from `start`, the next one to read."""

    __slots__ = ("_acknowledged", "_delivered", "committable", "confirmed", "delivered")

    def __init__(self, start: int, *, confirmed: int | None) -> None:
        self.committable = start
        self.confirmed = confirmed
        self.delivered = start
        self._delivered: deque[int] = deque()
        self._acknowledged: set[int] = set()

    def deliver(self, next_offset: int) -> None:
        """A batch that ends before `next_offset` went to the agent; batches are delivered in order."""
        if next_offset <= self.delivered:
            raise ValueError(f"batch ends at {next_offset}, but {self.delivered} was delivered already")
        self.delivered = next_offset
        self._delivered.append(next_offset)

    def acknowledge(self, next_offset: int) -> None:
        """The batch that ends before `next_offset` is done. Unknown and repeated acknowledgements change nothing."""
        if next_offset <= self.committable or next_offset > self.delivered:
            return
        self._acknowledged.add(next_offset)
        while self._delivered and self._delivered[0] in self._acknowledged:
            self.committable = self._delivered.popleft()
            self._acknowledged.discard(self.committable)

    def pending(self) -> int | None:
        """The offset to commit now; None if the broker already has it."""
        return self.committable if self.confirmed is None or self.committable > self.confirmed else None

    def confirm(self, offset: int) -> None:
        """The broker has committed `offset`."""
        if self.confirmed is None or offset > self.confirmed:
            self.confirmed = offset

    @property
    def unacknowledged(self) -> int:
        """Batches that were delivered and are not yet part of the committable prefix."""
        return len(self._delivered)
