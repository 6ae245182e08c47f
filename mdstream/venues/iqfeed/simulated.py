"""IQConnect as the simulator serves it: its port for Level 1, protocol 6.2.

Lines: summary, update, fundamental (shortened), the time each second. Commands: w, t, r, f, T; with S: SET PROTOCOL,
SET CLIENT NAME, CONNECT, SELECT UPDATE FIELDS, REQUEST CURRENT UPDATE FIELDNAMES, REQUEST WATCHES, UNWATCH ALL,
TIMESTAMPSON, TIMESTAMPSOFF.
Source: DTN's streaming client protocol 6.2, its public clients (read 2026-11). Our choices where they are silent: a
field that there is not is left out of a selection; there is protocol 6.2 alone; a second watch of a symbol is answered
like the first; a line that is no command by E,!SYNTAX_ERROR!; at most 1,000 lines a second; the last fill of an order
comes with the quote after it, in one line; the client that does not read is cut off.
Not simulated: corrections, regional quotes, news, the other ports, sessions that end and begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache

from mdstream.simulator.actions import Action, Close, Send
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.listing import US, Channel, Kind, Listing, top_now
from mdstream.simulator.market import SECOND_NS, Instrument, Market, Order, Top, Trade
from mdstream.simulator.requests import RefusedError
from mdstream.simulator.text import Writer, fixed
from mdstream.venues.framer import Lines
from mdstream.venues.iqfeed.feed import FIELDS, NEW_YORK, PROTOCOL
from mdstream.venues.iqfeed.feed import Iqfeed as Feed

SYMBOLS = 500
"""Of one login, in all connections together."""
KNOWN = (*FIELDS, "Open", "High", "Low", "Close")
DEFAULT = (
    "Symbol",
    "Most Recent Trade",
    "Most Recent Trade Size",
    "Most Recent Trade Time",
    "Most Recent Trade Market Center",
    "Total Volume",
    "Bid",
    "Bid Size",
    "Ask",
    "Ask Size",
    "Open",
    "High",
    "Low",
    "Close",
    "Message Contents",
    "Most Recent Trade Conditions",
)
"""The fields of a client that selects none."""
CONDITIONS, MARKET_CENTER = "01", "5"
TRADES, QUOTES = "trades", "quotes"


@lru_cache(maxsize=64)
def _second(second: int) -> datetime:
    return datetime.fromtimestamp(second, NEW_YORK)


def _time(ts_ns: int) -> str:
    second, rest = divmod(ts_ns, SECOND_NS)
    return f"{_second(second):%H:%M:%S}.{rest // US:06d}"


def _line(kind: str, listing: Listing, contents: str, trade: Trade, of: Order) -> str:
    """A line with all KNOWN fields: each session leaves those of its selection."""
    i, price, size = listing.instrument, listing.price, listing.size
    top, day = i.top, f"{_second(of.ts_ns // SECOND_NS):%m/%d/%Y}"
    values: tuple[object, ...] = (
        *(listing.symbol, contents, price(trade.ticks), size(trade.lots)),
        *(day, _time(of.ts_ns), trade.trade_id, 1 if of.buy else 2),
        *(price(top.bid), size(top.bid_lots), price(top.ask), size(top.ask_lots)),
        *(CONDITIONS, MARKET_CENTER, _time(top.ts_ns), _time(top.ts_ns), size(i.volume_lots)),
        *map(price, (i.open_ticks, i.high_ticks, i.low_ticks, i.open_ticks)),
    )
    return ",".join(map(str, (kind, *values)))


def _trades(listing: Listing, order: Order) -> list[str]:
    *fills, last = order.fills
    lines = [_line("Q", listing, "Cv", fill, order) for fill in fills]
    return [*lines, _line("Q", listing, "Cbav", last, order)]


def _quote(kind: str, contents: str, listing: Listing, _top: Top) -> list[str]:
    return [_line(kind, listing, contents, listing.instrument.last, listing.instrument.last_order)]


def _update(listing: Listing, top: Top) -> list[str]:
    return _quote("Q", "ba", listing, top)


def _summary(listing: Listing, top: Top) -> list[str]:
    return _quote("P", "Cbaohlcv", listing, top)


def _fills(order: Order) -> Sequence[Trade]:
    return order.fills


def _trade_id(trade: Trade, ts_ns: int) -> str:
    return f"{trade.trade_id}-{ts_ns // US}"


CHANNELS = {
    TRADES: Channel(Kind.TRADE, _trades, _fills, resolution_ns=US, trade_id=_trade_id),
    QUOTES: Channel(Kind.QUOTE, _update, first=top_now(_summary)),
}


class IqfeedSession(Session):
    request_limit = (1_000, 1.0)
    too_slow = (Close(0, "too slow"),)
    exchange: Iqfeed

    def __init__(self, exchange: Iqfeed, now_ns: int) -> None:
        super().__init__(exchange, now_ns)
        self._timestamps, self._told_s = True, now_ns // SECOND_NS
        self._select(DEFAULT)

    def _select(self, names: Iterable[str]) -> None:
        self._fields = ("Symbol", *(name for name in names if name in KNOWN and name != "Symbol"))
        self._places = [KNOWN.index(name) + 1 for name in self._fields]

    @property
    def watched(self) -> set[str]:
        """Its symbols."""
        return {symbol for _, symbol in self.topics}

    def wire(self, text: str) -> bytes:
        values = text.split(",")
        if values[0] in ("Q", "P") and len(values) > len(KNOWN):  # a fault may have cut it
            text = ",".join([values[0], *(values[place] for place in self._places), ""])
        return f"{text}\r\n".encode("latin-1")

    def opened(self, now_ns: int) -> list[Action]:
        self.exchange.clients[self] = None
        customer = f"S,CUST,real_time,127.0.0.1,60002,password,{PROTOCOL}.0.25,0,,{SYMBOLS},,"
        return [Send("S,KEY,12345"), Send("S,SERVER CONNECTED"), Send(customer), _clock(now_ns)]

    def closed(self) -> None:
        super().closed()
        self.exchange.clients.pop(self, None)

    def tick(self, now_ns: int, sent_ns: int) -> list[Action]:  # noqa: ARG002
        if not self._timestamps or now_ns // SECOND_NS <= self._told_s:
            return []
        self._told_s = now_ns // SECOND_NS
        return [_clock(now_ns)]

    def answer(self, text: str, now_ns: int) -> list[Action]:
        self.admit(now_ns)
        command, symbol = text[:1], text[1:].rstrip("\r")
        match command:
            case "S" if symbol.startswith(","):
                return self._system(*symbol[1:].split(","))
            case "T" if not symbol:
                return [_clock(now_ns)]
            case "w":
                return self._watch(symbol, (TRADES, QUOTES), now_ns)
            case "t":
                return self._watch(symbol, (TRADES,), now_ns)
            case "f":
                return self._state(symbol, now_ns)
            case "r":
                return list(self.unsubscribe([(channel, symbol) for channel in CHANNELS]))
        raise RefusedError(Send("E,!SYNTAX_ERROR!,"))

    def _system(self, command: str, *values: str) -> list[Action]:
        match command:
            case "SET PROTOCOL":
                # Another version is not set: the answer says which one there is.
                return [Send(f"S,CURRENT PROTOCOL,{PROTOCOL}")]
            case "SET CLIENT NAME":
                return []
            case "CONNECT":
                return [Send("S,SERVER CONNECTED")]
            case "SELECT UPDATE FIELDS":
                self._select(values)
                return [self._fieldnames()]
            case "REQUEST CURRENT UPDATE FIELDNAMES":
                return [self._fieldnames()]
            case "REQUEST WATCHES":
                return [Send(",".join(("S,WATCHES", *sorted(self.watched), "")))]
            case "UNWATCH ALL":
                return list(self.unsubscribe(list(self.topics)))
            case "TIMESTAMPSON" | "TIMESTAMPSOFF":
                self._timestamps = command.endswith("ON")
                return []
        raise RefusedError(Send("E,!SYNTAX_ERROR!,"))

    def _fieldnames(self) -> Send:
        return Send(",".join(("S,CURRENT UPDATE FIELDNAMES", *self._fields)))

    def _watch(self, symbol: str, channels: Sequence[str], now_ns: int) -> list[Action]:
        topics = {(channel, symbol): self.topic(channel, symbol, now_ns) for channel in channels}
        state = self._state(symbol, now_ns)
        if symbol not in self.watched and len(self.exchange.watched | {symbol}) > SYMBOLS:
            raise RefusedError(Send(f"S,SYMBOL LIMIT REACHED,{symbol}"))
        # The summary has been sent: what is the present state of the quotes.
        joined = [action for action in self.subscribe(topics, now_ns) if not isinstance(action, Send)]
        return [*state, *joined]

    def _state(self, symbol: str, now_ns: int) -> list[Action]:
        """The fundamental and the summary."""
        quotes = self.topic(QUOTES, symbol, now_ns)
        if quotes is None:
            raise RefusedError(Send(f"n,{symbol}"))
        (summary,) = _summary(quotes.listing, quotes.listing.instrument.top)
        return [Send(f"F,{symbol},5,36.1,48000,260.10,164.08,"), Send(summary, quotes)]


class Iqfeed(Exchange):
    name = "iqfeed"
    framer = Lines(b"\n")  # clients that end their commands so are understood, too
    sessions = IqfeedSession
    fewest_decimals = 2
    channels = CHANNELS
    whole_sizes = True

    def __init__(self, market: Market, symbols: Iterable[str] | None = None) -> None:
        super().__init__(market, symbols)
        self.clients: dict[IqfeedSession, None] = {}

    @property
    def watched(self) -> set[str]:
        """The symbols of all clients."""
        return {symbol for client in self.clients for symbol in client.watched}

    def split(self, symbol: str) -> tuple[str, str] | None:
        return (symbol, "USD") if Feed.symbols.to_venue(self.canonical(symbol)) == symbol else None

    def canonical(self, symbol: str) -> str:
        return Feed.symbols.from_venue(symbol)

    def writers(self, instrument: Instrument) -> tuple[Writer, Writer]:
        return fixed(instrument.price_decimals, max(4, instrument.price_decimals)), str


def _clock(now_ns: int) -> Send:
    return Send(f"T,{_second(now_ns // SECOND_NS):%Y%m%d %H:%M:%S}")
