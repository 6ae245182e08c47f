"""What waits between NATS and the engine: bounded, with the ingestor's policy (ingest/overflow.py).

From 80% full heartbeats are refused, from 90% quotes and books; at 100% the oldest messages go, trades, statuses and
gaps last. Each drop is counted by kind, and the engine sees a hole in `seq`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mdstream.ingest.overflow import Limits, Overflow
from mdstream.records import HEARTBEAT, STATUS
from mdstream.venues.feed import BOOK, OTHER, QUOTE, TRADE

KINDS: Mapping[str, bytes] = {
    "trade": TRADE,
    "quote": QUOTE,
    "book": BOOK,
    "heartbeat": HEARTBEAT,
    "status": STATUS,
    "gap": STATUS,
}
"""By the token of the subject that names the type. Any other is OTHER: it goes before trades and statuses."""


class Message(NamedTuple):
    """A message of NATS, its subject and its payload."""

    subject: str
    value: bytes
    kind: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.value)


def message(prefix: str, subject: str, value: bytes) -> Message:
    """A message whose kind is told by its subject: PREFIX.TYPE.SYMBOL."""
    kind = subject.removeprefix(f"{prefix}.").partition(".")[0]
    return Message(subject, value, KINDS.get(kind, OTHER))


def queue(limits: Limits | None = None) -> Overflow[Message]:
    """An empty queue. `add` a message; `first` and `remove` to take some; `fill`, `dropped` to tell the engine."""
    return Overflow[Message](limits)
