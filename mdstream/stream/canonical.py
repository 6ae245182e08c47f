"""One partition's stream: raw records in, numbered public events out. A pure function of the log and its state.

    record ─ log time ─ decode ─> ticks ─> is its source followed? ── no: buffered, in case it has to take over
       │                                       └ yes: dedupe ─> new ones ─ number ─ encode ─> Trade, Quote, BookL2
       ├ not understood ─> dead letter              └ holes ─┐
       ├ ingestors' heartbeats, status ─> FeedStatus         v
       ├ four times a second ─> feed_monitor.py: gaps, silence, which source to follow ─> Gap, Heartbeat, switch
       └ changes of a book ─> kept, followed or not (books.py) ─ its top, its best levels ─> Quote, BookL2

The output depends only on the order of the records, not on batch boundaries, the clock or the process: reprocessing
from a restored state gives the same bytes, with the same `seq`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import msgspec

from mdstream import events, repairs
from mdstream.dead import dead_letter
from mdstream.errors import FrameError, MisplacedError
from mdstream.events import BookL2, FeedStatus, Quote, Trade, encode
from mdstream.records import HEARTBEAT, LAST_NS, MS, OURS, STATUS, Record, decode_raw
from mdstream.stream import clock, gaps
from mdstream.stream.book import Book, Said
from mdstream.stream.books import Books, is_due, stands
from mdstream.stream.bounds import CHECKS, MAX_ID, check_trade
from mdstream.stream.feed_monitor import FeedMonitor, Switch
from mdstream.stream.lines import Line, Source, Venue
from mdstream.stream.output import NO_HEADERS, Output
from mdstream.stream.rules import Rules
from mdstream.stream.state import NOT_BUFFERED, Feed, Instrument, LogState, SourceState
from mdstream.ticks import NO_ID, BookTick, BookUpdate, Control, QuoteTick, Tick, TradeTick
from mdstream.venues.feed import BOOK

MAX_ERRORS = 20
"""Most error frames of venues kept for the log between two reports; all are counted."""

PLATFORM = "mdstream"
"""The provider in events about the platform itself."""


class _Status(msgspec.Struct):
    """An ingestor's report on its connection: the value of a raw record of kind `status`."""

    provider: str
    state: str
    reason: str | None = None


_decode_status = msgspec.json.Decoder(_Status).decode


class Canonical:
    """The state of one raw partition and the step that advances it.

    `announces` returns whether a key belongs to this partition. Frames of instruments that do not are refused. Of
    providers: an ingestor writes its status records to every partition of every topic it writes to, and only one of
    these publishes them.
    `position` is the offset of the next record to process. With a restored state, records have to be passed from
    `read_from` on; those before `position` only refill buffers and books.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        venues: Iterable[Venue],
        *,
        rules: Rules,
        announces: Callable[[str], bool],
        instruments: dict[str, Instrument] | None = None,
        log: LogState | None = None,
        position: int = 0,
    ) -> None:
        self.instruments = instruments if instruments is not None else {}
        self.log = log if log is not None else LogState()
        self.position = position
        self.changed: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.switches: Counter[tuple[str, str]] = Counter()
        """By the source left and the one switched to."""
        self.errors: list[str] = []
        self.numbers_from: int | None = None
        """Set if there is output already but no state: the offset its numbering started from. Starting behind that
        offset means the state was lost, which is published."""
        self._refused_offset = NOT_BUFFERED
        self._topic, self._partition = topic, partition
        self.rules, self._announces = rules, announces
        self.sources = {
            venue.name.encode(): Source(venue, self.log.sources.setdefault(venue.name, SourceState()))
            for venue in venues
        }
        self.monitor = FeedMonitor(self.log, self.sources.values(), rules, announces)
        self.books = Books(self.instruments)
        for symbol in sorted(self.instruments):
            for name in self.instruments[symbol].feeds:
                if source := self.sources.get(name.encode()):
                    self.books.restore(self._line(source, symbol, 0))
        self._next = self.read_from

    @property
    def read_from(self) -> int:
        """The offset to read from: where the oldest buffer or book begins, at most `position`."""
        feeds = (feed for instrument in self.instruments.values() for feed in instrument.feeds.values())
        buffered = [feed.buffered_from for feed in feeds if feed.buffered_from != NOT_BUFFERED]
        return min([*buffered, *self.books.begins(), self.position])

    def step(self, records: Sequence[Record]) -> Output:  # noqa: C901  a call costs more than a branch here
        """Process records in order; what to publish."""
        out = Output()
        if records:
            records = self._follow_on(out, records)
        log, sources, trade, other = self.log, self.sources, self._trade, self._other
        for record in records:
            source = None
            self.position = record.offset
            try:
                provider, recv_ns, kind = decode_raw(record)
                source = sources.get(provider)
                if source is None:
                    self._strange(out, provider, kind, record.value or b"", recv_ns)
                    continue
                ahead_ns = recv_ns + source.state.offset_ns - log.now_ns
                if 0 < ahead_ns <= clock.LEAP_NS:
                    log.now_ns += ahead_ns
                elif ahead_ns > 0 or ahead_ns < -clock.BEHIND_NS:
                    clock.advance(log, source.state, recv_ns)
                if log.now_ns >= log.due_ns:
                    self._look(out, recv_ns)
                if kind in OURS:
                    self._ours(out, source, kind, record.value or b"", recv_ns)
                    continue
                for tick in source.decode(record.value or b""):
                    try:
                        if type(tick) is TradeTick:
                            trade(out, source, tick, recv_ns)
                        else:
                            other(out, source, tick, recv_ns)
                    except FrameError as error:  # the frame's other ticks are still good
                        self._refuse(out, record, source, tick, error, recv_ns)
            except Exception as error:  # whatever a venue sends, the stream continues
                self._dead(out, record, source, error)
        if records:
            self.position = records[-1].offset + 1
        return out

    def _follow_on(self, out: Output, records: Sequence[Record]) -> Sequence[Record]:
        """The records to process. If records before them are gone from the log, the books that need these are lost."""
        expected, self._next = self._next, records[-1].offset + 1
        if records[0].offset > expected:
            for line in self.books.lose_before(records[0].offset):
                self._book_lost(out, line, "records of the raw log are gone", self.log.now_ns)
        return self._refill(records) if records[0].offset < self.position else records

    def _new_line(self, source: Source, symbol: str, recv_ns: int) -> Line:
        """As `_line`, for a symbol from a frame. Raises MisplacedError if it belongs to another partition.

        A symbol in the restored state stays: it was here before the partition count changed.
        """
        if symbol not in self.instruments and not self._announces(symbol):
            raise MisplacedError(symbol, self._partition)
        return self._line(source, symbol, recv_ns)

    def _line(self, source: Source, symbol: str, recv_ns: int) -> Line:
        """A source's line of an instrument, created if missing. The first source to send anything is followed."""
        line = source.lines.get(symbol)
        if line is not None:
            return line
        instrument = self.instruments.setdefault(symbol, Instrument())
        line = Line(source, symbol, instrument, instrument.feeds.setdefault(source.name, Feed()))
        source.lines[symbol] = line
        policy, beside = self.rules.of(symbol), instrument.active or next(iter(instrument.feeds))
        line.allowed = self.rules.allows(symbol, source.name, beside=beside)
        if line.allowed:
            if not (policy.merge or instrument.active):
                instrument.active, instrument.since_ns, instrument.reason = source.name, recv_ns, "the first with data"
                instrument.begun_ns = self.log.now_ns
            line.live = policy.merge or instrument.active == source.name
            self.monitor.add(line)
        return line

    # -- trades

    def _trade(self, out: Output, source: Source, tick: TradeTick, recv_ns: int) -> None:
        ts_exchange = tick.ts_exchange
        if not (
            tick.price > 0 <= tick.size
            and NO_ID <= tick.first_id <= tick.last_id <= MAX_ID
            and (ts_exchange is None or 0 <= ts_exchange < LAST_NS)
        ):
            check_trade(tick)
        line = source.lines.get(tick.symbol) or self._new_line(source, tick.symbol, recv_ns)
        self.changed.add(tick.symbol)
        if tick.recovered:
            self._late_trade(out, line, tick, recv_ns)
            return
        trades, now_ns = line.trades, self.log.now_ns
        line.feed.trade.seen_ns = now_ns
        if ts_exchange is not None and not tick.resume:  # a resume point may be hours old
            source.state.latency_ns = recv_ns - ts_exchange
        if not line.live:
            self._stand_by(out, line, tick, recv_ns)
            return
        seen = trades.seen
        # The next id of the id space in use: the only check that nearly every trade needs.
        if tick.first_id == seen.last + 1 and tick.view == trades.view:
            seen.last = tick.last_id
            trades.view_ns = now_ns
            if ts_exchange is not None and ts_exchange > trades.newest_ts:
                trades.newest_ts, trades.newest_first = ts_exchange, tick.first_id
        elif not self._is_new(out, line, tick, recv_ns):
            return
        self._publish_trade(out, line, tick, recv_ns)

    def _publish_trade(self, out: Output, line: Line, tick: TradeTick, recv_ns: int) -> None:
        instrument, source = line.instrument, line.source
        seq = instrument.trade_seq or recv_ns // 1000
        instrument.trade_seq = seq + 1
        event = Trade(
            line.symbol,
            seq,
            source.name,
            tick.trade_id,
            tick.price,
            tick.size,
            tick.side,
            tick.ts_exchange,
            recv_ns,
            tick.count,
            tick.recovered,
        )
        out.trades.append((line.key, encode(event), recv_ns // MS, NO_HEADERS))
        source.trades += 1

    def _is_new(self, out: Output, line: Line, tick: TradeTick, recv_ns: int) -> bool:
        verdict = line.trades.admit(tick, self.log.now_ns, contiguous=line.source.contiguous)
        if verdict == "new":
            return True
        self.counts[f"trade, {verdict}"] += 1
        if verdict == "restart":
            reason = f"the venue counts its trades from {tick.trade_id} on"
            out.tell(line.symbol, FeedStatus(line.symbol, line.source.name, "seq_reset", reason, recv_ns))
        return verdict == "restart"

    def _stand_by(self, out: Output, line: Line, tick: TradeTick, recv_ns: int) -> None:
        if not line.allowed:
            self.counts["not a source of the instrument"] += 1
        elif line.trades.is_later(tick):
            line.stand_by(self.position, recv_ns, tick)
        else:
            self._late_trade(out, line, tick, recv_ns)

    def _late_trade(self, out: Output, line: Line, tick: TradeTick, recv_ns: int) -> None:
        """A trade with an older id: published only if it was missing. Raises FrameError if it cannot be that one."""
        if tick.recovered and (doubt := line.trades.doubt(tick)) is not None:
            reason = "does the REST interface belong to the websocket's venue?"
            raise FrameError(f"recovered trade {tick.trade_id} is not the one that is missing: {doubt}; {reason}")
        if line.trades.fill(tick):
            self._publish_trade(out, line, tick, recv_ns)
        else:
            self.counts["trade, no hole" if tick.recovered else "trade, repeat"] += 1

    # -- other ticks

    def _other(self, out: Output, source: Source, tick: Tick, recv_ns: int) -> None:
        if isinstance(tick, Control):
            self._control(source.name, tick)
            return
        CHECKS[type(tick)](tick)
        if isinstance(tick, BookUpdate):
            self._update(out, source, tick, recv_ns)
            return
        line = source.lines.get(tick.symbol) or self._new_line(source, tick.symbol, recv_ns)
        self.changed.add(tick.symbol)
        if isinstance(tick, QuoteTick):
            line.feed.quote.seen_ns = self.log.now_ns
            if not line.live:
                if line.allowed:
                    line.stand_by(self.position, recv_ns, tick)
            elif line.book is None or not stands(line):
                self._quote(out, line, tick, recv_ns)
            else:
                self.counts["quote, the book has it"] += 1
        elif isinstance(tick, BookTick):
            line.feed.book.seen_ns = self.log.now_ns
            if line.live:
                self._book(out, line, tick, recv_ns)

    def _quote(self, out: Output, line: Line, tick: QuoteTick, recv_ns: int) -> None:
        if line.feed.quotes.admit(tick, recv_ns):
            self._publish_quote(out, line, tick, recv_ns)
        else:
            self.counts["quote, repeat"] += 1

    def _publish_quote(self, out: Output, line: Line, tick: QuoteTick, recv_ns: int) -> None:
        instrument, source = line.instrument, line.source
        seq = instrument.quote_seq or recv_ns // 1000
        instrument.quote_seq = seq + 1
        event = Quote(
            line.symbol, seq, source.name, tick.bid, tick.bid_size, tick.ask, tick.ask_size, tick.ts_exchange, recv_ns
        )
        out.quotes.append((line.key, encode(event), recv_ns // MS, NO_HEADERS))
        source.quotes += 1

    def _book(self, out: Output, line: Line, tick: BookTick, recv_ns: int) -> None:
        if tick.update_id != NO_ID and not line.feed.books.admit(tick.update_id, recv_ns):
            self.counts["book, repeat"] += 1
            return
        instrument, source = line.instrument, line.source
        seq = instrument.book_seq or recv_ns // 1000
        instrument.book_seq = seq + 1
        event = BookL2(line.symbol, seq, source.name, tick.bids, tick.asks, tick.ts_exchange, recv_ns)
        out.books.append((line.key, encode(event), recv_ns // MS, NO_HEADERS))
        source.books += 1

    # -- books that are kept (books.py)

    def _update(self, out: Output, source: Source, tick: BookUpdate, recv_ns: int) -> None:
        line = source.lines.get(tick.symbol) or self._new_line(source, tick.symbol, recv_ns)
        if not line.allowed:
            self.counts["not a source of the instrument"] += 1
            return
        self.changed.add(tick.symbol)
        now_ns, feed = self.log.now_ns, line.feed
        book = self.books.of(line)
        said = self.books.apply(line, tick, self.position, recv_ns, now_ns)
        if said is Said.LOST:
            self._book_lost(out, line, "it was crossed for long, or ran out of levels", recv_ns)
        elif said is Said.PASSED or said is Said.CROSSED:
            self.counts[f"book, {said.value}"] += 1
        else:
            again = not stands(line)  # meanwhile the top came from tickers
            feed.book.seen_ns = feed.quote.seen_ns = now_ns
            if (said is Said.TOP or again) and line.live:
                self._publish_quote(out, line, book.quote(line.symbol), recv_ns)
            if feed.kept.due and line.live and is_due(line, now_ns):
                self._publish_kept(out, line, book)

    def _publish_kept(self, out: Output, line: Line, book: Book) -> None:
        line.feed.kept.due, line.feed.kept.told_ns = False, self.log.now_ns
        self.changed.add(line.symbol)
        self._book(out, line, book.picture(line.symbol), book.recv_ns)

    def _book_lost(self, out: Output, line: Line, reason: str, recv_ns: int) -> None:
        self.counts["book, lost"] += 1
        self.changed.add(line.symbol)
        if line.live:
            out.tell(line.symbol, FeedStatus(line.symbol, line.source.name, "book_lost", reason, recv_ns))

    def _control(self, provider: str, tick: Control) -> None:
        self.counts[f"control {tick.kind}"] += 1
        if tick.kind in ("error", "notice", "shutdown") and len(self.errors) < MAX_ERRORS:
            self.errors.append(f"{provider} {tick.kind}: {tick.detail}")

    # -- which source is followed

    def _look(self, out: Output, recv_ns: int) -> None:
        begin, self.numbers_from = self.numbers_from, None
        if begin is not None and self.position > begin:
            reason = (
                f"the state of {self._topic}[{self._partition}] is lost: its instruments get new numbers from now on"
            )
            out.tell(events.SYSTEM, FeedStatus(events.SYSTEM, PLATFORM, "seq_jump", reason, recv_ns))
        for line, book in self.books.due(self.log.now_ns):
            self._publish_kept(out, line, book)
        for switch in self.monitor.evaluate(out, recv_ns):
            self._switch(out, switch, recv_ns)
        self.changed.update(self.books.keep(self.position, self.log.now_ns))
        self.changed |= self.monitor.changed
        self.monitor.changed.clear()

    def _switch(self, out: Output, switch: Switch, recv_ns: int) -> None:
        """Follow the new line from where the old one ended, beginning with what it has buffered since then."""
        old, new, choice = switch
        instrument, previous = new.instrument, new.instrument.active
        instrument.active, instrument.since_ns, instrument.reason = choice.source, recv_ns, choice.reason
        self.switches[previous, choice.source] += 1
        status = FeedStatus(new.symbol, choice.source, "switched", choice.reason, recv_ns, previous)
        out.tell(new.symbol, status)
        trades_to_ns = quotes_to_ns = 0
        if old is not None:
            trades_to_ns, quotes_to_ns = _covered_to_ns(old), old.feed.quote.seen_ns
            old.feed.failures += choice.failed
            old.step_back()
        book = new.book if stands(new) else None
        for _, received_ns, tick in new.take_over():
            if isinstance(tick, QuoteTick):
                if book is None and received_ns + new.source.state.offset_ns > quotes_to_ns:
                    self._quote(out, new, tick, received_ns)
            elif _market_ns(new, tick, received_ns) <= trades_to_ns:
                if new.source.contiguous:
                    new.trades.go_on_behind(tick)
            elif self._is_new(out, new, tick, received_ns):
                self._publish_trade(out, new, tick, received_ns)
        if book is not None:
            self._publish_quote(out, new, book.quote(new.symbol), book.recv_ns)
            self._publish_kept(out, new, book)

    def _refill(self, records: Sequence[Record]) -> list[Record]:
        """Refill the buffers and books to their contents at `position`; the records from there on."""
        for record in records:
            if record.offset < self.position:
                self._refill_from(record)
        return [record for record in records if record.offset >= self.position]

    def _refill_from(self, record: Record) -> None:
        try:
            provider, recv_ns, kind = decode_raw(record)
            source = self.sources.get(provider)
            ticks = source.decode(record.value or b"") if source is not None and kind not in OURS else ()
        except Exception:  # reported when it was first read
            return
        for tick in ticks:
            if source is None or isinstance(tick, (BookTick, Control)):
                continue
            line = source.lines.get(tick.symbol)
            if line is None:
                continue
            if isinstance(tick, BookUpdate):
                self.books.refill(line, tick, record.offset, recv_ns)
            elif line.live or not 0 <= line.feed.buffered_from <= record.offset:
                continue
            elif isinstance(tick, QuoteTick) or (not tick.recovered and line.trades.is_later(tick)):
                with suppress(FrameError):  # refused when it was first read
                    CHECKS[type(tick)](tick)
                    line.stand_by(record.offset, recv_ns, tick)

    # -- our own records, and frames that cannot be understood

    def _strange(self, out: Output, provider: bytes, kind: bytes, frame: bytes, recv_ns: int) -> None:
        """A record of an unknown provider. Raises FrameError for a venue's frame."""
        if kind not in OURS:
            raise FrameError(f"unknown provider {provider.decode('utf-8', 'replace')!r}")
        self._ours(out, None, kind, frame, recv_ns)

    def _ours(self, out: Output, source: Source | None, kind: bytes, frame: bytes, recv_ns: int) -> None:
        """A record written by an ingestor or by the repair."""
        self.counts[kind.decode()] += 1
        if kind == HEARTBEAT:
            if source is not None:
                source.state.beat_ns = self.log.now_ns
        elif kind == STATUS:
            self._status(out, source, _decode_status(frame), recv_ns)
        else:
            self._unrecoverable(out, repairs.decode_unrecoverable(frame), recv_ns)

    def _status(self, out: Output, source: Source | None, said: _Status, recv_ns: int) -> None:
        if source is not None:
            source.state.down_ns = 0 if said.state == "connected" else self.log.now_ns
            source.state.down_reason = said.reason or said.state
            source.state.linked_ns = self.log.now_ns
        if self._announces(said.provider):
            out.tell(said.provider, FeedStatus(events.SYSTEM, said.provider, said.state, said.reason, recv_ns))

    def _unrecoverable(self, out: Output, said: repairs.Unrecoverable, recv_ns: int) -> None:
        if not 0 <= said.first_id <= said.last_id:
            raise FrameError(f"trades {said.first_id} to {said.last_id} are no range")
        source = self.sources.get(said.provider.encode())
        line = source.lines.get(said.symbol) if source is not None else None
        if line is not None and line.trades.view == said.view:
            self.changed.add(said.symbol)
            changes = gaps.lose(line.feed, said.first_id, said.last_id, said.reason, self.log.now_ns)
            self.monitor.report(out, line, changes, recv_ns)

    def _refuse(self, out: Output, record: Record, source: Source, tick: Tick, error: FrameError, recv_ns: int) -> None:
        """Dead-letter an impossible tick: one letter per frame, with the first one's reason."""
        self.counts["refused"] += 1
        recovered = isinstance(tick, TradeTick) and tick.recovered
        if self._refused_offset != record.offset:
            self._refused_offset = record.offset
            # An error in a REST answer is no fault of the live feed.
            self._dead(out, record, None if recovered else source, error)
        if isinstance(tick, TradeTick) and recovered and (line := source.lines.get(tick.symbol)) is not None:
            changes = gaps.lose(line.feed, tick.first_id, tick.last_id, str(error), self.log.now_ns)
            self.monitor.report(out, line, changes, recv_ns)

    def _dead(self, out: Output, record: Record, source: Source | None, error: Exception) -> None:
        self.counts["dead"] += 1
        told = isinstance(error, (FrameError, msgspec.MsgspecError))
        if source is not None and not isinstance(error, MisplacedError):  # that is not the venue's fault
            source.state.faults += 1
            self._doubt_book(out, source, record)
        letter = dead_letter(
            error=str(error) if told else f"{type(error).__name__}: {error}",
            topic=self._topic,
            partition=self._partition,
            offset=record.offset,
            key=record.key,
            value=record.value,
            headers=record.headers,
        )
        out.dead.append((self._topic.encode(), letter, record.timestamp, NO_HEADERS))

    def _doubt_book(self, out: Output, source: Source, record: Record) -> None:
        """Lose the book that a frame may have updated: it could not be understood."""
        _, recv_ns, kind = decode_raw(record)
        line = source.lines.get((record.key or b"").decode("utf-8", "replace"))
        if line is not None and kind in (BOOK, b"") and self.books.lose(line):
            self._book_lost(out, line, "a frame of it could not be understood", recv_ns)


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
