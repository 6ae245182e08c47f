"""One partition's stream: raw records in, numbered public events out. A pure function of the log and its state.

    record ─ decode ─> ticks ─ dedupe ─> new ones ─ number ─> Trade, Quote, BookL2 ─ encode ─> canonical records
       └ not understood ─> dead letter          └ venue's control frames ─> counted; errors shown
       └ our own status records ─> FeedStatus

The output depends on the records' order only, not on how they are cut into batches, on the clock or on the process:
what is processed again from a restored state comes out byte for byte the same, with the same `seq`.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from mdstream import events
from mdstream.dead import dead_letter
from mdstream.errors import FrameError
from mdstream.events import BookL2, FeedStatus, Quote, Trade, encode
from mdstream.stream.ids import SeenIds
from mdstream.ticks import NO_ID, BookTick, Control, QuoteTick, Tick, TradeTick
from mdstream.transport.batch import Record

Decode = Callable[[bytes], Sequence[Tick]]
Headers = list[tuple[str, bytes]]
NO_HEADERS: Headers = []
Out = list[tuple[bytes | None, bytes | None, int, Headers]]
"""Records to publish: key, value, time stamp in ms, no headers."""

MS = 1_000_000
OURS = frozenset({b"heartbeat", b"status"})
"""Kinds of raw records that the ingestor writes of itself."""

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
_int64 = struct.Struct(">q")


class Source:
    """One provider as a partition knows it: its decoder, the feeds it has spoken of, and what came of its frames.

    The counts are of canonical events since the last `reset`; `last` is the newest trade with its receive time in ns.
    """

    __slots__ = ("books", "decode", "feeds", "last", "name", "quotes", "trades")

    def __init__(self, name: str, decode: Decode) -> None:
        self.name, self.decode = name, decode
        self.feeds: dict[str, tuple[Instrument, Feed, bytes]] = {}  # by symbol; the symbol as a record's key
        self.reset()

    def reset(self) -> None:
        self.trades = self.quotes = self.books = 0
        self.last: tuple[TradeTick, int] | None = None

    @property
    def latency_ns(self) -> int | None:
        """From the venue's time of the newest trade to ours; None where there is none, or it gives no time."""
        if self.last is None or self.last[0].ts_exchange is None:
            return None
        return self.last[1] - self.last[0].ts_exchange


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
        self.sources = {name.encode(): Source(name, decode) for name, decode in decoders.items()}
        self._announces = announces

    def step(self, records: Sequence[Record]) -> Output:
        """Take in records in their order; what is to be published."""
        out = Output()
        sources, trade = self.sources, self._trade
        for record in records:
            try:
                provider, recv_ns, kind = _read_headers(record)
                if kind in OURS:
                    self._ours(out, kind, record.value or b"", recv_ns)
                    continue
                source = sources.get(provider)
                if source is None:
                    raise FrameError(f"unknown provider {provider.decode('utf-8', 'replace')!r}")  # noqa: TRY301
                for tick in source.decode(record.value or b""):
                    if type(tick) is TradeTick:
                        trade(out, source, tick, recv_ns)
                    else:
                        self._other(out, source, tick, recv_ns)
            except Exception as error:  # whatever a venue sends, the stream goes on
                told = isinstance(error, (FrameError, msgspec.MsgspecError))
                self._dead(out, record, str(error) if told else f"{type(error).__name__}: {error}")
        return out

    def _feed(self, source: Source, symbol: str) -> tuple[Instrument, Feed, bytes]:
        """The state of an instrument and of this source's feed of it, made where there is none."""
        found = source.feeds.get(symbol)
        if found is None:
            instrument = self.instruments.setdefault(symbol, Instrument())
            feed = instrument.feeds.setdefault(source.name, Feed())
            found = source.feeds[symbol] = instrument, feed, symbol.encode()
        return found

    def _trade(self, out: Output, source: Source, tick: TradeTick, recv_ns: int) -> None:
        symbol = tick.symbol
        instrument, feed, key = source.feeds.get(symbol) or self._feed(source, symbol)
        self.changed.add(symbol)
        # The next id of the view in use: all there is to ask of nearly every trade.
        if tick.first_id == feed.ids.last + 1 and tick.view == feed.view and not tick.resume:
            feed.ids.last = tick.last_id
        elif not self._is_new(feed, tick, recv_ns):
            return
        feed.view_ns = recv_ns
        seq = instrument.trade_seq or recv_ns // 1000
        instrument.trade_seq = seq + 1
        event = Trade(
            symbol,
            seq,
            source.name,
            tick.trade_id,
            tick.price,
            tick.size,
            tick.side,
            tick.ts_exchange,
            recv_ns,
            tick.count,
        )
        out.trades.append((key, encode(event), recv_ns // MS, NO_HEADERS))
        source.trades += 1
        source.last = tick, recv_ns

    def _is_new(self, feed: Feed, tick: TradeTick, recv_ns: int) -> bool:
        if tick.view != feed.view:
            if feed.view and recv_ns - feed.view_ns < VIEW_SILENCE_NS:
                self.counts["trade in another view"] += 1
                return False
            feed.view, feed.ids = tick.view, SeenIds()
        feed.view_ns = recv_ns
        begins = feed.ids.last == NO_ID
        new = feed.ids.add(tick.first_id, tick.last_id) if tick.last_id != NO_ID else feed.ids.add_opaque(tick.trade_id)
        if tick.resume and begins:  # from before we listened: where counting begins, not news
            self.counts["resume point"] += 1
            return False
        if not new:
            self.counts["duplicate trade"] += 1
        return new

    def _other(self, out: Output, source: Source, tick: Tick, recv_ns: int) -> None:
        if isinstance(tick, Control):
            self._control(source.name, tick)
        elif isinstance(tick, QuoteTick):
            self._quote(out, source, tick, recv_ns)
        elif isinstance(tick, BookTick):
            self._book(out, source, tick, recv_ns)

    def _quote(self, out: Output, source: Source, tick: QuoteTick, recv_ns: int) -> None:
        instrument, feed, key = self._feed(source, tick.symbol)
        said = (tick.bid, tick.bid_size, tick.ask, tick.ask_size, tick.ts_exchange)
        if tick.update_id <= feed.quote_id if tick.update_id != NO_ID else said == feed.quote:
            self.counts["duplicate quote"] += 1
            return
        self.changed.add(tick.symbol)
        if tick.update_id != NO_ID:
            feed.quote_id = tick.update_id
        else:
            feed.quote = said
        seq = instrument.quote_seq or recv_ns // 1000
        instrument.quote_seq = seq + 1
        event = Quote(tick.symbol, seq, source.name, *said, recv_ns)
        out.quotes.append((key, encode(event), recv_ns // MS, NO_HEADERS))
        source.quotes += 1

    def _book(self, out: Output, source: Source, tick: BookTick, recv_ns: int) -> None:
        instrument, feed, key = self._feed(source, tick.symbol)
        if tick.update_id != NO_ID:
            if tick.update_id <= feed.book_id:
                self.counts["duplicate book"] += 1
                return
            feed.book_id = tick.update_id
        self.changed.add(tick.symbol)
        seq = instrument.book_seq or recv_ns // 1000
        instrument.book_seq = seq + 1
        event = BookL2(tick.symbol, seq, source.name, tick.bids, tick.asks, tick.ts_exchange, recv_ns)
        out.books.append((key, encode(event), recv_ns // MS, NO_HEADERS))
        source.books += 1

    def _control(self, provider: str, tick: Control) -> None:
        self.counts[f"control {tick.kind}"] += 1
        if tick.kind in ("error", "notice") and len(self.errors) < MOST_ERRORS:
            self.errors.append(f"{provider} {tick.kind}: {tick.detail}")

    def _ours(self, out: Output, kind: bytes, frame: bytes, recv_ns: int) -> None:
        """What the ingestor itself says."""
        self.counts[kind.decode()] += 1
        if kind == b"status":
            said = _decode_status(frame)
            if self._announces(said.provider):
                event = FeedStatus(events.SYSTEM, said.provider, said.state, said.reason, recv_ns)
                out.status.append((said.provider.encode(), encode(event), recv_ns // MS, NO_HEADERS))

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


def _read_headers(record: Record) -> tuple[bytes, int, bytes]:
    """Provider, receive time in ns and kind of a raw record. Raises FrameError for a time that is none.

    Events are numbered from the receive time on: a wrong one would spoil `seq` and the checkpoint for good.
    """
    headers = record.headers
    if len(headers) == 4:
        (n0, provider), (n1, received), (n2, kind), _ = headers
        if not (n0 == "p" and n1 == "t" and n2 == "k"):  # the order in which every ingestor writes them
            provider, received, kind = _find_headers(record)
    else:
        provider, received, kind = _find_headers(record)
    try:
        (recv_ns,) = _int64.unpack(received)
    except (struct.error, TypeError):
        raise FrameError(f"no receive time in ns: header t is {received!r:.60}") from None
    if not 0 <= recv_ns < LAST_NS:
        raise FrameError(f"no receive time in ns: {recv_ns}")
    return provider or b"", recv_ns, kind or b""  # a header's value may be null


def _find_headers(record: Record) -> tuple[bytes, bytes, bytes]:
    """Provider, time and kind wherever they stand; without a time, that of the record."""
    found = dict(record.headers)
    return found.get("p", b""), found.get("t", _int64.pack(record.timestamp * MS)), found.get("k", b"")
