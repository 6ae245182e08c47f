"""One partition's stream: raw records in, numbered public events out. A pure function of the log and its state.

    record ─ decode ─> ticks ─ dedupe ─> new ones ─ number ─> Trade, Quote, BookL2 ─ encode ─> canonical records
       └ not understood ─> dead letter          └ venue's control frames ─> counted; errors shown
       └ our own status records ─> FeedStatus

The output depends on the records' order only, not on how they are cut into batches, on the clock or on the process:
what is processed again from a restored state comes out byte for byte the same, with the same `seq`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from mdstream import events
from mdstream.dead import dead_letter
from mdstream.errors import FrameError
from mdstream.events import BookL2, FeedStatus, Quote, Trade
from mdstream.stream.ids import SeenIds
from mdstream.ticks import NO_ID, BookTick, Control, QuoteTick, Tick, TradeTick
from mdstream.transport.batch import Record

Decode = Callable[[bytes], Sequence[Tick]]
Headers = list[tuple[str, bytes]]
NO_HEADERS: Headers = []
Out = list[tuple[bytes | None, bytes | None, int, Headers]]
"""Records to publish: key, value, time stamp in ms, no headers."""

MS = 1_000_000
MOST_ERRORS = 20
"""Of the venues' error frames since the last look, so many are kept to be shown; all are counted."""

LAST_NS = 9_000_000_000_000_000_000
"""Times are before the year 2255, so that a `seq`, which starts at one in us, stays below 2**53."""

VIEW_SILENCE_NS = 10_000_000_000
"""A venue's other view of the same trades (trade, aggTrade) takes over once the one in use was silent for so long."""


class Feed(msgspec.Struct, array_like=True):
    """What one provider said last of one instrument."""

    view: str = ""
    view_ns: int = 0
    ids: SeenIds = msgspec.field(default_factory=SeenIds)
    quote_id: int = NO_ID
    quote: tuple[float | None, float | None, float | None, float | None, int | None] | None = None
    book_id: int = NO_ID


class Instrument(msgspec.Struct, array_like=True):
    """One instrument's state: the next number of each type of event (0: none yet), and its feeds by provider."""

    trade_seq: int = 0
    quote_seq: int = 0
    book_seq: int = 0
    feeds: dict[str, Feed] = {}


class _Status(msgspec.Struct):
    """What an ingestor says of its connection: the value of a raw record of kind `status`."""

    provider: str
    state: str
    reason: str | None = None


_decode_status = msgspec.json.Decoder(_Status).decode


class Tally:
    """How many events one provider's frames came to since the last look, and how late its last trade was."""

    __slots__ = ("books", "latency_ns", "name", "quotes", "trades")

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset()

    def reset(self) -> None:
        self.trades = self.quotes = self.books = 0
        self.latency_ns: int | None = None


class Output:
    """What a list of raw records comes to, by topic."""

    __slots__ = ("books", "dead", "quotes", "status", "trades")

    def __init__(self) -> None:
        self.trades: Out = []
        self.quotes: Out = []
        self.books: Out = []
        self.status: Out = []
        self.dead: Out = []


class Canonical:
    """The state of one raw partition and the step that moves it on.

    `decoders` maps a provider's name to its decode function. `announces` tells which providers' status records this
    partition passes on: an ingestor writes them to every partition, and one of them tells the public.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        decoders: Mapping[str, Decode],
        *,
        announces: Callable[[str], bool],
        instruments: dict[str, Instrument] | None = None,
    ) -> None:
        self.instruments = instruments if instruments is not None else {}
        self.changed: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self._topic, self._partition = topic, partition
        self.tallies = [Tally(name) for name in decoders]
        self._decoders = {tally.name.encode(): (tally, decoders[tally.name]) for tally in self.tallies}
        self._announces = announces

    def step(self, records: Sequence[Record]) -> Output:
        """Take in records in their order; what is to be published."""
        out = Output()
        decoders = self._decoders
        for record in records:
            provider = kind = received = b""
            recv_ns = record.timestamp * MS
            for name, value in record.headers:
                if name == "p":
                    provider = value or b""  # a header's value may be null
                elif name == "t":
                    received = value or b"?"
                    recv_ns = int.from_bytes(received, "big", signed=True)
                elif name == "k":
                    kind = value
            try:
                # Events are numbered from this time on: a wrong one would spoil `seq` and the checkpoint for good.
                if len(received) not in (0, 8) or not 0 <= recv_ns < LAST_NS:
                    raise FrameError(f"no receive time in ns: header t is {received[:40]!r}")  # noqa: TRY301
                if kind == b"heartbeat":
                    self.counts["heartbeat"] += 1
                elif kind == b"status":
                    self._status(out, record.value or b"", recv_ns)
                else:
                    tally, decode = decoders[provider]
                    for tick in decode(record.value or b""):
                        self._take(out, tally, tick, recv_ns)
            except KeyError:
                reason = f"unknown provider {provider.decode('utf-8', 'replace')!r}" if provider not in decoders else ""
                self._dead(out, record, reason or "a field is missing")
            except Exception as error:  # whatever a venue sends, the stream goes on
                told = isinstance(error, (FrameError, msgspec.MsgspecError))
                self._dead(out, record, str(error) if told else f"{type(error).__name__}: {error}")
        return out

    def _take(self, out: Output, tally: Tally, tick: Tick, recv_ns: int) -> None:
        if isinstance(tick, Control):
            self._control(tally.name, tick)
            return
        instrument = self.instruments.get(tick.symbol)
        if instrument is None:
            instrument = self.instruments[tick.symbol] = Instrument()
        feed = instrument.feeds.get(tally.name)
        if feed is None:
            feed = instrument.feeds[tally.name] = Feed()
        self.changed.add(tick.symbol)
        if isinstance(tick, TradeTick):
            self._trade(out, instrument, feed, tally, tick, recv_ns)
        elif isinstance(tick, QuoteTick):
            self._quote(out, instrument, feed, tally, tick, recv_ns)
        else:
            self._book(out, instrument, feed, tally, tick, recv_ns)

    def _trade(
        self, out: Output, instrument: Instrument, feed: Feed, tally: Tally, tick: TradeTick, recv_ns: int
    ) -> None:
        if tick.view != feed.view:
            if feed.view and recv_ns - feed.view_ns < VIEW_SILENCE_NS:
                self.counts["trade in another view"] += 1
                return
            feed.view, feed.ids = tick.view, SeenIds()
        feed.view_ns = recv_ns
        if tick.resume and feed.ids.last == NO_ID:
            feed.ids.add(tick.first_id, tick.last_id)  # from before we listened: where counting begins, not news
            self.counts["resume point"] += 1
            return
        new = feed.ids.add(tick.first_id, tick.last_id) if tick.last_id != NO_ID else feed.ids.add_opaque(tick.trade_id)
        if not new:
            self.counts["duplicate trade"] += 1
            return
        seq = instrument.trade_seq or recv_ns // 1000
        instrument.trade_seq = seq + 1
        event = Trade(
            tick.symbol,
            seq,
            tally.name,
            tick.trade_id,
            tick.price,
            tick.size,
            tick.side,
            tick.ts_exchange,
            recv_ns,
            tick.count,
        )
        tally.trades += 1
        if tick.ts_exchange is not None:
            tally.latency_ns = recv_ns - tick.ts_exchange
        out.trades.append((tick.symbol.encode(), events.encode(event), recv_ns // MS, NO_HEADERS))

    def _quote(
        self, out: Output, instrument: Instrument, feed: Feed, tally: Tally, tick: QuoteTick, recv_ns: int
    ) -> None:
        if tick.update_id != NO_ID:
            if tick.update_id <= feed.quote_id:
                self.counts["duplicate quote"] += 1
                return
            feed.quote_id = tick.update_id
        else:
            said = (tick.bid, tick.bid_size, tick.ask, tick.ask_size, tick.ts_exchange)
            if said == feed.quote:
                self.counts["duplicate quote"] += 1
                return
            feed.quote = said
        seq = instrument.quote_seq or recv_ns // 1000
        instrument.quote_seq = seq + 1
        event = Quote(
            tick.symbol, seq, tally.name, tick.bid, tick.bid_size, tick.ask, tick.ask_size, tick.ts_exchange, recv_ns
        )
        tally.quotes += 1
        out.quotes.append((tick.symbol.encode(), events.encode(event), recv_ns // MS, NO_HEADERS))

    def _book(
        self, out: Output, instrument: Instrument, feed: Feed, tally: Tally, tick: BookTick, recv_ns: int
    ) -> None:
        if tick.update_id != NO_ID:
            if tick.update_id <= feed.book_id:
                self.counts["duplicate book"] += 1
                return
            feed.book_id = tick.update_id
        seq = instrument.book_seq or recv_ns // 1000
        instrument.book_seq = seq + 1
        event = BookL2(tick.symbol, seq, tally.name, tick.bids, tick.asks, tick.ts_exchange, recv_ns)
        tally.books += 1
        out.books.append((tick.symbol.encode(), events.encode(event), recv_ns // MS, NO_HEADERS))

    def _control(self, provider: str, tick: Control) -> None:
        self.counts[f"control {tick.kind}"] += 1
        if tick.kind in ("error", "notice") and len(self.errors) < MOST_ERRORS:
            self.errors.append(f"{provider} {tick.kind}: {tick.detail}")

    def _status(self, out: Output, frame: bytes, recv_ns: int) -> None:
        said = _decode_status(frame)
        self.counts["status"] += 1
        if self._announces(said.provider):
            event = FeedStatus(events.SYSTEM, said.provider, said.state, said.reason, recv_ns)
            out.status.append((said.provider.encode(), events.encode(event), recv_ns // MS, NO_HEADERS))

    def _dead(self, out: Output, record: Record, error: str) -> None:
        self.counts["dead"] += 1
        letter = dead_letter(
            error=error,
            topic=self._topic,
            partition=self._partition,
            offset=record.offset,
            key=record.key,
            value=record.value,
            headers=record.headers,
        )
        out.dead.append((self._topic.encode(), letter, record.timestamp, NO_HEADERS))
