"""One batched partition while it is ours: its offsets, and which chunks may be delivered. Pure: no I/O."""

from __future__ import annotations

from enum import Enum, auto

from mdstream.transport.offsets import Offsets


class Course(Enum):
    """What to do with a chunk."""

    DELIVER = auto()
    READ_AGAIN = auto()
    CHECK_BOUNDS = auto()
    """Read again, and ask whether the log still holds the offset."""


class Assigned:
    """One batched partition while it is ours."""

    __slots__ = ("_elsewhere", "_skipped", "offsets", "open", "waiting")

    def __init__(self, start: int, confirmed: int | None) -> None:
        self.offsets = Offsets(start, confirmed=confirmed)
        self.open = True
        self.waiting = False  # a batch is in the agent's queue: no second one is added
        self._skipped: int | None = None  # the offset at which the broker last skipped some
        self._elsewhere: int | None = None  # the offset expected when a chunk last came from another one

    def course(self, requested: int, first: int) -> Course:
        """What to do with a chunk that begins at `first`, of a fetch from `requested`.

        A hole is accepted if the broker skips it twice when asked for just that offset. A chunk from elsewhere (the
        position moved while it was under way, or an earlier chunk was dropped) proves nothing, however often one comes.
        """
        expected = self.offsets.delivered
        if requested == first == expected:
            return Course.DELIVER
        if requested != expected:
            again, self._elsewhere = self._elsewhere == expected, expected
            return Course.CHECK_BOUNDS if again else Course.READ_AGAIN
        again, self._skipped = self._skipped == expected, expected
        return Course.DELIVER if again else Course.READ_AGAIN

    def forget_hole(self) -> None:
        """A chunk was dropped: the broker may not have skipped anything."""
        self._skipped = None
