"""The header of a Kafka record batch, read and stamped in place.

A broker never reads the records themselves, except their keys in a compacted topic. The layout is that of
version 2 (kafka.apache.org/documentation/#recordbatch):

    0 base offset   8 length    12 leader epoch   16 magic   17 crc      21 attributes  23 last offset delta
   27 first time   35 last time 43 producer id    51 epoch   53 sequence 57 count       61 records
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

HEADER_BYTES = 61
_HEADER = struct.Struct(">qiiBIhiqqqhii")
_OFFSET, _ATTRIBUTES, _CRC, _LAST_TIME = struct.Struct(">q"), struct.Struct(">h"), struct.Struct(">I"), 35
_LENGTH_COUNTS_FROM, _MAGIC, _CRC_AT, _CRC_COUNTS_FROM = 12, 2, 17, 21
_APPEND_TIME = 0x08
"""The attribute bit for LogAppendTime: every record has the batch's last time, when the broker took it."""


class Header(NamedTuple):
    """The fields of a batch's header that the broker needs."""

    attributes: int
    last_delta: int
    last_ms: int
    producer_id: int
    epoch: int
    sequence: int
    records: int


def read(batch: bytes) -> Header | None:
    """The header of a valid batch; None unless the bytes are one whole batch of version 2 with a correct checksum."""
    if len(batch) < HEADER_BYTES:
        return None
    _, length, _, magic, crc, attributes, last_delta, _, last_ms, producer_id, epoch, sequence, count = (
        _HEADER.unpack_from(batch)
    )
    if length != len(batch) - _LENGTH_COUNTS_FROM or magic != _MAGIC or last_delta < 0 or count < 1:
        return None
    if calc_crc32c(memoryview(batch)[_CRC_COUNTS_FROM:]) != crc:
        return None
    return Header(attributes, last_delta, last_ms, producer_id, epoch, sequence, count)


def stamp(batch: bytes, offset: int, *, append_ms: int | None) -> bytes:
    """The batch with its offset in the log and, unless `append_ms` is None, its append time."""
    stamped = bytearray(batch)
    _OFFSET.pack_into(stamped, 0, offset)
    if append_ms is not None:
        (attributes,) = _ATTRIBUTES.unpack_from(stamped, _CRC_COUNTS_FROM)
        _ATTRIBUTES.pack_into(stamped, _CRC_COUNTS_FROM, attributes | _APPEND_TIME)
        _OFFSET.pack_into(stamped, _LAST_TIME, append_ms)
        _CRC.pack_into(stamped, _CRC_AT, calc_crc32c(memoryview(stamped)[_CRC_COUNTS_FROM:]))
    return bytes(stamped)


def keys(batch: bytes) -> set[bytes | None]:
    """The keys of a batch's records."""
    return {record.key for record in _records(batch)}


def first_at(batch: bytes, since_ms: int) -> tuple[int, int] | None:
    """Offset and time of the first record at `since_ms` or later; None if there is none."""
    return next(((r.offset, r.timestamp) for r in _records(batch) if r.timestamp >= since_ms), None)


def _records(batch: bytes) -> Iterator[Any]:
    memory = MemoryRecords(batch)
    while memory.has_next():
        yield from memory.next_batch()
