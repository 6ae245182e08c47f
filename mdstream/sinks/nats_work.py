"""What a group of records comes to on NATS: numbered events in their order, the others by subject, and what cannot go.
Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from mdstream.events import Event
from mdstream.sinks.base import Chunk, Refusal
from mdstream.sinks.nats_protocol import Numbered, Place
from mdstream.sinks.subjects import NUMBERED, Unnumbered, identity_of, tail_of
from mdstream.transport.batch import Partition, Record

MOST_TAIL = 1_024
"""A server ends the connection on a line of more than 4,096 bytes. A symbol that long is none."""
MOST_ID = 4_096
MOST_HEADERS_BYTES = MOST_ID + MOST_TAIL + 512
"""Our headers at most: an id, a number, a place, a batch's three."""
MOST_SUBJECTS = 100_000


class Other(NamedTuple):
    """An event without a number. `message_id` is the same whenever it comes again."""

    message_id: str
    place: Place
    value: bytes


@dataclass
class Work:
    """`others` by tail, in their order."""

    numbered: list[Numbered] = field(default_factory=list)
    others: defaultdict[str, list[Other]] = field(default_factory=lambda: defaultdict(list))
    refused: list[Refusal] = field(default_factory=list)


@dataclass
class Commands:
    """`slices`: protocol commands, those of a chunk each; `count` messages in all."""

    slices: list[bytes] = field(default_factory=list)
    count: int = 0
    refused: list[Refusal] = field(default_factory=list)


class Tails:
    """`tail_of`, remembered: it costs ten times as much as a look-up."""

    def __init__(self) -> None:
        self._known: dict[tuple[type[Event], str], str] = {}

    def __call__(self, event: Event) -> str:
        key = (type(event), event.symbol)
        tail = self._known.get(key)
        if tail is None:
            if len(self._known) >= MOST_SUBJECTS:  # symbols come from the wire: bounded all the same
                self._known.clear()
            tail = self._known[key] = tail_of(event)
        return tail


def work_of(chunks: Iterable[Chunk], tails: Tails, *, most_bytes: int) -> Work:
    """The chunks' events sorted by how they are stored; a message takes `most_bytes` of headers and payload."""
    work, room = Work(), most_bytes - MOST_HEADERS_BYTES
    for partition, records, events in chunks:
        for record, event in zip(records, events, strict=True):
            tail, value = tails(event), record.value or b""
            if len(tail) > MOST_TAIL or len(value) > room:
                work.refused.append(_too_long(partition, record, tail, room))
            elif isinstance(event, NUMBERED):
                work.numbered.append(Numbered(tail, event.seq, value))
            else:
                _add_other(work, tail, event, partition, record)
    return work


def commands_of(chunks: Iterable[Chunk], tails: Tails, *, prefix: str, most_bytes: int) -> Commands:
    """The chunks' events as commands that publish them to whoever listens, in their order; `most_bytes` of payload."""
    commands = Commands()
    for partition, records, events in chunks:
        parts: list[bytes] = []
        for record, event in zip(records, events, strict=True):
            tail, value = tails(event), record.value or b""
            if len(tail) > MOST_TAIL or len(value) > most_bytes:
                commands.refused.append(_too_long(partition, record, tail, most_bytes))
            else:
                parts += (f"PUB {prefix}.{tail} {len(value)}\r\n".encode(), value, b"\r\n")
        commands.slices.append(b"".join(parts))
        commands.count += len(parts) // 3
    return commands


def _too_long(partition: Partition, record: Record, tail: str, room: int) -> Refusal:
    if len(tail) > MOST_TAIL:
        return Refusal(partition, record, "its symbol is too long for a NATS subject")
    return Refusal(partition, record, f"{len(record.value or b''):,} bytes are more than NATS takes ({room:,})")


def _add_other(work: Work, tail: str, event: Unnumbered, partition: Partition, record: Record) -> None:
    value = record.value or b""
    message_id = f"{tail}.{identity_of(event, value)}"
    if len(message_id) > MOST_ID:
        work.refused.append(Refusal(partition, record, "its provider or interval is too long for a NATS message id"))
    else:
        place = Place(partition.number, record.offset, record.timestamp)
        work.others[tail].append(Other(message_id, place, value))
