"""A source's feed of one instrument as the hot path needs it, and the buffer of a standby.

The buffer is not in the checkpoint: it is refilled from the raw records from `Feed.buffered_from` on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from mdstream.records import Record, contract_size_of
from mdstream.stream.book import Book
from mdstream.stream.output import Output
from mdstream.stream.state import NOT_BUFFERED, Feed, Instrument, SourceState
from mdstream.ticks import QuoteTick, Tick, TradeTick
from mdstream.trading_hours import TradingHours, TradingSession

MAX_BUFFERED = 20_000
"""Ticks of one standby; some ten megabytes."""

Buffered = tuple[int, int, TradeTick | QuoteTick]
"""Offset of the raw record, its receive time in ns, and the tick."""


class Venue(Protocol):
    """What the stream needs from a provider."""

    @property
    def name(self) -> str: ...

    @property
    def contiguous_ids(self) -> bool: ...

    @property
    def quotes_from_books(self) -> bool: ...

    @property
    def sizes_in_contracts(self) -> bool: ...

    def decode(self, frame: bytes, contract_size: bytes = b"") -> Sequence[Tick]: ...


class Source:
    """One provider within a partition: its decoder, its lines by symbol, and counts of its canonical events."""

    __slots__ = (
        "books", "contiguous", "decode", "in_contracts", "lines", "name", "quotes", "quotes_from_books", "state",
        "trades",
    )  # fmt: skip

    def __init__(self, venue: Venue, state: SourceState) -> None:
        self.name: str = venue.name
        self.decode: Callable[..., Sequence[Tick]] = venue.decode
        self.in_contracts: bool = venue.sizes_in_contracts
        self.contiguous: bool = venue.contiguous_ids
        self.quotes_from_books: bool = venue.quotes_from_books
        self.state = state
        self.lines: dict[str, Line] = {}
        self.trades = self.quotes = self.books = 0

    def read(self, record: Record) -> Sequence[Tick]:
        """The ticks of a record that may say what a contract is worth."""
        contract_size = contract_size_of(record)
        ticks = self.decode(record.value or b"", contract_size)
        if contract_size and type(tick := next(iter(ticks), None)) is TradeTick and not tick.recovered:
            line = self.lines.get(tick.symbol)
            if line is not None:
                line.feed.contract_size = contract_size.decode()  # what is missing between live trades is worth as much
        return ticks

    def report(self, out: Output) -> None:
        """Hand over the counts since the last report."""
        latency_ns = self.state.newest_latency_ns
        if self.trades and latency_ns is not None:
            out.latencies_ns[self.name] = latency_ns
        out.events["trade", self.name] = self.trades
        out.events["quote", self.name] = self.quotes
        out.events["book", self.name] = self.books
        self.trades = self.quotes = self.books = 0


class Line:
    """One source's feed of one instrument. `live`: it is published; else it is a standby, or no allowed source.

    `book`: for a venue that sends updates of its book; kept whether live or not. `hours`: None if its market does not
    close.
    """

    __slots__ = (
        "allowed",
        "book",
        "buffer",
        "feed",
        "hours",
        "instrument",
        "key",
        "live",
        "source",
        "symbol",
        "trades",
    )

    def __init__(
        self, source: Source, symbol: str, instrument: Instrument, feed: Feed, hours: TradingHours | None = None
    ) -> None:
        self.source, self.symbol, self.key, self.hours = source, symbol, symbol.encode(), hours
        self.instrument, self.feed = instrument, feed
        self.trades = feed.trades
        self.live = self.allowed = False
        self.buffer: deque[Buffered] = deque()
        self.book: Book | None = None

    def session_at(self, ts_ns: int) -> TradingSession | None:
        """The trading session of the instrument: its market's, halted, or begun anew by a resumption.

        None if its market does not close.
        """
        if self.hours is None:
            return None
        session, bell_ns = self.hours.at(ts_ns), self.instrument.bell_ns
        if session.rest or not bell_ns:
            return session
        name = "halted" if self.instrument.halted else session.name
        return TradingSession(name, max(session.from_ns, bell_ns), session.to_ns)

    def stand_by(self, offset: int, recv_ns: int, tick: TradeTick | QuoteTick) -> None:
        """Buffer a tick, in case this source has to take over."""
        buffer = self.buffer
        if not buffer:
            self.feed.buffered_from = offset
        elif len(buffer) >= MAX_BUFFERED:
            self._drop(buffer[0][0] + 1)
        buffer.append((offset, recv_ns, tick))

    def forget_before(self, recv_ns: int) -> bool:
        """Drop ticks received before a time; whether there were any."""
        buffer = self.buffer
        before = len(buffer)
        while buffer and buffer[0][1] < recv_ns:
            self._drop(buffer[0][0] + 1)
        return len(buffer) < before

    def forget_all(self) -> None:
        """Drop all buffered ticks: their records are no longer in the log."""
        self.buffer.clear()
        self.feed.buffered_from = NOT_BUFFERED

    def _drop(self, offset: int) -> None:
        """Drop the ticks of records before `offset`: those of one record stay or go together."""
        buffer = self.buffer
        while buffer and buffer[0][0] < offset:
            buffer.popleft()
        self.feed.buffered_from = buffer[0][0] if buffer else NOT_BUFFERED

    def take_over(self) -> Sequence[Buffered]:
        """Go live; the ticks buffered meanwhile."""
        buffered, self.buffer = self.buffer, deque()
        self.live = True
        self.feed.buffered_from = NOT_BUFFERED
        return buffered

    def step_back(self) -> None:
        """Become a standby."""
        self.live = False
        self.trades.seen.park()
