"""The bytes sent to a NATS server, and what the headers of its stored messages say. Pure.

    HPUB <subject> [reply] <header bytes> <total bytes>\\r\\n NATS/1.0\\r\\n <headers> \\r\\n <payload>\\r\\n

Sources: https://docs.nats.io/reference/reference-protocols/nats-protocol; batches: ADR-50 of
https://github.com/nats-io/nats-architecture-and-design (both read 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

MESSAGE_ID, SEQ, PLACE = "Nats-Msg-Id", "Mdstream-Seq", "Mdstream-Place"


class Numbered(NamedTuple):
    """An event that has a `seq`. `tail` is its subject without the prefix, `value` its record's value."""

    tail: str
    seq: int
    value: bytes


class Place(NamedTuple):
    """A record's position in its topic; `timestamp` (ms) distinguishes a topic from a recreated one."""

    partition: int
    offset: int
    timestamp: int

    def is_within(self, last: Place | None) -> bool:
        """Whether a writer that has stored up to `last` has stored this record too; False for another partition."""
        if last is None or self.partition != last.partition:
            return False
        return self.offset <= last.offset and self.timestamp <= last.timestamp

    def __str__(self) -> str:
        return f"{self.partition} {self.offset} {self.timestamp}"


_PLACE = re.compile(rf"^{PLACE}: (-?\d+) (-?\d+) (-?\d+)\r$".encode(), re.MULTILINE)


def place_in(headers: bytes) -> Place | None:
    """The place that a stored message's headers name, or None."""
    found = _PLACE.search(headers)
    return None if found is None else Place(*map(int, found.groups()))


def batch(
    messages: Sequence[tuple[str, int | None, bytes]],
    *,
    prefix: str,
    batch_id: str,
    reply: str,
    expected: Mapping[str, int],
    only_last: str = "",
) -> bytes:
    """Commands that store all of the messages in a stream, or none: tail, number if it has one, and value of each.

    `expected` is the stream's number of each subject's last message, 0 if there is none: if it is another one when the
    batch arrives, nothing is stored. Errors and the acknowledgement go to `reply`. `only_last`: a tail of
    which the stream keeps the last message alone.
    """
    parts: list[bytes] = []
    unchecked, last = dict(expected), len(messages)
    for number, (tail, seq, value) in enumerate(messages, 1):
        head = f"NATS/1.0\r\nNats-Batch-Id: {batch_id}\r\nNats-Batch-Sequence: {number}\r\n"
        if seq is not None:
            head += f"{MESSAGE_ID}: {tail}.{seq}\r\n{SEQ}: {seq}\r\n"
        if tail == only_last:
            head += "Nats-Rollup: sub\r\n"
        if tail in unchecked:  # only a subject's first message of a batch may carry it
            head += f"Nats-Expected-Last-Subject-Sequence: {unchecked.pop(tail)}\r\n"
        if number == last:
            head += "Nats-Batch-Commit: 1\r\n"
        head += "\r\n"
        answer = f" {reply}" if number in (1, last) else ""
        parts += (
            f"HPUB {prefix}.{tail}{answer} {len(head)} {len(head) + len(value)}\r\n{head}".encode(),
            value,
            b"\r\n",
        )
    return b"".join(parts)


def windows(messages: Iterable[Numbered], *, max_messages: int, max_bytes: int) -> Iterator[list[Numbered]]:
    """The messages in order, in lists within both limits; `max_bytes` of payload, though one message may be larger."""
    window: list[Numbered] = []
    size = 0
    for message in messages:
        length = len(message.value)
        if window and (len(window) == max_messages or size + length > max_bytes):
            yield window
            window, size = [], 0
        window.append(message)
        size += length
    if window:
        yield window


def covers(patterns: Iterable[str], prefix: str) -> bool:
    """Whether one of a stream's subjects covers all of ours: the prefix and two more tokens."""
    wanted = [*prefix.split("."), "*", "*"]

    def one(pattern: str) -> bool:
        tokens = pattern.split(".")
        if tokens[-1] == ">":
            tokens = tokens[:-1] + ["*"] * max(len(wanted) - len(tokens) + 1, 1)
        return len(tokens) == len(wanted) and all(map(_takes, tokens, wanted))

    return any(map(one, patterns))


def _takes(token: str, wanted: str) -> bool:
    return token in ("*", wanted)
