"""A group of records sorted for NATS: numbered events in order, the others by subject, and what is refused. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mdstream.records import Partition, Record
from mdstream.sinks.base import Chunk, Refusal
from mdstream.sinks.nats_protocol import Numbered, Place
from mdstream.sinks.subjects import UNNUMBERED, Unnumbered, identity_of, tail_of

MAX_TAIL = 1_024
"""A server closes the connection on a line of more than 4,096 bytes. No real symbol is that long."""
MAX_ID = 4_096
MAX_HEADERS_BYTES = MAX_ID + MAX_TAIL + 512
"""Our headers at most: an id, a number, a place, a batch's three."""
MAX_SUBJECTS = 100_000


class Other(NamedTuple):
    """An event without a number. `message_id` is the same for every repeat."""

    message_id: str
    place: Place
    value: bytes


@dataclass
class Work:
    """`others` by tail, in their order."""

    numbered: list[Numbered] = field(default_factory=list)
    others: defaultdict[str, list[Other]] = field(default_factory=lambda: defaultdict(list))
    refused: list[Refusal] = field(default_factory=list)


class Commands(NamedTuple):
    """Protocol commands, the number of messages that they publish, and what is refused."""

    text: bytes
    messages: int
    refused: list[Refusal]


class Tails(dict[tuple[type[Any], str], str]):
    """`before`, tail, `after` by type and symbol: computed once, as that costs ten times as much as a look-up."""

    def __init__(self, before: str = "", after: str = "") -> None:
        super().__init__()
        self._before, self._after = before, after
        self.most = MAX_TAIL + len(before) + len(after)

    def __missing__(self, key: tuple[type[Any], str]) -> str:
        if len(self) >= MAX_SUBJECTS:  # symbols come from the network: bounded
            self.clear()
        text = self[key] = f"{self._before}{tail_of(*key)}{self._after}"
        return text


def work_of(chunks: Iterable[Chunk], tails: Tails, *, max_bytes: int) -> Work:
    """The chunks' events sorted by how they are stored; a message has at most `max_bytes` of headers and payload."""
    work, room = Work(), max_bytes - MAX_HEADERS_BYTES
    for partition, records, events in chunks:
        for record, event in zip(records, events, strict=True):
            tail, value = tails[type(event), event.symbol], record.value or b""
            if len(tail) > tails.most or len(value) > room:
                work.refused.append(_too_long(partition, record, room))
            elif type(event) in UNNUMBERED:
                _add_other(work, tail, event, partition, record)
            else:
                work.numbered.append(Numbered(tail, event.seq, value))
    return work


def commands_of(chunk: Chunk, heads: Tails, *, max_bytes: int) -> Commands:
    """The chunk's events as commands that publish them to live subscribers, in order; at most `max_bytes` of payload.

    `heads` are the beginnings of the commands: `PUB <prefix>.<tail> `.
    """
    partition, records, events = chunk
    parts: list[bytes] = []
    refused: list[Refusal] = []
    for record, event in zip(records, events, strict=True):
        head, value = heads[type(event), event.symbol], record.value or b""
        if len(head) > heads.most or len(value) > max_bytes:
            refused.append(_too_long(partition, record, max_bytes))
        else:
            parts += (f"{head}{len(value)}\r\n".encode(), value, b"\r\n")
    return Commands(b"".join(parts), len(parts) // 3, refused)


def _too_long(partition: Partition, record: Record, room: int) -> Refusal:
    size = len(record.value or b"")
    if size > room:
        return Refusal(partition, record, f"{size:,} bytes are more than NATS takes ({room:,})")
    return Refusal(partition, record, "its symbol is too long for a NATS subject")


def _add_other(work: Work, tail: str, event: Unnumbered, partition: Partition, record: Record) -> None:
    value = record.value or b""
    message_id = f"{tail}.{identity_of(event, value)}"
    if len(message_id) > MAX_ID:
        work.refused.append(Refusal(partition, record, "its provider or interval is too long for a NATS message id"))
    else:
        place = Place(partition.number, record.offset, record.timestamp)
        work.others[tail].append(Other(message_id, place, value))
