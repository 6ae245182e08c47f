"""What a simulated venue's session does."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from mdstream.simulator.listing import Topic
from mdstream.simulator.market import SECOND_NS


class Send(NamedTuple):
    """A text frame. `of`: the topic whose current state it gives a new subscriber; None for an answer."""

    text: str
    of: Topic | None = None


class Ping(NamedTuple):
    payload: bytes


class Subscribe(NamedTuple):
    topic: Topic


class Unsubscribe(NamedTuple):
    topic: Topic


class Close(NamedTuple):
    code: int
    reason: str


Action = Send | Ping | Subscribe | Unsubscribe | Close
"""Actions of a session, in the order given."""

POLICY_VIOLATION = 1008


class Allowance:
    """At most `count` of something in any `per_s` seconds."""

    def __init__(self, count: int, per_s: float) -> None:
        self._window_ns = int(per_s * SECOND_NS)
        self._taken: deque[int] = deque(maxlen=count)

    def take(self, now_ns: int) -> bool:
        """Take one; False if that is one too many (which then does not count)."""
        taken = self._taken
        if len(taken) == taken.maxlen and now_ns - taken[0] < self._window_ns:
            return False
        taken.append(now_ns)
        return True
