"""Where a reader begins: now, at the oldest record, at a time, or at a number of one instrument."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from operator import index
from typing import NamedTuple, SupportsIndex

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from mdstream import kafka
from mdstream.errors import SettingsError
from mdstream.kafka import logs
from mdstream.timestamps import timestamp_ns

MS = 1_000_000
LATEST, EARLIEST = "latest", "earliest"
MAX_SEQ = 1 << 53
"""Numbers are below this; times in nanoseconds are above."""
NEAR = 5_000
"""So many records are read faster than they are searched."""


class _Numbered(msgspec.Struct):
    seq: int


_decode = msgspec.json.Decoder(_Numbered).decode


class Start(NamedTuple):
    """`at`: LATEST, EARLIEST, or a time of writing in ms since 1970. In place of it `seq`, of the one symbol, or
    `places`: the offset of each partition that is read."""

    at: str | int = LATEST
    seq: int | None = None
    places: Mapping[int, int] | None = None


def start_of(given: str | date | SupportsIndex | Start, symbols: tuple[str, ...] = ()) -> Start:
    """What a caller gives as the start: `latest`, `earliest`, a time, an age like 15m, or as an integer a `seq`.

    Raises SettingsError if it is none of them, or a `seq` of anything but one symbol.
    """
    if isinstance(given, Start):
        return given
    if isinstance(given, SupportsIndex):  # numpy's integers, too: a `seq` may come from a frame
        given = index(given)
        if not 0 <= given < MAX_SEQ:
            raise SettingsError(f"start={given} is no seq, which is below 2^53: give a time as a datetime or as text")
        if len(symbols) != 1:
            raise SettingsError(f"start={given} is the seq of one symbol, and there are {len(symbols) or 'all'}")
        return Start(seq=given)
    if given in (LATEST, EARLIEST):
        return Start(str(given))
    at_ns = time_ns(given)
    if at_ns > time.time_ns():  # a broker would begin at its end, which is before
        raise SettingsError(f"start={given} is in the future: a time without a zone is UTC")
    return Start(at_ns // MS)


def time_ns(given: str | date) -> int:
    """A time, or an age that counts back from now, in ns since 1970. Raises SettingsError for anything else."""
    return timestamp_ns(given.isoformat() if isinstance(given, date) else str(given), now_s=time.time())


async def seek(consumer: AIOKafkaConsumer, partitions: list[TopicPartition], start: Start, key: bytes | None) -> None:
    """Go to where the start says. To a `seq` of the instrument `key`: to its record, or one before it.

    Raises SettingsError for places of other partitions, or that the log no longer has.
    """
    if start.seq is not None and key is not None:
        await _seek_number(consumer, partitions[0], key, start.seq)
    elif start.places is not None:
        await _seek_places(consumer, partitions, start.places)
    elif start.at == LATEST:
        await consumer.seek_to_end(*partitions)
    elif start.at == EARLIEST:
        await consumer.seek_to_beginning(*partitions)
    else:
        await logs.seek_to_time(consumer, partitions, int(start.at))


async def _seek_places(consumer: AIOKafkaConsumer, partitions: list[TopicPartition], places: Mapping[int, int]) -> None:
    if {tp.partition for tp in partitions} != places.keys():
        raise SettingsError("the place to go on at is that of other symbols, or of another number of partitions")
    ends = await consumer.end_offsets(partitions)
    for tp, first in (await consumer.beginning_offsets(partitions)).items():
        # Beyond its end, in a log that began anew, a reader would be sent all of it.
        if not first <= places[tp.partition] <= ends[tp]:
            raise SettingsError("the place to go on at is not in the log: begin at a time, or with the latest")
        consumer.seek(tp, places[tp.partition])


async def _seek_number(consumer: AIOKafkaConsumer, tp: TopicPartition, key: bytes, seq: int) -> None:
    """Bisect the log: an instrument's numbers rise with the offset, but for repeats.

    From `low` on the numbers begin below `seq`, so it is still to come; any such offset is right.
    """
    low = (await consumer.beginning_offsets([tp]))[tp]
    high = (await consumer.end_offsets([tp]))[tp]
    while high - low > NEAR:
        middle = (low + high) // 2
        found = await _number_from(consumer, tp, key, middle, high)
        if found is not None and found < seq:
            low = middle
        else:
            high = middle
    consumer.seek(tp, low)


async def _number_from(
    consumer: AIOKafkaConsumer, tp: TopicPartition, key: bytes, first: int, following: int
) -> int | None:
    """The first number of an instrument at the offsets [first, following); None if there is none."""
    consumer.seek(tp, first)
    async for records in kafka.read_to_end(consumer, [tp]):
        for record in records:
            if record.key == key:
                with suppress(msgspec.MsgspecError, UnicodeError):  # the reader names such a record
                    return _decode(record.value or b"").seq
        if records[-1].offset >= following - 1:
            break
    return None
