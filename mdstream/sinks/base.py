"""What a sink is: a place where events are kept, written in groups, idempotent, never dropping.

    Batch ─ decode ─> Chunk ─ Sink.write ─> durable ─> acknowledge        (mdstream/sinks/loop.py)
                └ no event of ours ─> Refusal ─> md.dead

A new sink is a class with the members of `Sink`. Its `write` may be called again with what it has stored already (after
a crash or a rebalance), and that must change nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from mdstream import events
from mdstream.errors import SinkError
from mdstream.transport.batch import Partition, Record

Decoder = Callable[[bytes], Any]
"""Makes an event of a record's value. Raises one of _NO_EVENT."""


def from_os(sink: str, place: object, error: OSError) -> SinkError:
    """What the operating system refused, as a SinkError: a full disk passes, a wrong path does not."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return SinkError(sink, place, reason)
    refused = f"{error.filename}: {reason}" if error.filename else reason
    return SinkError(sink, place, f"{refused} (check MDSTREAM_DATA_DIR)", retriable=False)


class Chunk(NamedTuple):
    """Consecutive records of one partition, in order, with what the role's decoder makes of each: events, or heads."""

    partition: Partition
    records: Sequence[Record]
    events: Sequence[Any]


class Refusal(NamedTuple):
    """A record that can never be stored, and why: it goes to md.dead."""

    partition: Partition
    record: Record
    reason: str


class Sink(Protocol):
    """Where events are kept. All methods are called from one task, one at a time."""

    @property
    def name(self) -> str:
        """Short and lower case: it stands in log lines and metrics."""

    async def open(self) -> None:
        """Get ready. Raises SinkError, not retriable where the settings are wrong."""

    async def write(self, chunks: Sequence[Chunk]) -> Sequence[Refusal]:
        """Store all events; on return they survive the death of this process and of the machine. What can never be
        stored comes back, its neighbours are stored.

        Raises SinkError where nothing can be stored now: the same chunks come again later, and the sink opens anew what
        it needs.
        """

    async def close(self) -> None:
        """Let go of everything, also after a failed `open`."""

    def metrics(self) -> dict[str, float]:
        """Numbers by name, without the sink's; a counter's name ends in _total."""


def decode(
    partition: Partition, records: Sequence[Record], event_of: Decoder = events.decode
) -> tuple[Chunk, list[Refusal]]:
    """The records with their events, and those that hold none."""
    try:
        return Chunk(partition, records, [event_of(record.value or b"") for record in records]), []
    except _NO_EVENT:
        return _decode_each(partition, records, event_of)


# A text that is not UTF-8 and a value nested too deeply have errors of their own in msgspec.
_NO_EVENT = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def _decode_each(partition: Partition, records: Sequence[Record], event_of: Decoder) -> tuple[Chunk, list[Refusal]]:
    good: list[Record] = []
    decoded: list[Any] = []
    refused: list[Refusal] = []
    for record in records:
        if not record.value:
            refused.append(Refusal(partition, record, "no value"))
            continue
        try:
            event = event_of(record.value)
        except _NO_EVENT as error:
            refused.append(Refusal(partition, record, f"not an event: {error}"))
        else:
            good.append(record)
            decoded.append(event)
    return Chunk(partition, good, decoded), refused
