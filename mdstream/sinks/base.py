"""The Sink protocol: stores events in groups, idempotently, and never drops one.

    Batch ─ decode ─> Chunk ─ Sink.write ─> durable ─> acknowledge        (mdstream/sinks/loop.py)
                └ not an event ─> Refusal ─> md.dead

A new sink is a class with the members of `Sink`. Its `write` may be called again with events that it has already stored
(after a crash or a rebalance); that must change nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from mdstream import events
from mdstream.errors import SinkError
from mdstream.records import Partition, Record

Decoder = Callable[[bytes], Any]
"""Decodes a record's value into an event. Raises one of _NO_EVENT."""


def from_os(sink: str, place: object, error: OSError) -> SinkError:
    """An error of the operating system as a SinkError: a full disk is retriable, a wrong path is not."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return SinkError(sink, place, reason)
    refused = f"{error.filename}: {reason}" if error.filename else reason
    return SinkError(sink, place, f"{refused} (check MDSTREAM_DATA_DIR)", retriable=False)


class Chunk(NamedTuple):
    """Consecutive records of one partition, in order, each with its value as the role decodes it: events, or heads."""

    partition: Partition
    records: Sequence[Record]
    events: Sequence[Any]


class Refusal(NamedTuple):
    """A record that can never be stored, and why: it goes to md.dead."""

    partition: Partition
    record: Record
    reason: str


class Sink(Protocol):
    """Stores events. All methods are called from one task, one at a time."""

    @property
    def name(self) -> str:
        """Short and lower case: it appears in log lines and metrics."""

    async def open(self) -> None:
        """Get ready. Raises SinkError, not retriable if the settings are wrong."""

    async def write(self, chunks: Sequence[Chunk]) -> Sequence[Refusal]:
        """Store all events; on return they survive a crash of this process and of the machine. Returns what can never
        be stored; the rest is stored.

        Raises SinkError if nothing can be stored now: the same chunks come again later, and the sink reopens what it
        needs.
        """

    async def close(self) -> None:
        """Release everything, also after a failed `open`."""

    def metrics(self) -> dict[str, float]:
        """Values by metric name, without the sink's name; a counter's name ends in _total."""


def decode(
    partition: Partition, records: Sequence[Record], event_of: Decoder = events.decode
) -> tuple[Chunk, list[Refusal]]:
    """The records with their events, and the records without one."""
    try:
        return Chunk(partition, records, [event_of(record.value or b"") for record in records]), []
    except _NO_EVENT:
        return _decode_each(partition, records, event_of)


# msgspec raises other errors for text that is not UTF-8 and for values nested too deeply.
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
