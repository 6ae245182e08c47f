"""Ticks to public events: what becomes of each tick, and what is published when another source is followed.

tick ─> is its source followed? ── no: buffered, in case it has to take over
             └ yes: dedupe ─> new: numbered and published (numbering.py)
BookUpdate ─> kept, followed or not (books.py) ─ its top, its best levels ─> published if followed
switch ─> the new source's buffer, from where the old one ended
BarTick ─> history, not taken before ─> published (ranges.py)
"""

from __future__ import annotations

from collections.abc import Callable

from mdstream.errors import FrameError, MisplacedError
from mdstream.events import FeedStatus
from mdstream.records import LAST_NS, Record
from mdstream.stream import halts, history, ranges, timed
from mdstream.stream.book import Book, State, UpdateResult
from mdstream.stream.books import Books, is_due, is_publishable
from mdstream.stream.bounds import CHECKS, MAX_ID, check_bar, check_trade
from mdstream.stream.feed_monitor import FeedMonitor, Switch
from mdstream.stream.lines import Line, Source
from mdstream.stream.numbering import publish_bar, publish_book, publish_quote, publish_trade
from mdstream.stream.output import Output
from mdstream.stream.rules import Rules
from mdstream.stream.state import Feed, Instrument, LogState
from mdstream.ticks import NO_ID, BarTick, BookTick, BookUpdate, Control, HaltTick, OtherTick, QuoteTick, TradeTick
from mdstream.trading_hours import trading_hours

MAX_ERRORS = 20
"""Most error frames of venues kept for the log in one output; all are counted."""
BOOK_LOST = "an update is missing, or it was crossed or unlike its checksum for long, or out of levels"
MISSED_NS = 10_000_000_000
"""How often a book that stays unknown is reported, so that its ingestor subscribes again."""


class Publication:
    """Publishes the ticks of one partition of a market. `recv_ns` and `offset` are those of a tick's raw record."""

    def __init__(
        self,
        market: str,
        partition: int,
        instruments: dict[str, Instrument],
        log: LogState,
        *,
        rules: Rules,
        announces: Callable[[str], bool],
        monitor: FeedMonitor,
        books: Books,
    ) -> None:
        self._market, self._partition, self._instruments, self._log = market, partition, instruments, log
        self._rules, self._announces = rules, announces
        self._monitor, self._books = monitor, books
        self.heard: set[str] = set()
        """The instruments of which a tick changed the state, until Canonical hands them over."""

    # -- lines

    def _new_line(self, source: Source, symbol: str, recv_ns: int) -> Line:
        """As `add_line`, for a symbol from a frame. Raises MisplacedError if it belongs to another partition.

        A symbol in the restored state stays: it was here before the partition count changed.
        """
        self.instrument(symbol)
        return self.add_line(source, symbol, recv_ns)

    def instrument(self, symbol: str) -> Instrument:
        """The state of an instrument; a new one is not kept yet. Raises MisplacedError as above."""
        found = self._instruments.get(symbol)
        if found is None and not self._announces(symbol):
            raise MisplacedError(symbol, self._partition)
        return found or Instrument()

    def add_line(self, source: Source, symbol: str, recv_ns: int) -> Line:
        """Create a source's line of an instrument. The first source to send anything is followed."""
        instrument = self._instruments.setdefault(symbol, Instrument())
        feed = instrument.feeds.setdefault(source.name, Feed())
        line = Line(source, symbol, instrument, feed, trading_hours(self._market, symbol))
        source.lines[symbol] = line
        policy, beside = self._rules.of(symbol), instrument.active or next(iter(instrument.feeds))
        line.allowed = self._rules.allows(symbol, source.name, beside=beside)
        if line.allowed:
            if not (policy.merge or instrument.active):
                instrument.active, instrument.since_ns, instrument.reason = source.name, recv_ns, "the first with data"
                instrument.begun_ns = self._log.now_ns
            line.live = policy.merge or instrument.active == source.name
            self._monitor.add(line)
        return line

    # -- trades

    def trade(self, out: Output, source: Source, tick: TradeTick, recv_ns: int, offset: int) -> None:
        """Publish a trade, buffer it or leave it out. Raises FrameError for an impossible one."""
        ts_exchange = tick.ts_exchange
        if not (
            tick.price > 0.0
            and tick.size >= 0.0
            and NO_ID <= tick.first_id <= tick.last_id <= MAX_ID
            and (ts_exchange is None or 0 <= ts_exchange < LAST_NS)
        ):
            check_trade(tick)
        line = source.lines.get(tick.symbol) or self._new_line(source, tick.symbol, recv_ns)
        self.heard.add(tick.symbol)
        if tick.recovered:
            self._recovered(out, line, tick, recv_ns)
            return
        now_ns = self._log.now_ns
        line.feed.trade.seen_ns = now_ns
        if ts_exchange is not None and not (tick.resume or tick.correction):  # these may be hours old
            source.state.latency_ns = recv_ns - ts_exchange
        if not line.live:
            self._stand_by(out, line, tick, recv_ns, offset)
        elif line.trades.admit_next(tick, now_ns) or self._is_new(out, line, tick, recv_ns):
            publish_trade(out, line, tick, recv_ns)

    def _is_new(self, out: Output, line: Line, tick: TradeTick, recv_ns: int) -> bool:
        verdict = line.trades.admit(tick, self._log.now_ns, contiguous=line.source.contiguous)
        if verdict == "new":
            ts = tick.ts_exchange
            if ts is None or ts >= line.instrument.begun_ts or line.source.contiguous or not timed.came(line, tick):
                return True
            verdict = "repeat"
        out.counts[f"trade, {verdict}"] += 1
        if verdict == "restart":
            reason = f"the venue counts its trades from {tick.trade_id} on"
            out.add_status(line.symbol, FeedStatus(line.symbol, line.source.name, "seq_reset", reason, recv_ns))
        return verdict == "restart"

    def _stand_by(self, out: Output, line: Line, tick: TradeTick, recv_ns: int, offset: int) -> None:
        if not line.allowed:
            out.counts["not a source of the instrument"] += 1
        elif line.trades.is_later(tick):
            line.stand_by(offset, recv_ns, tick)
        elif tick.correction is not None:  # of a trade that was published while this source was followed
            if self._is_new(out, line, tick, recv_ns):
                publish_trade(out, line, tick, recv_ns)
        else:
            self._late_trade(out, line, tick, recv_ns)

    def _recovered(self, out: Output, line: Line, tick: TradeTick, recv_ns: int) -> None:
        """Raises FrameError as below."""
        if line.source.contiguous:
            self._late_trade(out, line, tick, recv_ns)
        elif why := timed.take(line, tick, merges=self._rules.of(line.symbol).merge):
            out.counts[f"trade, {why}"] += 1
        else:
            publish_trade(out, line, tick, recv_ns, backfilled=True)

    def _late_trade(self, out: Output, line: Line, tick: TradeTick, recv_ns: int) -> None:
        """A trade with an older id: published only if it was missing. Raises FrameError if it cannot be that one."""
        if tick.recovered and (contradiction := line.trades.contradiction(tick)) is not None:
            raise FrameError(
                f"recovered trade {tick.trade_id} is not the one that is missing: {contradiction}; {history.ELSEWHERE}"
            )
        backfilled = tick.recovered and line.trades.is_history(tick)
        takes = history.takes(line, tick, merges=self._rules.of(line.symbol).merge) if backfilled else "yes"
        if takes == "no" or not line.trades.fill(tick):
            out.counts["trade, no hole" if tick.recovered else "trade, repeat"] += 1
        elif takes == "covered":
            out.counts["trade, another source has it"] += 1
        else:
            publish_trade(out, line, tick, recv_ns, backfilled=backfilled)

    # -- other ticks

    def other(self, out: Output, source: Source, tick: OtherTick, recv_ns: int, record: Record) -> None:
        """As `trade`, for the other ticks."""
        if isinstance(tick, Control):
            self._control(out, source.name, tick)
            return
        if type(tick) is BarTick:
            self._bar(out, source.name, tick, recv_ns)
            return
        CHECKS[type(tick)](tick)
        if isinstance(tick, BookUpdate):
            self._update(out, source, tick, recv_ns, record)
            return
        line = source.lines.get(tick.symbol) or self._new_line(source, tick.symbol, recv_ns)
        self.heard.add(tick.symbol)
        if isinstance(tick, QuoteTick):
            line.feed.quote.seen_ns = self._log.now_ns
            if not line.live:
                if line.allowed:
                    line.stand_by(record.offset, recv_ns, tick)
            elif line.book is None or not (source.quotes_from_books and is_publishable(line)):
                self._quote(out, line, tick, recv_ns)
            else:
                out.counts["quote, the book has it"] += 1
        elif isinstance(tick, HaltTick):
            halts.learn(out, line, tick, recv_ns)
        else:
            line.feed.book.seen_ns = self._log.now_ns
            if line.live:
                self._book(out, line, tick, recv_ns)

    @staticmethod
    def _quote(out: Output, line: Line, tick: QuoteTick, recv_ns: int) -> None:
        if line.feed.quotes.admit(tick, recv_ns):
            publish_quote(out, line, tick, recv_ns)
        else:
            out.counts["quote, repeat"] += 1

    @staticmethod
    def _book(out: Output, line: Line, tick: BookTick, recv_ns: int) -> None:
        if tick.update_id == NO_ID or line.feed.books.admit(tick.update_id, recv_ns):
            publish_book(out, line, tick, recv_ns)
        else:
            out.counts["book, repeat"] += 1

    def _bar(self, out: Output, provider: str, tick: BarTick, recv_ns: int) -> None:
        check_bar(tick)
        instrument = self.instrument(tick.symbol)
        if why := ranges.take(instrument, tick, recv_ns):
            out.counts[f"bar, {why}"] += 1
            return
        publish_bar(out, provider, tick, recv_ns)
        self._instruments[tick.symbol] = instrument
        out.changed.add(tick.symbol)

    @staticmethod
    def _control(out: Output, provider: str, tick: Control) -> None:
        out.counts[f"control {tick.kind}"] += 1
        if tick.kind in ("error", "notice", "shutdown") and len(out.errors) < MAX_ERRORS:
            out.errors.append(f"{provider} {tick.kind}: {tick.detail}")

    # -- books that are kept (books.py)

    def _update(self, out: Output, source: Source, tick: BookUpdate, recv_ns: int, record: Record) -> None:
        line = source.lines.get(tick.symbol) or self._new_line(source, tick.symbol, recv_ns)
        if not line.allowed:
            out.counts["not a source of the instrument"] += 1
            return
        self.heard.add(tick.symbol)
        now_ns, feed = self._log.now_ns, line.feed
        book = self._books.of(line)
        result = self._books.apply(line, tick, record, recv_ns, now_ns)
        if result is UpdateResult.LOST:
            self.book_lost(out, line, BOOK_LOST, recv_ns)
        elif result is UpdateResult.PASSED or result is UpdateResult.CROSSED:
            out.counts[f"book, {result.value}"] += 1
            if book.state is State.EMPTY and line.live and now_ns - feed.kept.missed_ns >= MISSED_NS:
                self.book_lost(out, line, "updates came, but no snapshot before", recv_ns)
        else:
            again = not is_publishable(line)  # meanwhile the top came from tickers
            feed.book.seen_ns = now_ns
            if source.quotes_from_books:
                feed.quote.seen_ns = now_ns
                if (result is UpdateResult.TOP or again) and line.live:
                    publish_quote(out, line, book.quote(line.symbol), recv_ns)
            if feed.kept.due and line.live and is_due(line, now_ns):
                self._publish_kept(out, line, book)

    def _publish_kept(self, out: Output, line: Line, book: Book) -> None:
        line.feed.kept.due, line.feed.kept.published_ns = False, self._log.now_ns
        out.changed.add(line.symbol)
        self._book(out, line, book.picture(line.symbol), book.recv_ns)

    def publish_due_books(self, out: Output) -> None:
        """Publish the kept books that changed since they were last published."""
        for line, book in self._books.due(self._log.now_ns):
            self._publish_kept(out, line, book)

    def book_lost(self, out: Output, line: Line, reason: str, recv_ns: int) -> None:
        """Report that a line's book is not known."""
        out.counts["book, lost"] += 1
        out.changed.add(line.symbol)
        if line.live:
            line.feed.kept.missed_ns = self._log.now_ns
            out.add_status(line.symbol, FeedStatus(line.symbol, line.source.name, "book_lost", reason, recv_ns))

    # -- which source is followed

    def switch(self, out: Output, switch: Switch, recv_ns: int) -> None:
        """Follow the new line from where the old one ended, beginning with what it has buffered since then."""
        old, new, choice = switch
        instrument, previous = new.instrument, new.instrument.active
        instrument.active, instrument.since_ns, instrument.reason = choice.source, recv_ns, choice.reason
        out.switches[previous, choice.source] += 1
        status = FeedStatus(new.symbol, choice.source, "switched", choice.reason, recv_ns, previous)
        out.add_status(new.symbol, status)
        trades_to_ns = quotes_to_ns = 0
        if old is not None:
            trades_to_ns, quotes_to_ns = _covered_to_ns(old), old.feed.quote.seen_ns
            old.feed.failures += choice.failed
            old.step_back()
        book = new.book if is_publishable(new) else None
        has_quote = book is not None and new.source.quotes_from_books
        for _, received_ns, tick in new.take_over():
            if isinstance(tick, QuoteTick):
                if not has_quote and received_ns + new.source.state.offset_ns > quotes_to_ns:
                    self._quote(out, new, tick, received_ns)
            elif _market_ns(new, tick, received_ns) <= trades_to_ns:
                if new.source.contiguous:
                    new.trades.continue_after(tick)
            elif self._is_new(out, new, tick, received_ns):
                publish_trade(out, new, tick, received_ns)
        if book is not None:
            if has_quote:
                publish_quote(out, new, book.quote(new.symbol), book.recv_ns)
            self._publish_kept(out, new, book)


def _market_ns(line: Line, tick: TradeTick, recv_ns: int) -> int:
    """When a trade was made, in log time: the venue's time, corrected for its clock's difference from ours."""
    state = line.source.state
    own_ns = recv_ns if tick.ts_exchange is None else tick.ts_exchange + state.usual_latency_ns
    return own_ns + state.offset_ns


def _covered_to_ns(line: Line) -> int:
    """Until when a formerly followed line has covered the market's trades, in log time."""
    state, seen_ns = line.source.state, line.feed.trade.seen_ns
    newest_ts = line.trades.newest_ts
    return min(newest_ts + state.usual_latency_ns + state.offset_ns, seen_ns) if newest_ts else seen_ns
