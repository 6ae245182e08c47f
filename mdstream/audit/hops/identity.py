"""The audit of numbered events other than trades: quotes and books by their `seq`, bars by their revision and trades.

    md.bars ─ first of all ─> Published ─┐
    md.trades ─ with its hop ────────────┴─> BarAudit ─> faults
    md.quotes, md.books ─> Numbering ─ if numbers came again, a second pass ─> Contents ─> faults

A `seq` must always be one event, a revision one bar, and the last revision the bar that its trades make.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec

from mdstream.audit.bars import BarAudit
from mdstream.audit.hops.logs import records
from mdstream.audit.numbering import Contents, Hole, Numbering
from mdstream.audit.trades import MINUTE_NS, AuditTrade, Place, Scope
from mdstream.bars.rules import SECOND_NS, Rules
from mdstream.cli.progress import Progress
from mdstream.config import Settings
from mdstream.events import Bar
from topics import Topics

MAX_FAULTS = 1_000
"""Faults kept by name, for each topic and kind; all are counted."""


class Fault(NamedTuple):
    """One fault of a number or bar. `what` is `seq N`, or a bar; `places` on the topic."""

    kind: str
    topic: str
    symbol: str
    what: str
    expected: str
    found: str
    places: tuple[Place, ...]


class TopicFacts(NamedTuple):
    """The findings about one topic; None for what is not checked there. `judged`: bars compared with their trades."""

    name: str
    events: int
    repeats: int
    rewritten: int
    holes: int | None = None
    doubled: int | None = None
    judged: int | None = None
    missing: int | None = None
    different: int | None = None


class _Numbered(msgspec.Struct, gc=False):
    symbol: str
    seq: int
    ts_exchange: int | None
    ts_recv: int


class NumberAudit:
    """Quotes, books and bars of a deployment. `read_bars`, then every trade of md.trades, then `finish`."""

    def __init__(self, settings: Settings, scope: Scope) -> None:
        self._settings, self._scope, self._topics = settings, scope, Topics(settings)
        bars, lateness_ns = settings.bars.intervals, int(settings.bars.lateness_s * SECOND_NS)
        self._bars = BarAudit(Rules(bars, lateness_ns=lateness_ns), scope) if bars else None
        self._partitions: set[int] = set()
        self._counts: Counter[tuple[str, str]] = Counter()
        self.faults: list[Fault] = []
        self.topics: list[TopicFacts] = []
        self.notes: list[str] = []

    async def read_bars(self) -> None:
        """Read md.bars to its present end."""
        if self._bars is None:
            return
        name, unread, decode = self._topics.bars.name, 0, msgspec.json.Decoder(Bar).decode
        with Progress(f"audit {name}", "records") as progress:
            async for record in records(self._settings, name, self._scope, progress):
                try:
                    bar = decode(record.value or b"")
                except (msgspec.MsgspecError, UnicodeError):
                    unread += 1
                    continue
                kept = self._bars.past if bar.backfilled else self._bars.published
                kept.add(bar, Place(record.partition, record.offset))
        self._note(name, unread, "records that are no bar")
        self._note(name, self._bars.published.of_other_intervals, "bars of no interval of MDSTREAM_BARS")

    def trade(self, trade: AuditTrade, seq: int, place: Place) -> None:
        """Take in a record of md.trades."""
        if self._bars is not None:
            is_first = place.partition not in self._partitions
            self._partitions.add(place.partition)
            self._bars.trade(trade, seq, place.partition, begins_cut=is_first and place.offset > 0)

    async def finish(self) -> None:
        """Called after all trades: read the rest, and fill `faults`."""
        for topic in (self._topics.quotes, self._topics.books):
            await self._read_numbers(topic.name)
        if self._bars is not None:
            self._finish_bars(self._bars)

    def _finish_bars(self, bars: BarAudit) -> None:
        name = self._topics.bars.name
        for kind, symbol, interval, ts_open, revision, expected, found, places in bars.differences():
            what = f"{interval} {ts_open}" + ("" if revision is None else f" revision {revision}")
            self._add_fault(Fault(kind, name, symbol, what, expected, found, places))
        rewritten, missing, different = (self._counts[name, kind] for kind in ("rewritten", "missing", "different"))
        published, past = bars.published, bars.past
        facts = TopicFacts(name, published.records + past.records, published.repeats + past.repeats, rewritten)
        self.topics.append(facts._replace(judged=bars.judged, missing=missing, different=different))

    async def _read_numbers(self, name: str) -> None:
        numbering = Numbering(self._scope)
        async for event, place, _ in self._events(name):
            numbering.add(event.symbol, event.seq, _minute(event), place)
        await self._compare_contents(name, numbering)
        for hole in numbering.holes():
            self._add_fault(hole_fault(name, hole))
        rewritten, holes = self._counts[name, "rewritten"], self._counts[name, "hole"]
        self.topics.append(TopicFacts(name, numbering.events, numbering.repeats, rewritten, holes))

    async def _compare_contents(self, name: str, numbering: Numbering) -> None:
        """Compare the contents of numbers that came more than once."""
        if not numbering.repeated:
            return
        contents = Contents(numbering.repeated)
        async for event, place, value in self._events(name):
            first = contents.add(event.symbol, event.seq, value, place)
            if first is not None:
                found = f"seq {event.seq} once", "another record with it", (first, place)
                self._add_fault(Fault("rewritten", name, event.symbol, f"seq {event.seq}", *found))

    async def _events(self, name: str) -> AsyncIterator[tuple[_Numbered, Place, bytes]]:
        unread, decode = 0, msgspec.json.Decoder(_Numbered).decode
        with Progress(f"audit {name}", "records") as progress:
            async for record in records(self._settings, name, self._scope, progress):
                value = record.value or b""
                try:
                    event = decode(value)
                except (msgspec.MsgspecError, UnicodeError):
                    unread += 1
                    continue
                yield event, Place(record.partition, record.offset), value
        self._note(name, unread, "records without a number")

    def _add_fault(self, fault: Fault) -> None:
        self._counts[fault.topic, fault.kind] += 1
        if self._counts[fault.topic, fault.kind] <= MAX_FAULTS:
            self.faults.append(fault)

    def _note(self, name: str, count: int, what: str) -> None:
        note = f"{name}: {count:,} {what}"
        if count and note not in self.notes:
            self.notes.append(note)


def hole_fault(topic: str, hole: Hole) -> Fault:
    """Missing numbers as a fault of a topic."""
    what = f"seq {hole.first}" + (f" to {hole.last}" if hole.last > hole.first else "")
    found = f"{hole.last - hole.first + 1:,} missing"
    return Fault("hole", topic, hole.symbol, what, "one by one", found, () if hole.place is None else (hole.place,))


def _minute(event: _Numbered) -> int:
    return (event.ts_recv if event.ts_exchange is None else event.ts_exchange) // MINUTE_NS
