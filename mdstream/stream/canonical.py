"""One partition's stream: raw records in, numbered public events out. A pure function of the log and its state.

    record ─ log time ─ decode ─> ticks ─> publication.py: buffer, or dedupe and number ─> Trade, Quote, BookL2
       ├ not understood ─> dead letter               └ holes ─┐
       ├ ingestors' heartbeats, status ─> FeedStatus          v
       └ four times a second ─> feed_monitor.py: gaps, silence, which source to follow ─> Gap, Heartbeat, switch

The output depends only on the order of the records, not on batch boundaries, the clock or the process: reprocessing
from a restored state gives the same bytes, with the same `seq`.

Only what cannot be understood becomes a dead letter: invalid headers, whatever a venue's decoder raises, an impossible
tick. Any other exception is a fault of ours. It leaves `step` and ends the worker, before it spoils the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import dropwhile

import msgspec

from mdstream import events, repairs
from mdstream.errors import FrameError, MisplacedError
from mdstream.events import FeedStatus
from mdstream.records import HEARTBEAT, LAST_NS, MS, OURS, STATUS, Record, decode_raw
from mdstream.stream import clock, gaps, history, ranges, timed
from mdstream.stream.books import Books
from mdstream.stream.bounds import CHECKS, MAX_ID
from mdstream.stream.dead import dead_letter
from mdstream.stream.feed_monitor import FeedMonitor
from mdstream.stream.lines import Line, Source, Venue
from mdstream.stream.output import NO_HEADERS, Output
from mdstream.stream.publication import Publication
from mdstream.stream.rules import Rules
from mdstream.stream.state import NOT_BUFFERED, Instrument, LogState, SourceState
from mdstream.ticks import BarTick, BookTick, BookUpdate, Control, HaltTick, QuoteTick, Tick, TradeTick
from mdstream.venues.feed import BOOK
from mdstream.venues.timed import TRADES

LAST_OFFSET = 2**63 - 1
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
        self._books = Books(self.instruments)
        self._publication = Publication(
            topic.rpartition(".")[2],
            partition,
            self.instruments,
            self.log,
            rules=rules,
            announces=announces,
            monitor=self.monitor,
            books=self._books,
        )
        for symbol in sorted(self.instruments):
            for name in self.instruments[symbol].feeds:
                if source := self.sources.get(name.encode()):
                    self._books.restore(self._publication.add_line(source, symbol, 0))
        self._next = self.read_from
        self._went_back = False
        """The log does not reach to what was processed last: it was recreated, or has lost its end."""

    @property
    def read_from(self) -> int:
        """The offset to read from: where the oldest buffer or book begins, at most `position`."""
        feeds = (feed for instrument in self.instruments.values() for feed in instrument.feeds.values())
        buffered = [feed.buffered_from for feed in feeds if feed.buffered_from != NOT_BUFFERED]
        return min([*buffered, *self._books.begins(), self.position])

    def step(self, records: Sequence[Record]) -> Output:  # noqa: C901  a call costs more than a branch here
        """Process records in order; what to publish, and what changed."""
        out = Output()
        if records:
            records = self._follow_on(out, records)
        log, sources, advance = self.log, self.sources, clock.advance
        trade, other = self._publication.trade, self._publication.other
        for record in records:
            try:
                provider, recv_ns, kind = decode_raw(record)
            except FrameError as error:
                self._dead(out, record, None, error)
                continue
            source = sources.get(provider)
            if source is None:
                self._no_source(out, record, provider, kind, recv_ns)
                continue
            advance(log, source.state, recv_ns)
            if log.now_ns >= log.due_ns:
                self._evaluate(out, record.offset, recv_ns)
            if kind in OURS:
                self._ours(out, record, source, kind, recv_ns)
                continue
            try:
                ticks = source.read(record) if source.in_contracts else source.decode(record.value or b"")
            except Exception as error:  # whatever a venue sends, and whoever wrote its decoder
                self._dead(out, record, source, error)
                continue
            for tick in ticks:
                try:
                    if type(tick) is TradeTick:
                        trade(out, source, tick, recv_ns, record.offset)
                    else:
                        other(out, source, tick, recv_ns, record)
                except FrameError as error:  # the frame's other ticks are still good
                    self._refuse(out, record, source, tick, error, recv_ns)
        if records:
            self.position, log.appended_ms = records[-1].offset + 1, records[-1].timestamp
        self._settle(out)
        for source in sources.values():
            source.report(out)
        return out

    def _follow_on(self, out: Output, records: Sequence[Record]) -> Sequence[Record]:
        """The records to process. If records before them are gone from the log, the books that need these are lost."""
        expected, self._next = self._next, records[-1].offset + 1
        if records[0].offset < expected:
            self._went_back = True
        elif records[0].offset > expected:
            self._lose_books(out, records[0].offset)
        if self._went_back:
            return self._only_new(out, records)
        return self._refill(records) if records[0].offset < self.position else records

    def _only_new(self, out: Output, records: Sequence[Record]) -> Sequence[Record]:
        """Those that were written after what was processed last; the first one begins a new count of offsets."""
        new = list(dropwhile(lambda record: record.timestamp <= self.log.appended_ms, records))
        if not new:
            return new
        self._went_back = False
        self._lose_books(out, LAST_OFFSET)
        for source in self.sources.values():
            for line in source.lines.values():
                line.forget_all()
                out.changed.add(line.symbol)
        name, was, self.position = f"{self._topic}[{self._partition}]", self.position, new[0].offset
        reason = f"{name} was read up to offset {was} and goes on at {self.position}: it was recreated, or lost its end"
        status = FeedStatus(events.SYSTEM, PLATFORM, "log_reset", reason, self.log.now_ns)
        out.add_status(events.SYSTEM, status)
        return new

    def _lose_books(self, out: Output, offset: int) -> None:
        for line in self._books.lose_before(offset):
            self._publication.book_lost(out, line, "records of the raw log are gone", self.log.now_ns)

    def _evaluate(self, out: Output, offset: int, recv_ns: int) -> None:
        """What is done four times a second of log time, before the record at `offset`."""
        begin, self.numbers_from = self.numbers_from, None
        if begin is not None and offset > begin:
            reason = (
                f"the state of {self._topic}[{self._partition}] is lost: its instruments get new numbers from now on"
            )
            out.add_status(events.SYSTEM, FeedStatus(events.SYSTEM, PLATFORM, "seq_jump", reason, recv_ns))
        self._settle(out)
        self._publication.publish_due_books(out)
        for switch in self.monitor.evaluate(out, recv_ns):
            self._publication.switch(out, switch, recv_ns)
        out.changed.update(self._books.keep(offset, self.log.now_ns))

    def _settle(self, out: Output) -> None:
        """Hand over which instruments had data since the last call."""
        heard = self._publication.heard
        out.changed |= heard
        self.monitor.wake(heard)
        heard.clear()

    # -- after a restart

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
            ticks = source.read(record) if source is not None and kind not in OURS else ()
        except Exception:  # reported when it was first read
            return
        for tick in ticks:
            if source is None or isinstance(tick, (BookTick, HaltTick, BarTick, Control)):
                continue
            line = source.lines.get(tick.symbol)
            if line is None:
                continue
            if isinstance(tick, BookUpdate):
                self._books.refill(line, tick, record, recv_ns)
            elif line.live or not 0 <= line.feed.buffered_from <= record.offset:
                continue
            elif isinstance(tick, QuoteTick) or (not tick.recovered and line.trades.is_later(tick)):
                with suppress(FrameError):  # refused when it was first read
                    CHECKS[type(tick)](tick)
                    line.stand_by(record.offset, recv_ns, tick)

    # -- our own records, and frames that cannot be understood

    def _no_source(self, out: Output, record: Record, provider: bytes, kind: bytes, recv_ns: int) -> None:
        """A record of an unknown provider."""
        if kind in OURS:
            self._ours(out, record, None, kind, recv_ns)
        else:
            self._dead(out, record, None, FrameError(f"unknown provider {provider.decode('utf-8', 'replace')!r}"))

    def _ours(self, out: Output, record: Record, source: Source | None, kind: bytes, recv_ns: int) -> None:
        """A record written by an ingestor or by the repair."""
        out.counts[kind.decode()] += 1
        if kind == HEARTBEAT:
            if source is not None:
                source.state.beat_ns = self.log.now_ns
            return
        try:
            report = _decode_report(kind, record.value or b"")
        except Exception as error:  # as for a venue's frame
            self._dead(out, record, source, error)
            return
        if isinstance(report, _Status):
            self._status(out, source, report, recv_ns)
        elif isinstance(report, repairs.HistoryRequest):
            self._history(out, report, record.offset, recv_ns)
        elif isinstance(report, repairs.RangeRequest):
            self._range(out, report, record.offset, recv_ns)
        else:
            self._unrecoverable(out, report, recv_ns)

    def _status(self, out: Output, source: Source | None, status: _Status, recv_ns: int) -> None:
        if source is not None:
            source.state.down_ns = 0 if status.state == "connected" else self.log.now_ns
            source.state.down_reason = status.reason or status.state
            source.state.linked_ns = self.log.now_ns
        if self._announces(status.provider):
            event = FeedStatus(events.SYSTEM, status.provider, status.state, status.reason, recv_ns)
            out.add_status(status.provider, event)

    def _line(self, provider: str, symbol: str) -> Line | None:
        source = self.sources.get(provider.encode())
        return None if source is None else source.lines.get(symbol)

    def _history(self, out: Output, request: repairs.HistoryRequest, offset: int, recv_ns: int) -> None:
        line, merges = self._line(request.provider, request.symbol), self.rules.of(request.symbol).merge
        if line is not None:
            out.changed.add(request.symbol)
        out.add_gap(history.answer(line, request, offset, merges=merges), recv_ns // MS)

    def _range(self, out: Output, request: repairs.RangeRequest, offset: int, recv_ns: int) -> None:
        if request.interval == TRADES:
            line, merges = self._line(request.provider, request.symbol), self.rules.of(request.symbol).merge
            if line is not None:
                out.changed.add(request.symbol)
            out.add_gap(timed.answer(line, request, offset, merges=merges), recv_ns // MS)
            return
        try:
            instrument = self._publication.instrument(request.symbol)
        except MisplacedError as error:
            out.add_gap(ranges.refusal(request, offset, str(error)), recv_ns // MS)
            return
        out.add_gap(ranges.answer(instrument, request, offset, recv_ns), recv_ns // MS)
        if instrument.past:
            self.instruments[request.symbol] = instrument
            out.changed.add(request.symbol)

    def _unrecoverable(self, out: Output, lost: repairs.Unrecoverable, recv_ns: int) -> None:
        line = self._line(lost.provider, lost.symbol)
        if line is not None and line.trades.id_space == lost.id_space:
            out.changed.add(lost.symbol)
            changes = gaps.lose(line.feed, lost.first_id, lost.last_id, lost.reason, self.log.now_ns)
            self.monitor.report(out, line, changes, recv_ns)

    def _refuse(self, out: Output, record: Record, source: Source, tick: Tick, error: FrameError, recv_ns: int) -> None:
        """Dead-letter an impossible tick: one letter per frame, with the first one's reason."""
        out.counts["refused"] += 1
        recovered = isinstance(tick, BarTick) or (isinstance(tick, TradeTick) and tick.recovered)
        if self._refused_offset != record.offset:
            self._refused_offset = record.offset
            # An error in a REST answer is no fault of the live feed.
            self._dead(out, record, None if recovered else source, error)
        if isinstance(tick, TradeTick) and recovered and (line := source.lines.get(tick.symbol)) is not None:
            out.changed.add(line.symbol)
            changes = gaps.lose(line.feed, tick.first_id, tick.last_id, str(error), self.log.now_ns)
            self.monitor.report(out, line, changes, recv_ns)

    def _dead(self, out: Output, record: Record, source: Source | None, error: Exception) -> None:
        out.counts["dead"] += 1
        explained = isinstance(error, (FrameError, msgspec.MsgspecError))
        if source is not None and not isinstance(error, MisplacedError):  # that is not the venue's fault
            source.state.faults += 1
            self._lose_book(out, source, record)
        letter = dead_letter(
            error=str(error) if explained else f"{type(error).__name__}: {error}",
            topic=self._topic,
            partition=self._partition,
            offset=record.offset,
            key=record.key,
            value=record.value,
            headers=record.headers,
        )
        out.dead.append((self._topic.encode(), letter, record.timestamp, NO_HEADERS))

    def _lose_book(self, out: Output, source: Source, record: Record) -> None:
        """Lose the book that a frame may have updated: it could not be understood."""
        _, recv_ns, kind = decode_raw(record)
        line = source.lines.get((record.key or b"").decode("utf-8", "replace"))
        if line is not None and kind in (BOOK, b"") and self._books.lose(line):
            self._publication.book_lost(out, line, "a frame of it could not be understood", recv_ns)


_Report = _Status | repairs.Unrecoverable | repairs.HistoryRequest | repairs.RangeRequest


def _decode_report(kind: bytes, value: bytes) -> _Report:
    """The value of a record of kind STATUS or REPAIR. Raises FrameError or msgspec.MsgspecError."""
    if kind == STATUS:
        return _decode_status(value)
    report: repairs.Unrecoverable | repairs.HistoryRequest | repairs.RangeRequest = repairs.decode_report(value)
    if isinstance(report, repairs.RangeRequest):
        if not 0 <= report.begin < report.end <= LAST_NS:
            raise FrameError(f"the time from {report.begin} to before {report.end} is no range")
        return report
    if not 0 <= report.first_id <= report.last_id <= MAX_ID:
        raise FrameError(f"trades {report.first_id} to {report.last_id} are no range")
    return report
