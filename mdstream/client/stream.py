"""The events of a topic as an iterator, plain and asynchronous.

    md.KIND ─ log.read ─> chunks of records ─ _Numbered, _Bars ─> each event once, in its symbol's order

The filter runs in the iterating code, so a hole is raised exactly where it is.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from datetime import date
from typing import Any, Generic, SupportsIndex, TypeAlias, TypeVar

import msgspec
from aiokafka import ConsumerRecord

from mdstream.client import log
from mdstream.client.background import iterate
from mdstream.client.kinds import KINDS, checked_interval, checked_symbol
from mdstream.client.numbers import Hole, Numbers, Revisions
from mdstream.client.start import Start, start_of
from mdstream.config import Settings, load
from mdstream.errors import HoleError, RecordError, SettingsError
from topics import Topics

# In a program without logging, Python prints warnings, and aiokafka's never end while a broker is away.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())

E = TypeVar("E")
Record: TypeAlias = ConsumerRecord[bytes, bytes]

OnHole = Callable[[Hole], object]


class _Head(msgspec.Struct):
    type: str


class Stream(Generic[E]):
    """Events of a kind, for `for` and `async for`. Each iteration is a reader of its own, from the start."""

    def __init__(
        self,
        kind: str,
        symbols: tuple[str, ...],
        *,
        start: str | date | SupportsIndex | Start,
        follow: bool,
        on_hole: OnHole | None = None,
        interval: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if kind == "bars" and isinstance(start, SupportsIndex):
            raise SettingsError(f"start={start}: bars have no seq, give a time")
        self._kind, self._symbols = kind, tuple(map(checked_symbol, symbols))
        self._start, self._follow = start_of(start, self._symbols), follow
        self._on_hole, self._interval = on_hole, checked_interval(interval)
        self._settings = load() if settings is None else settings

    def __iter__(self) -> Iterator[E]:
        events = self._filter()
        chunks = iterate(self._chunks())
        try:
            for records in chunks:
                yield from events(records)
        finally:
            chunks.close()

    async def __aiter__(self) -> AsyncGenerator[E, None]:
        events = self._filter()
        chunks = self._chunks()
        try:
            async for records in chunks:
                for event in events(records):
                    yield event
        finally:
            await chunks.aclose()

    async def records(self, places: dict[int, int] | None = None) -> AsyncGenerator[Iterator[tuple[Record, E]], None]:
        """Chunks of the events with their records; `places`, and when a chunk is empty: as in `log.read`.

        `on_hole` is called while a chunk is iterated, just before the event behind the hole.
        """
        events = self._filter()
        async with aclosing(self._chunks(places)) as chunks:
            async for records in chunks:
                yield ((record, event) for record in records for event in events((record,)))

    def _chunks(self, places: dict[int, int] | None = None) -> AsyncGenerator[list[Record], None]:
        topic = getattr(Topics(self._settings), self._kind).name
        keys = frozenset(symbol.encode() for symbol in self._symbols)
        brokers = self._settings.bootstrap_servers
        return log.read(brokers, topic, self._start, keys=keys, follow=self._follow, places=places)

    def _filter(self) -> Callable[[Iterable[Record]], Iterator[E]]:
        decode = _decoder(self._kind)
        if self._kind == "bars":
            return _Bars(decode, self._interval).new
        had = {} if self._start.seq is None else {self._symbols[0]: self._start.seq - 1}
        return _Numbered(decode, Numbers(had), self._on_hole or self._raise).new

    def _raise(self, hole: Hole) -> None:
        raise HoleError(self._kind, *hole)


class _Numbered:
    """Drops repeats by `seq`, and reports holes before the event that follows them."""

    def __init__(self, decode: Callable[[Record], Any], numbers: Numbers, on_hole: OnHole):
        self._decode, self._numbers, self._on_hole = decode, numbers, on_hole

    def new(self, records: Iterable[Record]) -> Iterator[Any]:
        for event in filter(None, map(self._decode, records)):
            missing = self._numbers.missing_before(event.symbol, event.seq)
            if missing:
                self._on_hole(Hole(event.symbol, event.seq - missing, event.seq - 1))
            if missing is not None:
                yield event


class _Bars:
    """Drops bars of other intervals, and revisions that are not above the last one."""

    def __init__(self, decode: Callable[[Record], Any], interval: str | None) -> None:
        self._decode, self._interval, self._revisions = decode, interval, Revisions()

    def new(self, records: Iterable[Record]) -> Iterator[Any]:
        for bar in filter(None, map(self._decode, records)):
            wanted = self._interval is None or bar.interval == self._interval
            if wanted and self._revisions.is_new(bar.symbol, bar.interval, bar.ts_open, bar.revision):
                yield bar


def _decoder(kind: str) -> Callable[[Record], Any]:
    """Reads a record as its event; as None if it has no value, or is of a type that may be added one day.

    Raises RecordError for anything else.
    """
    of_kind, decode, head = KINDS[kind], msgspec.json.Decoder(KINDS[kind]).decode, msgspec.json.Decoder(_Head).decode
    tag = of_kind.__struct_config__.tag

    def read(record: Record) -> Any:
        if record.value is None:
            return None
        try:
            return decode(record.value)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            reason = str(error)
        try:
            if head(record.value).type != tag:
                return None
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass  # not even that: the first failure says why
        raise RecordError(record.topic, record.partition, record.offset, reason)

    return read
