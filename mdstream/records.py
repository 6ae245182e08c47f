"""Kafka records: their shape, and the format of a raw record on `md.raw.MARKET`.

A raw record holds a frame as it came. Its key is the instrument, or the provider for what concerns no instrument; its
timestamp is the receive time in ms. Its headers, which RawEncoder writes and `decode_raw` reads:

    p     the provider's name
    t     when the frame was received: ns since 1970, 8 bytes big-endian
    k     its kind: that of the provider's `route` (venues/feed.py), or HEARTBEAT, STATUS, REPAIR
    via   how it came: ws (a live feed), spool (the same, after Kafka was away), rest (repair, backfill),
          hook (a webhook), replay
    c     a live feed's connection: when it was opened, in the format of `t`. Some venues count per connection
    f     the number of the frame in its connection, 8 bytes big-endian, if the record is only a part of it: a frame
          about several instruments becomes a record for each
    v     what a contract was worth when the frame came, in units of base, as decimal text: for a frame whose sizes are
          in contracts. With it the key is the canonical symbol; without it the key is the venue's own name, and its
          sizes stay in contracts (docs/decisions/0056)

A leaf like mdstream.events: values only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from mdstream.errors import FrameError

HEARTBEAT, STATUS, REPAIR = b"heartbeat", b"status", b"repair"
OURS = frozenset({HEARTBEAT, STATUS, REPAIR})
"""Kinds of raw records that no venue sent: ingestors and the repair write them."""

WS, REST, HOOK, REPLAY, SPOOL = b"ws", b"rest", b"hook", b"replay", b"spool"

LAST_NS = 9_000_000_000_000_000_000
"""Times are before the year 2255, so that a `seq`, which starts at a time in us, stays below 2**53."""

MS = 1_000_000

_int64 = struct.Struct(">q")
_pack = _int64.pack

Headers = list[tuple[str, bytes]]
ProducerRecord = tuple[bytes | None, bytes | None, int, Headers]
"""A record to be written: key, value, timestamp in ms, headers."""


class Partition(NamedTuple):
    """A topic's partition."""

    topic: str
    number: int


class Record(Protocol):
    """A record as received: `timestamp` in ms, `headers` in order."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class RawEncoder:
    """Makes the raw records of one provider that came one way; those of a live feed by the connection opened at
    `opened_ns`."""

    __slots__ = ("_p", "_rest")

    def __init__(self, provider: str, via: bytes, opened_ns: int | None = None) -> None:
        self._p, way = ("p", provider.encode()), ("via", via)
        self._rest = (way,) if opened_ns is None else (way, ("c", _pack(opened_ns)))

    def encode(self, key: bytes, frame: bytes, kind: bytes, received_ns: int) -> ProducerRecord:
        """The record of a frame received at `received_ns`."""
        return key, frame, received_ns // MS, [self._p, ("t", _pack(received_ns)), ("k", kind), *self._rest]

    def encode_contracts(
        self, key: bytes, frame: bytes, kind: bytes, received_ns: int, contract_size: bytes
    ) -> ProducerRecord:
        """The record of a frame in contracts that are each worth so much."""
        record = self.encode(key, frame, kind, received_ns)
        record[3].append(("v", contract_size))
        return record

    def encode_part(self, key: bytes, part: bytes, kind: bytes, received_ns: int, number: int) -> ProducerRecord:
        """The record of a part of the connection's frame `number`."""
        record = self.encode(key, part, kind, received_ns)
        record[3].append(("f", _pack(number)))
        return record


def decode_raw(record: Record) -> tuple[bytes, int, bytes]:
    """Provider, receive time in ns and kind of a raw record. Raises FrameError for an invalid time.

    `seq` starts at a receive time: a wrong one would corrupt `seq` and the checkpoint for good.
    """
    headers = record.headers
    if len(headers) >= 4:
        (n0, provider), (n1, received), (n2, kind) = headers[:3]
        if not (n0 == "p" and n1 == "t" and n2 == "k"):  # the order in which RawEncoder writes them
            provider, received, kind = _find_headers(record)
    else:
        provider, received, kind = _find_headers(record)
    try:
        (received_ns,) = _int64.unpack(received)
    except (struct.error, TypeError):
        raise FrameError(f"no receive time in ns: header t is {received!r:.60}") from None
    if not 0 <= received_ns < LAST_NS:
        raise FrameError(f"no receive time in ns: {received_ns}")
    return provider or b"", received_ns, kind or b""  # a header's value may be null


def connection_of(record: Record) -> bytes:
    """The connection that a raw record came by, as its header `c` has it; empty for a record without."""
    headers = record.headers
    return headers[4][1] if len(headers) > 4 and headers[4][0] == "c" else b""


def contract_size_of(record: Record) -> bytes:
    """What a contract was worth, as the header `v` of a raw record has it; empty for a record without."""
    for name, value in record.headers:
        if name == "v":
            return value or b""  # a header's value may be null
    return b""


def _find_headers(record: Record) -> tuple[bytes, bytes, bytes]:
    """Provider, time and kind in any order; without a time, the record's timestamp."""
    found = dict(record.headers)
    received = found["t"] if "t" in found else _pack(max(-1, min(record.timestamp * MS, LAST_NS)))
    return found.get("p", b""), received, found.get("k", b"")


def receive_ns(record: Record) -> int:
    """When the frame was received, for ordering: the record's timestamp if the header is missing or invalid."""
    try:
        return decode_raw(record)[1]
    except FrameError:
        return record.timestamp * MS
