"""The evaluation written down plainly: every instrument each time, all rules in turn, nothing left out for speed."""

from __future__ import annotations

from collections.abc import Iterator

from mdstream.events import Heartbeat
from mdstream.stream import failover, gaps, halts
from mdstream.stream.failover import Newest
from mdstream.stream.feed_monitor import EVALUATION_NS, FORGOTTEN, KEPT, FeedMonitor, Switch, _sample, counts_from_ns
from mdstream.stream.lines import Line
from mdstream.stream.output import Output
from mdstream.trading_hours import Rest


class PlainMonitor(FeedMonitor):
    """Looks at all instruments."""

    def evaluate(self, out: Output, recv_ns: int) -> Iterator[Switch]:
        now_ns, rules = self._log.now_ns, self._rules
        self._log.due_ns = now_ns + EVALUATION_NS
        for source in self._sources:
            _sample(source.state, now_ns, rules.limits.max_latency_ns)
            self._check_ingestor(out, source, recv_ns)
        for symbol in sorted(self._lines):
            lines = self._lines[symbol]
            halts.notice_trades(out, lines, now_ns, recv_ns)
            session = lines[0].session_at(recv_ns)
            rest, from_ns = session and session.rest, counts_from_ns(session, now_ns, recv_ns)
            self._learn_all(out, lines, from_ns)
            for line in lines:
                self.report(out, line, gaps.evaluate(line.feed, now_ns, rules.gaps), recv_ns)
            only = len(lines) == 1 and lines[0].live
            if not (only or rest or rules.of(symbol).merge):
                yield from self._choose(out, lines, Newest.of([line.feed for line in lines]), from_ns)
            self._heartbeat(out, lines, recv_ns, rest)

    def _learn_all(self, out: Output, lines: list[Line], from_ns: int) -> None:
        now_ns, limits = self._log.now_ns, self._rules.limits
        followed = next((line for line in lines if line.live), lines[0])
        kept_ns, newest = limits.buffer_from_ns(followed.feed, now_ns), Newest.of([line.feed for line in lines])
        for line in lines:
            feed, changed = line.feed, line.feed.gap_rate > 0
            for channel, newest_ns in zip((feed.trade, feed.quote, feed.book), newest, strict=True):
                changed |= failover.learn(channel, now_ns, limits, from_ns)
                changed |= failover.compare(channel, newest_ns, from_ns)
            changed |= line.forget_before(kept_ns - line.source.state.offset_ns)
            feed.gap_rate = feed.gap_rate * KEPT if feed.gap_rate > FORGOTTEN else 0.0
            if changed:
                out.changed.add(line.symbol)

    def _heartbeat(self, out: Output, lines: list[Line], recv_ns: int, rest: Rest | None) -> None:
        now_ns, instrument, symbol = self._log.now_ns, lines[0].instrument, lines[0].symbol
        spoke_ns = max((line.feed.seen_ns for line in lines if line.live), default=now_ns)
        if spoke_ns and now_ns - max(spoke_ns, instrument.silence_reported_ns) >= self._rules.heartbeat_ns:
            instrument.silence_reported_ns = now_ns
            out.changed.add(symbol)
            provider = instrument.active or lines[0].source.name
            beat = Heartbeat(symbol, provider, recv_ns - (now_ns - spoke_ns), recv_ns, rest)
            out.add_status(symbol, beat)
