"""Compares the bars with their trades: the last revision of each, and one content for each revision.

    md.bars    published ─> last revision and its hash, by instrument, interval and beginning ─┐
    md.trades  trade ─> tallies of base slots, packed ─ rolled up ─> the expected bar ─────────┴─> faults

    md.bars    backfilled ─> one content each, and none from after the instrument's first live trade

    a correction ─> the bar of each interval that is still kept, with the correction applied, in place of its slots

The bars are read first, so every trade in them is read too, and later trades are recognized by their receive time. The
audit uses the worker's rules but not its state: which bar a trade belongs to (bars.md), how late it may be, and which
trades a correction reaches. Sums are exact, so a bar must be the same to the last bit.

Not judged: a bar cut by the audited range, a bar that gained trades until just now, and an absent bar that is not due,
because no trade of its partition is recent enough to close it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import groupby
from struct import Struct
from typing import Literal, NamedTuple

from mdstream.audit.trades import MINUTE_NS, AuditTrade, Place, Scope, hash_of
from mdstream.bars.bars import NEVER
from mdstream.bars.memory import Event, Memory
from mdstream.bars.rules import AHEAD_NS, SECOND_NS, Interval, Rules
from mdstream.bars.tally import UNPUBLISHED, Mark, Tally, emptied, pack, unpack
from mdstream.events import HISTORY, Bar, encode
from mdstream.instruments import is_ticker

OUT_OF_ORDER_NS = 120 * SECOND_NS
"""A log whose beginning was deleted holds every trade that is this much younger than its first record."""

_LAST = Struct("<QQQdHQ")
"""A published bar: revision, hash, trades, volume, partition, offset. A fifth of the memory of objects."""

_PAST = Struct("<QHQ")
"""A bar of a venue: hash, partition, offset."""

BarFault = Literal["missing", "different", "rewritten"]


class BarDifference(NamedTuple):
    """A bar whose last revision is missing or does not match its trades, or a revision with two contents."""

    kind: BarFault
    symbol: str
    interval: str
    ts_open: str
    revision: int | None
    expected: str
    found: str
    places: tuple[Place, ...]


class Published:
    """The published bars: the last revision of each, and the hash of every revision. Read in order."""

    def __init__(self, rules: Rules, scope: Scope) -> None:
        self._levels, self._scope = rules.levels, scope
        self._last: defaultdict[tuple[str, int], dict[int, bytes]] = defaultdict(dict)
        self._older: dict[tuple[str, int, int, int], tuple[int, Place]] = {}
        self.rewritten: list[BarDifference] = []
        self.records = self.repeats = self.of_other_intervals = 0

    def add(self, bar: Bar, place: Place) -> None:
        level = self._levels.get(bar.interval)
        if level is None:
            self.of_other_intervals += 1
        elif self._scope.numbers(bar.symbol, bar.ts_open // MINUTE_NS):
            self.records += 1
            self._add(bar, level, place)

    def _add(self, bar: Bar, level: int, place: Place) -> None:
        series, content = self._last[bar.symbol, level], hash_of(encode(bar))
        if bar.ts_open in series:
            revision, last, _, _, *where = _LAST.unpack(series[bar.ts_open])
            if bar.revision == revision:
                self._compare(bar, content, place, (last, Place(*where)))
                return
            if bar.revision < revision:
                older = self._older.get((bar.symbol, level, bar.ts_open, bar.revision))
                if older is not None:
                    self._compare(bar, content, place, older)
                return
            self._older[bar.symbol, level, bar.ts_open, revision] = last, Place(*where)
        series[bar.ts_open] = _LAST.pack(bar.revision, content, bar.trades or 0, bar.volume, *place)

    def _compare(self, bar: Bar, content: int, place: Place, known: tuple[int, Place]) -> None:
        """A repeated revision must have the same content."""
        first, where = known
        if first == content:
            self.repeats += 1
            return
        of = bar.symbol, bar.interval, _time(bar.ts_open), bar.revision
        contents = f"revision {bar.revision} once", "another bar with it"
        self.rewritten.append(BarDifference("rewritten", *of, *contents, (where, place)))

    def of(self, symbol: str, level: int) -> dict[int, bytes]:
        return self._last.get((symbol, level), {})


class Past:
    """The bars of venues: one content each, published once. Read in order."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._bars: defaultdict[tuple[str, str], dict[int, bytes]] = defaultdict(dict)
        self.rewritten: list[BarDifference] = []
        self.records = self.repeats = 0

    def add(self, bar: Bar, place: Place) -> None:
        if not self._scope.numbers(bar.symbol, bar.ts_open // MINUTE_NS):
            return
        self.records += 1
        series, content = self._bars[bar.symbol, bar.interval], hash_of(encode(bar))
        if bar.ts_open not in series:
            series[bar.ts_open] = _PAST.pack(content, *place)
            return
        first, *where = _PAST.unpack(series[bar.ts_open])
        if first == content:
            self.repeats += 1
            return
        of = bar.symbol, bar.interval, _time(bar.ts_open), bar.revision
        contents = "one bar of the past", "another one"
        self.rewritten.append(BarDifference("rewritten", *of, *contents, (Place(*where), place)))

    def since(self, begun: Mapping[str, int]) -> Iterator[BarDifference]:
        """Those that begin when their instrument was read live, from the times on that are given by symbol."""
        for (symbol, interval), series in sorted(self._bars.items()):
            from_ns = begun.get(symbol, NEVER)
            for ts_open in sorted(opened for opened in series if opened >= from_ns):
                _, *place = _PAST.unpack(series[ts_open])
                of = symbol, interval, _time(ts_open), HISTORY
                expected = f"none of the past: its live trades begin at {_time(from_ns)}"
                yield BarDifference("different", *of, expected, "one", (Place(*place),))


class _Partition:
    """The event time of one partition, and the time from which all of its trades were read."""

    __slots__ = ("from_ns", "settled_ns", "time_ns")

    def __init__(self) -> None:
        self.time_ns = self.settled_ns = self.from_ns = 0


class _Instrument:
    """One symbol's trades as tallies: the current slot unpacked, the others packed."""

    __slots__ = ("begun_ns", "beyond", "corrected", "hot", "memory", "partition", "seq", "slots", "unsettled")

    def __init__(self, partition: _Partition, memory: Memory | None) -> None:
        self.partition, self.memory, self.seq = partition, memory, -1
        self.begun_ns: int | None = None  # when its live trades began, for us and for the venue
        self.hot: Tally | None = None
        self.slots: dict[int, bytes] = {}
        self.beyond: dict[tuple[int, int], Tally] = {}  # by level and ts_open: trades too late for a shorter bar
        self.corrected: dict[tuple[int, int], Tally] = {}  # likewise: bars that a correction changed, as a whole
        self.unsettled: set[int] = set()  # slots with a trade received just now


class BarAudit:
    """Compares the published bars with those that the trades make. `published` is filled first."""

    def __init__(self, rules: Rules, scope: Scope) -> None:
        self._rules, self._scope = rules, scope
        self._partitions: defaultdict[int, _Partition] = defaultdict(_Partition)
        self._instruments: dict[str, _Instrument] = {}
        self.published, self.past = Published(rules, scope), Past(scope)
        self.judged = 0

    def trade(self, trade: AuditTrade, seq: int, partition: int, *, begins_cut: bool = False) -> None:
        """Take in a trade of md.trades; those of a partition come in order.

        `begins_cut`: it is the first record of a log whose beginning is gone.
        """
        log = self._partitions[partition]
        if begins_cut:
            log.from_ns = trade.received_ns + OUT_OF_ORDER_NS
        instrument = self._instruments.get(trade.symbol)
        if instrument is None:
            memory = Memory(trade.symbol, self._rules.intervals) if is_ticker(trade.symbol) else None
            instrument = self._instruments[trade.symbol] = _Instrument(log, memory)
        if seq <= instrument.seq:
            return
        if seq != instrument.seq + 1:
            instrument.begun_ns = None  # its state was lost: then its live trades begin anew
        instrument.seq = seq
        if trade.backfilled:
            return
        if instrument.begun_ns is None:
            # A bar that was over before the trade came may have been taken, though the trade is older.
            instrument.begun_ns = max(trade.time_ns, trade.received_ns)
        ns = trade.time_ns if trade.time_ns <= trade.received_ns + AHEAD_NS else trade.received_ns
        is_settled = trade.received_ns < self._scope.received_before_ns
        if trade.correction is None:
            log.time_ns = max(log.time_ns, min(ns, trade.received_ns))
            if is_settled:
                log.settled_ns = log.time_ns
        changed = () if instrument.memory is None else instrument.memory.add(_event(trade, seq, ns))
        for one in changed:
            if self._scope.numbers(trade.symbol, one.ns // MINUTE_NS):
                self._correct(instrument, one, is_settled=is_settled)
        if trade.correction is None and not changed and self._scope.numbers(trade.symbol, ns // MINUTE_NS):
            self._add(instrument, trade, ns, is_settled=is_settled)

    def _add(self, instrument: _Instrument, trade: AuditTrade, ns: int, *, is_settled: bool) -> None:
        rules, start = self._rules, ns - ns % self._rules.base_ns
        part = _tally(trade, ns, start)
        if not is_settled:
            instrument.unsettled.add(start)
        if instrument.corrected:
            for level, each in self._kept_around(instrument, start):
                bar = instrument.corrected.get((level, start - start % each.ns))
                if bar is not None:
                    bar.add(part)
        if instrument.partition.time_ns < start + rules.base_ns + rules.window_ns:
            self._add_to_slot(instrument, part)
            return
        for level, each in self._kept_around(instrument, start):
            ts_open = start - start % each.ns
            known = instrument.beyond.get((level, ts_open))
            if known is None:
                instrument.beyond[level, ts_open] = part.within(each.name, ts_open)
            else:
                known.add(part)

    def _correct(self, instrument: _Instrument, trade: Event, *, is_settled: bool) -> None:
        """Rebuild the bars around a trade of which something else is in force now."""
        assert instrument.memory is not None
        start = trade.ns - trade.ns % self._rules.base_ns
        if not is_settled:
            instrument.unsettled.add(start)
        contents = instrument.memory.contents(trade.ns)
        for level, each in self._kept_around(instrument, start):
            ts_open = start - start % each.ns
            bar = contents[level] or emptied(instrument.memory.symbol, each.name, ts_open, trade.price)
            instrument.corrected[level, ts_open] = bar

    def _kept_around(self, instrument: _Instrument, start: int) -> Iterator[tuple[int, Interval]]:
        """The intervals, by level, whose bar around a slot can still change."""
        for level, each in enumerate(self._rules.intervals):
            if start - start % each.ns + each.ns > instrument.partition.time_ns - each.window_ns:
                yield level, each

    @staticmethod
    def _add_to_slot(instrument: _Instrument, part: Tally) -> None:
        hot = instrument.hot
        if hot is None or hot.ts_open != part.ts_open:
            if hot is not None:
                hot.settle()
                instrument.slots[hot.ts_open] = pack(hot)
            packed = instrument.slots.get(part.ts_open)
            instrument.hot = part if packed is None else unpack(packed)
            if packed is None:
                return
        assert instrument.hot is not None
        instrument.hot.add(part)

    # -- the verdict

    def differences(self) -> Iterator[BarDifference]:
        """All differences, once everything is read."""
        yield from self.published.rewritten
        yield from self.past.rewritten
        begun = {symbol: one.begun_ns for symbol, one in self._instruments.items() if one.begun_ns is not None}
        yield from self.past.since(begun)
        for symbol, instrument in sorted(self._instruments.items()):
            for level, each in enumerate(self._rules.intervals):
                yield from self._of_series(symbol, instrument, level, each)

    def _of_series(self, symbol: str, instrument: _Instrument, level: int, each: Interval) -> Iterator[BarDifference]:
        found, expected = self.published.of(symbol, level), set()
        for bar in self._expected(instrument, level, each):
            if bar.is_empty:
                continue
            expected.add(bar.ts_open)
            if self._is_judged(instrument, each, bar.ts_open):
                yield from self._judge(instrument, bar, each, found.get(bar.ts_open))
        for ts_open in sorted(found.keys() - expected):
            revision, _, trades, volume, *place = _LAST.unpack(found[ts_open])
            if self._is_judged(instrument, each, ts_open):
                self.judged += 1
                if not trades:  # all of them were cancelled
                    continue
                of, text = (symbol, each.name, _time(ts_open), revision), f"{trades} trades, {volume!r}"
                yield BarDifference("different", *of, "no bar: there are no trades", text, (Place(*place),))

    @staticmethod
    def _expected(instrument: _Instrument, level: int, each: Interval) -> Iterator[Tally]:
        if instrument.hot is not None:
            instrument.slots[instrument.hot.ts_open] = pack(instrument.hot)
        whole = {ts_open: tally for (of, ts_open), tally in instrument.corrected.items() if of == level}
        beyond = {ts_open: tally for (of, ts_open), tally in instrument.beyond.items() if of == level}
        for ts_open, starts in groupby(sorted(instrument.slots), key=lambda start: start - start % each.ns):
            bar = beyond.pop(ts_open, None)
            for start in starts:
                part = unpack(instrument.slots[start])
                if bar is None:
                    bar = part.within(each.name, ts_open)
                else:
                    bar.add(part)
            assert bar is not None
            yield whole.pop(ts_open, bar)
        yield from (beyond | whole).values()

    def _is_judged(self, instrument: _Instrument, each: Interval, ts_open: int) -> bool:
        scope, end = self._scope, ts_open + each.ns
        return (
            ts_open >= max(scope.first_minute * MINUTE_NS, instrument.partition.from_ns)
            and end <= scope.end_minute * MINUTE_NS
            and not any(ts_open <= start < end for start in instrument.unsettled)
        )

    def _judge(
        self, instrument: _Instrument, bar: Tally, each: Interval, found: bytes | None
    ) -> Iterator[BarDifference]:
        bar.settle()
        where = (bar.symbol, bar.interval, _time(bar.ts_open))
        if found is None:
            if bar.ts_open + each.ns <= instrument.partition.settled_ns - self._rules.lateness_ns:
                self.judged += 1
                yield BarDifference("missing", *where, None, _text(bar), "nothing", ())
            return
        self.judged += 1
        revision, content, trades, volume, *place = _LAST.unpack(found)
        bar.revision = revision
        if hash_of(bar.public()) != content:
            prices = " at other prices" if (bar.trades, bar.volume[0]) == (trades, volume) else ""
            text = f"{trades} trades, {volume!r}{prices}"
            yield BarDifference("different", *where, revision, _text(bar), text, (Place(*place),))


def _event(trade: AuditTrade, seq: int, ns: int) -> Event:
    changes = trade.correction, trade.corrects
    return Event(seq, ns, trade.provider, trade.trade_id, trade.price, trade.size, trade.fills, *changes)


def _tally(trade: AuditTrade, ns: int, start: int) -> Tally:
    price, size = trade.price, trade.size
    mark: Mark = (ns, trade.provider, len(trade.trade_id), trade.trade_id, price)
    return Tally(trade.symbol, "", start, UNPUBLISHED, trade.fills, price, price, mark, mark, [size], [price * size])


def _text(bar: Tally) -> str:
    opened, closed = bar.first[-1], bar.last[-1]
    return f"{bar.trades} trades, {bar.volume[0]!r} at {opened!r} {bar.high!r} {bar.low!r} {closed!r}"


def _time(ns: int) -> str:
    seconds, rest = divmod(ns, SECOND_NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09}Z" if rest else f"{text}Z"
