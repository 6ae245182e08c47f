"""The evaluation made four times a second of log time: gaps, silence, and which source each instrument follows.

    every record ─> log time ─ due? ─> sources: how late, how faulty, still there?
                                       instruments: intervals, gaps, health of each source ─> switch
                                                    silent for long ─> heartbeat

While an instrument's market is closed, or trading in it is halted, no source of it is at fault for silence, none is
left, and its heartbeats say so.

Nothing here is done per frame, and nothing for an instrument at rest, so that one which seldom trades costs nothing:
its only source is followed, and its state has not changed since an evaluation that left no hole waited for. Such a
source is compared with no other, a followed one has no buffer, and a gap rate that decays is a change. Until new data,
which changes the state, only its heartbeat can fall due.

Published times are receive times, derived from log time.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from mdstream import events
from mdstream.events import Gap, Heartbeat
from mdstream.records import MS
from mdstream.repairs import RepairRequest
from mdstream.stream import failover, gaps, halts
from mdstream.stream.failover import Choice, Finding, Newest
from mdstream.stream.gaps import Change
from mdstream.stream.lines import Line, Source
from mdstream.stream.output import Output
from mdstream.stream.rules import Rules
from mdstream.stream.state import LogState, SourceState
from mdstream.trading_hours import TradingSession

EVALUATION_NS = 250_000_000
WINDOW_NS = 600_000_000_000
"""A source's least latency is taken over this window and the one before."""
RECENT, ENOUGH = 5, 3
"""Evaluations over which the median latency is taken, and the fewest that suffice."""
KEPT = 1 - EVALUATION_NS / 60e9
"""Share of a count per minute that remains from one evaluation to the next."""
FORGOTTEN = 0.01


class Switch(NamedTuple):
    """An instrument has to follow another line; `old` is None if the one in use is no longer among its sources."""

    old: Line | None
    new: Line
    choice: Choice


class FeedMonitor:
    """Evaluates one partition's `sources` and the lines that were added."""

    def __init__(
        self, log: LogState, sources: Iterable[Source], rules: Rules, announces: Callable[[str], bool]
    ) -> None:
        self._log, self._sources, self._rules = log, list(sources), rules
        self._announces = announces
        self._lines: dict[str, list[Line]] = {}
        self._symbols: list[str] = []  # sorted: the order must not depend on how the state was restored
        self._awake: set[str] = set()  # to be evaluated next time
        self._silent_ns: dict[str, int] = {}  # the log time before which none at rest has a heartbeat due

    def add(self, line: Line) -> None:
        """Evaluate a line from now on; lines are kept in order of preference."""
        if line.symbol not in self._lines:
            insort(self._symbols, line.symbol)
            self._silent_ns[line.symbol] = 0
        self._awake.add(line.symbol)
        lines = self._lines.setdefault(line.symbol, [])
        lines.append(line)
        order = self._rules.of(line.symbol).sources
        lines.sort(key=lambda line: order.index(line.source.name))

    def lines(self) -> Mapping[str, list[Line]]:
        """By symbol, in order of preference."""
        return self._lines

    def wake(self, symbols: set[str]) -> None:
        """Evaluate these next time."""
        self._awake |= symbols

    def evaluate(self, out: Output, recv_ns: int) -> Iterator[Switch]:
        """The switches that are due; make each before asking for the next. `recv_ns`: of the current record."""
        now_ns = self._log.now_ns
        self._log.due_ns = now_ns + EVALUATION_NS
        for source in self._sources:
            _sample(source.state, now_ns, self._rules.limits.max_latency_ns)
            self._check_ingestor(out, source, recv_ns)
        for symbol in self._due():
            lines = self._lines[symbol]
            # The only one is not followed if the followed one was removed from the settings.
            if len(lines) == 1 and lines[0].live:
                self._evaluate_only(out, lines, recv_ns)
            else:
                yield from self._evaluate_several(out, lines, recv_ns)

    def _due(self) -> list[str]:
        """The instruments that are not at rest, and those whose heartbeat may be due."""
        awake, self._awake = self._awake, set()
        now_ns, silent_ns = self._log.now_ns, self._silent_ns
        return [symbol for symbol in self._symbols if symbol in awake or silent_ns[symbol] <= now_ns]

    def _evaluate_only(self, out: Output, lines: list[Line], recv_ns: int) -> None:
        """An instrument whose only source is followed."""
        line, now_ns = lines[0], self._log.now_ns
        halts.notice_trades(out, lines, now_ns, recv_ns)
        session = line.session_at(recv_ns)
        if failover.learn_alone(line.feed, now_ns, self._rules.limits, counts_from_ns(session, now_ns, recv_ns)):
            out.changed.add(line.symbol)
        self._check_gaps(out, line, recv_ns)
        if self._silent_ns[line.symbol] <= now_ns:
            self._silent_ns[line.symbol] = self._check_silence(out, lines, recv_ns, session)

    def _evaluate_several(self, out: Output, lines: list[Line], recv_ns: int) -> Iterator[Switch]:
        """An instrument that is evaluated each time: its sources are compared, and standbys have buffers."""
        symbol, now_ns = lines[0].symbol, self._log.now_ns
        self._awake.add(symbol)
        halts.notice_trades(out, lines, now_ns, recv_ns)
        session = lines[0].session_at(recv_ns)
        from_ns, newest = counts_from_ns(session, now_ns, recv_ns), Newest.of([line.feed for line in lines])
        for line in lines:
            if failover.learn_beside(line.feed, newest, now_ns, self._rules.limits, from_ns):
                out.changed.add(symbol)
            self._check_gaps(out, line, recv_ns)
        self._trim(out, lines)
        if (session is None or not session.rest) and not self._rules.of(symbol).merge:
            yield from self._choose(out, lines, newest, from_ns)
        self._check_silence(out, lines, recv_ns, session)

    def _check_gaps(self, out: Output, line: Line, recv_ns: int) -> None:
        feed = line.feed
        if feed.gap_rate:
            feed.gap_rate = feed.gap_rate * KEPT if feed.gap_rate > FORGOTTEN else 0.0
            out.changed.add(line.symbol)
            self._awake.add(line.symbol)
        if gaps.waits(feed):
            self._awake.add(line.symbol)
            self.report(out, line, gaps.evaluate(feed, self._log.now_ns, self._rules.gaps), recv_ns)

    def _trim(self, out: Output, lines: list[Line]) -> None:
        """Forget what standbys have buffered for longer than a takeover may need."""
        followed = next((line for line in lines if line.live), lines[0])
        from_ns = self._rules.limits.buffer_from_ns(followed.feed, self._log.now_ns)
        for line in lines:
            if line.forget_before(from_ns - line.source.state.offset_ns):
                out.changed.add(line.symbol)

    def _choose(self, out: Output, lines: list[Line], newest: Newest, counts_from_ns: int) -> Iterator[Switch]:
        instrument, now_ns, limits = lines[0].instrument, self._log.now_ns, self._rules.limits
        findings = self._findings(lines, newest, counts_from_ns)
        by_name = {line.source.name: line for line in lines}
        for name, line in by_name.items():
            if failover.note(line.feed, findings[name], now_ns, limits, counts_from_ns):
                out.changed.add(line.symbol)
        feeds = {name: line.feed for name, line in by_name.items()}
        begins = now_ns - instrument.begun_ns < limits.stale_after_ns
        choice = failover.choose(list(by_name), instrument.active, feeds, findings, now_ns, limits, begins=begins)
        if choice is not None:
            out.changed.add(lines[0].symbol)
            yield Switch(by_name.get(instrument.active), by_name[choice.source], choice)

    def findings(self, lines: list[Line], counts_from_ns: int = 0) -> dict[str, Finding]:
        """The current health of each source of an instrument, whose silence counts from a log time on."""
        return self._findings(lines, Newest.of([line.feed for line in lines]), counts_from_ns)

    def _findings(self, lines: list[Line], newest: Newest, counts_from_ns: int) -> dict[str, Finding]:
        now_ns, limits = self._log.now_ns, self._rules.limits
        return {
            line.source.name: failover.judge(line.feed, line.source.state, newest, now_ns, limits, counts_from_ns)
            for line in lines
        }

    def report(self, out: Output, line: Line, changes: Iterable[Change], recv_ns: int) -> None:
        """Publish the changes of gaps, and request repair of those that opened."""
        for change in changes:
            out.changed.add(line.symbol)
            out.gap_changes[line.source.name, change.state] += 1
            name, first, last = line.source.name, str(change.first), str(change.last)
            gap = Gap(
                line.symbol, name, first, last, change.state, recv_ns, change.missing, change.took_ns, change.reason
            )
            out.add_status(line.symbol, gap)
            if change.state == "open":
                since_ns = recv_ns - (self._log.now_ns - change.since_ns)
                ids = line.trades.id_space, change.first, change.last
                request = RepairRequest(line.symbol, name, *ids, since_ns, line.feed.contract_size)
                out.add_gap(request, recv_ns // MS)

    def _check_silence(self, out: Output, lines: list[Line], recv_ns: int, session: TradingSession | None) -> int:
        """Write a heartbeat if it is due; the log time before which the next one is not."""
        symbol, instrument = lines[0].symbol, lines[0].instrument
        now_ns, every_ns = self._log.now_ns, self._rules.heartbeat_ns
        spoke_ns = max((line.feed.seen_ns for line in lines if line.live), default=now_ns)
        due_ns = max(spoke_ns, instrument.silence_reported_ns) + every_ns if spoke_ns else now_ns + every_ns
        if now_ns < due_ns:
            return due_ns
        instrument.silence_reported_ns = now_ns
        out.changed.add(symbol)
        provider = instrument.active or lines[0].source.name
        state = None if session is None else session.rest
        out.add_status(symbol, Heartbeat(symbol, provider, recv_ns - (now_ns - spoke_ns), recv_ns, state))
        return now_ns + every_ns

    def _check_ingestor(self, out: Output, source: Source, recv_ns: int) -> None:
        state, now_ns, every_ns = source.state, self._log.now_ns, self._rules.heartbeat_ns
        if not state.beat_ns or now_ns - max(state.beat_ns, state.silence_reported_ns) < every_ns:
            return
        state.silence_reported_ns = now_ns
        if self._announces(source.name):
            silent_since_ns = recv_ns - (now_ns - state.beat_ns)
            out.add_status(source.name, Heartbeat(events.SYSTEM, source.name, silent_since_ns, recv_ns))


def counts_from_ns(session: TradingSession | None, now_ns: int, recv_ns: int) -> int:
    """The log time from which silence counts at `now_ns`, which is `recv_ns` on the ingestor's clock."""
    if session is None:
        return 0
    return now_ns if session.rest else now_ns - (recv_ns - session.from_ns)


def _sample(state: SourceState, now_ns: int, max_latency_ns: int) -> None:
    """Record how late a source is, if it has traded since the last evaluation, and let its fault count decay."""
    state.faults = state.faults * KEPT if state.faults > FORGOTTEN else 0.0
    if now_ns - state.window_ns >= WINDOW_NS:
        state.least_before_ns, state.least_ns, state.window_ns = state.least_ns, None, now_ns
    if state.latency_ns is None:
        return
    state.recent_ns, state.latency_ns = [*state.recent_ns[1 - RECENT :], state.latency_ns], None
    latency_ns = state.recent_latency_ns
    if latency_ns is None or len(state.recent_ns) < ENOUGH:
        return
    state.least_ns = latency_ns if state.least_ns is None else min(state.least_ns, latency_ns)
    if latency_ns - state.usual_latency_ns <= max_latency_ns:
        state.late_since_ns = 0
    else:
        state.late_since_ns, state.late_to_ns = state.late_since_ns or now_ns, now_ns
