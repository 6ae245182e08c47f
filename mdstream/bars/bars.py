"""OHLCV bars of one partition of md.trades, in event time. A function of the records and the times passed in.

    trades ─ step ─> parts: sums per symbol and base slot ─┐        (base: what divides every interval)
                                                            v collect, about once a second
    closed bars (packed) <─ closes <─ open bars of each interval
              └──────────────────────────┴─> Collected: bars to publish, states to write

A trade belongs to the bar [ts_open, ts_open + interval) by the venue's time, or by ours if the venue gives none or one
more than AHEAD_NS ahead of ours. A bar closes when the watermark (the latest time in the partition less the lateness)
passes its end. A trade for a closed bar makes a revision, as long as the bar is kept: the last MAX_KEPT bars of its
interval or those of KEPT_NS, whichever is less. This depends only on the records before the trade, so a bar's contents
never depend on batches, on `collect` or on when the bar was closed.

Each (symbol, seq) counts once: seq rises without gaps, so a trade whose seq is not above the last is a repeat.

Only spot pairs and stocks have bars: other sizes may be contracts of unknown size.

A correction changes the bars of a stock's last trades, which are remembered (memory.py), as far as a late trade would.
It is applied at once: whether its bar is kept then depends on the records before it alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from mdstream.bars.memory import BLOCK, Block, Event, Floor, Memory
from mdstream.bars.part import Part, Trade, decode
from mdstream.bars.rules import AHEAD_NS, Interval, Rules
from mdstream.bars.tally import UNPUBLISHED, Tally, emptied, pack, unpack
from mdstream.instruments import has_base_units, is_ticker
from mdstream.records import Record

MAX_ERRORS = 5
NEVER = 1 << 63


class _Instrument:
    """One symbol: its last seq, the parts not folded yet, and the bars per interval, closed ones packed.

    `memory` is that of a stock, None for others.
    """

    __slots__ = ("measured", "memory", "part", "parts", "seq", "series", "symbol")

    def __init__(self, symbol: str, intervals: Sequence[Interval]) -> None:
        self.symbol, self.seq, self.measured = symbol, -1, has_base_units(symbol)
        self.memory = Memory(symbol, intervals) if is_ticker(symbol) else None
        self.part: Part | None = None
        self.parts: dict[int, Part] = {}
        self.series: tuple[dict[int, Tally | bytes], ...] = tuple({} for _ in intervals)


class Collected(NamedTuple):
    """The result of one `collect`.

    `bars`: the closed and the revised ones, with their new contents; `states`: every bar that changed and can still
    change, packed; `seen`: the last seq of every symbol that traded; `memories`: what changed in them, packed, by
    symbol and name.
    """

    bars: list[Tally]
    states: list[tuple[Tally, bytes]]
    seen: dict[str, int]
    memories: list[tuple[str, str, bytes]]


class Report:
    """Trades by outcome, late trades by interval, and the first MAX_ERRORS errors of records."""

    __slots__ = ("errors", "late", "trades")

    def __init__(self) -> None:
        self.trades: Counter[str] = Counter()
        self.late: Counter[str] = Counter()
        self.errors: list[str] = []


class Bars:
    """The bars of one partition. `step` processes records, `collect` returns what they changed."""

    def __init__(self, rules: Rules, *, latest_ns: int = 0, closed_ns: int = 0) -> None:
        self.rules = rules
        self.latest_ns, self.closed_ns = latest_ns, closed_ns
        self._backlog = self._remembered = 0  # parts, and trades of stocks, since the last collect
        self._report = Report()
        self._instruments: dict[str, _Instrument] = {}
        self._seen: dict[_Instrument, None] = {}
        self._open: dict[int, list[Tally]] = {}  # by end
        # Bars that changed since the last collect: open ones, closed ones. Dicts without values are ordered sets.
        self._touched: dict[Tally, None] = {}
        self._revised: dict[Tally, None] = {}
        self._earliest_end = NEVER  # of the parts not folded yet, except revisions
        self._sources = [rules.source(level) for level in range(len(rules.intervals))]

    # -- restored

    def put_seen(self, symbol: str, seq: int) -> None:
        """Restore a symbol's last seq."""
        self._instrument(symbol).seq = seq

    def put(self, tally: Tally) -> None:
        """Restore a bar; one that can no longer change, or of an interval that is not built, is ignored."""
        level = self.rules.levels.get(tally.interval)
        if level is None:
            return
        each = self.rules.intervals[level]
        end, series = tally.ts_open + each.ns, self._instrument(tally.symbol).series[level]
        if end > self.closed_ns:
            series[tally.ts_open] = tally
            self._open.setdefault(end, []).append(tally)
        elif end > self.latest_ns - each.window_ns:
            series[tally.ts_open] = pack(tally)

    def put_memory(self, symbol: str, floor: Floor | None, blocks: Sequence[Block]) -> None:
        """Restore a symbol's memory, once its last seq and its bars are."""
        instrument = self._instrument(symbol)
        if instrument.memory is not None:
            bars = [
                [unpack(bar) if isinstance(bar, bytes) else bar for bar in series.values()]
                for series in instrument.series
            ]
            instrument.memory.restore(floor, blocks, bars, instrument.seq)

    # -- records

    def step(self, records: Sequence[Record]) -> None:
        """Process records in order."""
        instruments, latest_ns = self._instruments, self.latest_ns
        repeats = unreadable = aside = 0
        for record in records:
            try:
                trade = decode(record.value or b"")
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                self._complain(record, error)
                unreadable += 1
                continue
            instrument = instruments.get(trade.symbol) or self._instrument(trade.symbol)
            seq, ns, recv_ns = trade.seq, trade.ts_exchange, trade.ts_recv
            if seq <= instrument.seq:
                repeats += 1
                continue
            instrument.seq = seq
            if not instrument.measured or trade.correction is not None or trade.backfilled:
                aside += 1
                self._report.trades[self._set_aside(instrument, trade, latest_ns)] += 1
                continue
            if ns is None or ns > recv_ns:
                if ns is None or ns > recv_ns + AHEAD_NS:
                    ns = recv_ns
                if recv_ns > latest_ns:
                    latest_ns = recv_ns
            elif ns > latest_ns:
                latest_ns = ns
            if instrument.memory is not None and self._remember(instrument, trade, ns, latest_ns):
                continue
            part = instrument.part
            if part is None or not part.start <= ns < part.end or latest_ns >= part.expires_ns:
                part = self._part(instrument, trade, ns, latest_ns)
                if part is None:
                    continue
            part.add(trade, ns)
        self.latest_ns = latest_ns
        counts = self._report.trades
        counts["trade"] += len(records) - repeats - unreadable - aside
        counts["repeat"] += repeats
        counts["unreadable"] += unreadable

    def report(self) -> Report:
        """What was counted since the last report."""
        report, self._report = self._report, Report()
        return report

    def _instrument(self, symbol: str) -> _Instrument:
        found = self._instruments.get(symbol)
        if found is None:
            found = self._instruments[symbol] = _Instrument(symbol, self.rules.intervals)
        return found

    def _part(self, instrument: _Instrument, trade: Trade, ns: int, latest_ns: int) -> Part | None:
        """The part of the slot at `ns`; None if the trade was too late for some interval and is already handled."""
        self._seen[instrument] = None
        start = ns - ns % self.rules.base_ns
        found = instrument.parts.get(start)
        if found is None:
            found = Part(start, self.rules, trade, ns)
            if latest_ns >= found.expires_ns:
                self._add_old(instrument, found, trade, latest_ns)
                return None
            if self.closed_ns < found.end < self._earliest_end:
                self._earliest_end = found.end
            self._backlog += 1
            instrument.parts[start] = found
        elif latest_ns >= found.expires_ns:
            self._add_old(instrument, Part(start, self.rules, trade, ns), trade, latest_ns)
            return None
        instrument.part = found
        return found

    def _add_old(self, instrument: _Instrument, part: Part, trade: Trade, latest_ns: int) -> None:
        """Add one trade to the bars that still accept it, and count it as late for each interval that does not."""
        self._backlog += 1
        part.add(trade, part.first_ns)
        tally = part.tally(instrument.symbol)
        for level, each in enumerate(self.rules.intervals):
            ts_open = part.start - part.start % each.ns
            if ts_open + each.ns > latest_ns - each.window_ns:
                self._merge(instrument, level, tally.within(each.name, ts_open))
            else:
                self._report.late[each.name] += 1

    # -- corrections

    def _set_aside(self, instrument: _Instrument, trade: Trade, latest_ns: int) -> str:
        """What becomes of an event that is no trade of a bar; a correction is applied."""
        if not instrument.measured:
            return "unmeasured"
        if trade.backfilled:
            return "backfilled"
        if instrument.memory is None:
            return "unknown"
        changed = instrument.memory.add(trade.event(trade.ts_recv))
        self._revise(instrument, instrument.memory, changed, latest_ns)
        return "correction" if changed else "unknown"

    def _remember(self, instrument: _Instrument, trade: Trade, ns: int, latest_ns: int) -> bool:
        """Remember a stock's trade. Returns whether its correction was here before it, so that both are in the bars."""
        assert instrument.memory is not None
        self._remembered += 1
        changed = instrument.memory.add(trade.event(ns))
        if changed:
            self._revise(instrument, instrument.memory, changed, latest_ns)
        return bool(changed)

    def _revise(self, instrument: _Instrument, memory: Memory, changed: Sequence[Event], latest_ns: int) -> None:
        """Bring the bars around these trades to what is in force, if they are still kept; else count them as late."""
        self._seen[instrument] = None
        self._fold_parts(instrument)  # the memory has their trades
        for trade in changed:
            for level, found in enumerate(memory.contents(trade.ns)):
                each = self.rules.intervals[level]
                ts_open = trade.ns - trade.ns % each.ns
                if ts_open + each.ns <= latest_ns - each.window_ns:
                    self._report.late[each.name] += 1
                else:
                    made = found or emptied(instrument.symbol, each.name, ts_open, trade.price)
                    self._replace(instrument, level, made)
            self._backlog += 1

    def _replace(self, instrument: _Instrument, level: int, made: Tally) -> None:
        """Give a bar other contents; it is published again only if they differ."""
        bar = self._unpacked(instrument, level, made.ts_open)
        if bar is None:
            self._merge(instrument, level, made)
        elif bar.replace(made):
            self._note(bar, level)

    def _complain(self, record: Record, error: Exception) -> None:
        if len(self._report.errors) < MAX_ERRORS:
            self._report.errors.append(f"offset {record.offset}, key {record.key!r:.60}: {error}")

    # -- bars

    @property
    def watermark_ns(self) -> int:
        """Trades before this time are no longer waited for."""
        return self.latest_ns - self.rules.lateness_ns

    @property
    def backlog(self) -> int:
        """The next collect returns about this many changes per interval, blocks of memories included."""
        return self._backlog + self._remembered // BLOCK

    def is_due(self, until_ns: int) -> bool:
        """Whether a collect with this watermark would close bars. Revisions can wait, which makes fewer of them."""
        return min(self._open, default=NEVER) <= until_ns or self._earliest_end <= until_ns

    def collect(self, until_ns: int) -> Collected:
        """Close the bars that end up to the watermark `until_ns`, and return all changes since the last collect."""
        self._fold()
        self.closed_ns = max(self.closed_ns, until_ns)
        ends = [end for end in self._open if end <= self.closed_ns]
        bars = [tally for end in ends for tally in self._open.pop(end)]
        for tally in bars:
            self._touched.pop(tally, None)
        bars += self._revised
        levels = self.rules.levels
        bars.sort(key=lambda tally: (tally.symbol, levels[tally.interval], tally.ts_open))
        states = [state for tally in bars if (state := self._closed(tally)) is not None]
        bars = [tally for tally in bars if tally.revision != UNPUBLISHED]
        for tally in self._touched:
            tally.settle()
            states.append((tally, pack(tally)))
        seen = {instrument.symbol: instrument.seq for instrument in self._seen}
        memories = [
            (instrument.symbol, *state)
            for instrument in self._seen
            if instrument.memory is not None
            for state in instrument.memory.states()
        ]
        self._touched, self._revised, self._seen = {}, {}, {}
        self._backlog, self._remembered, self._earliest_end = 0, 0, NEVER
        return Collected(bars, states, seen, memories)

    def _closed(self, tally: Tally) -> tuple[Tally, bytes] | None:
        """Number and pack a bar to publish; None if it can no longer be revised. One that is empty before it was ever
        published has no number."""
        if tally.revision != UNPUBLISHED or not tally.is_empty:
            tally.revision += 1
        tally.settle()
        level = self.rules.levels[tally.interval]
        series, each = self._instruments[tally.symbol].series[level], self.rules.intervals[level]
        horizon_ns = self.latest_ns - each.window_ns
        if len(series) > each.kept + each.kept // 4 + 8:
            for ts_open in [ts_open for ts_open in series if ts_open + each.ns <= horizon_ns]:
                del series[ts_open]
        if tally.ts_open + each.ns <= horizon_ns:
            series.pop(tally.ts_open, None)
            return None
        packed = series[tally.ts_open] = pack(tally)
        return tally, packed

    def _fold(self) -> None:
        """Add the parts to the bars of every interval, to longer ones by what the shorter ones gained."""
        for instrument in self._seen:
            self._fold_parts(instrument)

    def _fold_parts(self, instrument: _Instrument) -> None:
        parts, instrument.parts, instrument.part = instrument.parts, {}, None
        if not parts:
            return
        gained: list[list[Tally]] = []
        tallies = [part.tally(instrument.symbol) for part in parts.values()]
        for level, source in enumerate(self._sources):
            gained.append(_rolled_up(tallies if source is None else gained[source], self.rules.intervals[level]))
            for tally in gained[level]:
                self._merge(instrument, level, tally)

    def _merge(self, instrument: _Instrument, level: int, gain: Tally) -> None:
        """Add a gain to its bar; without a bar it becomes the bar."""
        found = self._unpacked(instrument, level, gain.ts_open)
        if found is None:
            instrument.series[level][gain.ts_open] = found = gain
            end = gain.ts_open + self.rules.intervals[level].ns
            if end > self.closed_ns:
                self._open.setdefault(end, []).append(gain)
        else:
            found.add(gain)
        self._note(found, level)

    @staticmethod
    def _unpacked(instrument: _Instrument, level: int, ts_open: int) -> Tally | None:
        """A bar to be changed."""
        series = instrument.series[level]
        found = series.get(ts_open)
        if isinstance(found, bytes):
            found = series[ts_open] = unpack(found)
        return found

    def _note(self, bar: Tally, level: int) -> None:
        """A bar has changed."""
        is_open = bar.ts_open + self.rules.intervals[level].ns > self.closed_ns
        (self._touched if is_open else self._revised)[bar] = None


def _rolled_up(parts: list[Tally], each: Interval) -> list[Tally]:
    """Sum parts up to bars of this interval."""
    rolled: dict[int, Tally] = {}
    for part in parts:
        ts_open = part.ts_open - part.ts_open % each.ns
        known = rolled.get(ts_open)
        if known is None:
            rolled[ts_open] = part.within(each.name, ts_open)
        else:
            known.add(part)
    return list(rolled.values())
