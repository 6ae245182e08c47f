"""Sierra Chart's Data and Trading Communications protocol (DTC), and other servers of it, over TCP.

Messages: trades (107, 112, 137, 142, 146), bid and ask (108, 117, 143, 144), the snapshot (104) before them; not used:
depth, daily values, trading, history on its own port. There is no history: trades have no ids to ask by.
Source: the protocol's header, version 8, and Sierra Chart's pages on its server (read 2026-11).
Quirks: the encoding is agreed upon for each connection, JSON or binary; a record is a message of either, behind a label
that link.py puts there (messages.py has both). Times are seconds with or without a fraction, or microseconds, or there
are none: their magnitude tells. A price that is not there is 0 or the highest float. Floats of four bytes are read as
the shortest decimal that they can be. Nothing acknowledges a request but the snapshot that follows.
Ids: the protocol has none. A trade's id is that of its frame: when the connection was opened, and a count of its data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from mdstream.errors import FrameError
from mdstream.events import Side
from mdstream.instruments import Kind, parse
from mdstream.ticks import Control, Number, QuoteTick, Size, TradeTick
from mdstream.venues.dtc import messages
from mdstream.venues.dtc.messages import DATA, QUOTES, SNAPSHOT, TRADES
from mdstream.venues.feed import QUOTE, TRADE, Channel, Head, Keepalive, Library, Provider, Request
from mdstream.venues.symbols import listed

ADDRESS = "DTC_WS_URL"
LOGIN = "logon"
HEARTBEAT_S = 10
MARKET = ".DTC"
SIDES: dict[int, Side] = {1: "sell", 2: "buy"}
"""By what a trade was at: the bid or the ask."""
FIRST_MICROS = 1e11
"""A time above is in microseconds: of the second day of 1970; in seconds, of the year 5138."""
NO_PRICE = (0.0, 1.7976931348623157e308, 3.4028234663852886e38)
HIGHEST = 1e140

_NAME = re.compile(r"[A-Z0-9@#$&*+/^!_=:.-]{1,60}")
_OWN = re.compile("_")
_HEAD = re.compile(
    rb'\{\s*"Symbol"\s*:\s*"(?P<symbol>[A-Z0-9@#$&*+/^!_=:.-]{1,80})"\s*,\s*"Frame"\s*:\s*"[0-9a-f-]{1,60}"\s*,'
    rb'\s*"Type"\s*:\s*(?P<channel>[0-9]{1,5})\b'
)

Frame = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
Time = Annotated[float, msgspec.Meta(ge=0, lt=9e15)]


class _Trade(msgspec.Struct, rename="pascal", gc=False):
    frame: Frame
    price: Number
    volume: Size
    at_bid_or_ask: int = 0
    date_time: Time = 0.0


class _Quote(msgspec.Struct, rename="pascal", gc=False):
    frame: Frame
    bid_price: float = 0.0
    bid_quantity: Size = 0.0
    ask_price: float = 0.0
    ask_quantity: Size = 0.0
    date_time: Time = 0.0


class _Snapshot(_Quote, rename="pascal", gc=False):
    date_time: Time = msgspec.field(name="BidAskDateTime", default=0.0)


class _Other(msgspec.Struct, rename="pascal"):
    """What is no data, and data whose fields have another order; every field but the type may be missing."""

    type: int
    symbol: str = ""
    symbol_id: int = msgspec.field(name="SymbolID", default=0)
    result: int = 0
    result_text: str = ""
    reconnect_address: str = ""
    reason: str = ""
    do_not_reconnect: int | bool = 0
    num_dropped_messages: int = 0
    status: int = 0
    reject_text: str = ""


def _trade(m: _Trade, symbol: str) -> Sequence[TradeTick]:
    """{"Symbol":"ESH26.CME","Frame":"1887d1b2c9f4a500-7","Type":107,"SymbolID":1,"AtBidOrAsk":2,"Price":6912.25,"Volume":3,"DateTime":1767625200.123}"""
    return (TradeTick(symbol, m.frame, m.price, m.volume, SIDES.get(m.at_bid_or_ask), _time_ns(m.date_time)),)


def _quote(m: _Quote, symbol: str) -> Sequence[QuoteTick]:
    """{"Symbol":"ESH26.CME","Frame":"1887d1b2c9f4a500-8","Type":108,"SymbolID":1,"BidPrice":6912.0,"BidQuantity":5,"AskPrice":6912.25,"AskQuantity":7,"DateTime":1767625200}"""
    bid, ask = _side(m.bid_price, m.bid_quantity), _side(m.ask_price, m.ask_quantity)
    return (QuoteTick(symbol, *bid, *ask, _time_ns(m.date_time)),)


def _side(price: float, size: float) -> tuple[float | None, float | None]:
    if price in NO_PRICE:
        return None, None
    if not abs(price) < HIGHEST:
        raise FrameError(f"not a price: {price}")
    return price, size


def _time_ns(time: float) -> int | None:
    """To the microsecond: a float of seconds holds no more."""
    return round(time if time > FIRST_MICROS else time * 1e6) * 1_000 if time else None


class Dtc(Provider):
    name = "dtc"
    market = "equities"
    coverage = "dtc"  # that of the service behind the server, which does not say
    default_url = "dtc://127.0.0.1:11099"
    library = Library("dtc", "mdstream.venues.dtc.link.DtcLink")
    symbols = listed(
        "a US ticker like AAPL, a name with its exchange like ESH26.CME, or the server's own name with a _ in it, like "
        "ESH26_FUT_CME",
        _NAME,
        _OWN,
        MARKET,
    )
    default_symbols = ("AAPL", "MSFT")
    max_symbols = 1_000  # the protocol has no limit
    subscribe_interval_s = 0.02
    keepalive = Keepalive(HEARTBEAT_S, json.dumps({"Type": messages.HEARTBEAT}), always=True)
    silence_s = 2.5 * HEARTBEAT_S
    channels = (
        *(Channel(str(number), TRADE, _Trade, _trade) for number in TRADES),
        *(Channel(str(number), QUOTE, _Quote, _quote) for number in QUOTES),
        Channel(str(SNAPSHOT), QUOTE, _Snapshot, _quote),
    )
    heads = (_HEAD,)
    other = _Other

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[str, int] = {}
        """The symbol id of each name that was asked for."""

    def decoder(self, message: Any, *, strict: bool) -> Callable[[bytes], Any]:
        of_json = super().decoder(message, strict=strict)

        def decode(record: bytes) -> Any:
            return of_json(record) if messages.is_json(record) else msgspec.convert(messages.read(record), message)

        return decode

    def check_text(self, frame: bytes) -> None:
        if messages.is_json(frame):
            super().check_text(frame)

    def dry(self, settings: Mapping[str, str]) -> str | None:
        if settings.get(ADDRESS):
            return None
        return f"run Sierra Chart with its DTC server, and set {ADDRESS} to its address, like {self.default_url}"

    def login(self, settings: Mapping[str, str]) -> Request | None:
        user, password = settings.get("DTC_USERNAME", ""), settings.get("DTC_PASSWORD", "")
        who = {"Username": user, "Password": password, "ClientName": "mdstream"}
        beat = {"HeartbeatIntervalInSeconds": HEARTBEAT_S}
        version = {"ProtocolVersion": messages.VERSION}
        return Request(json.dumps({"Type": messages.LOGON_REQUEST, **version, **who, **beat}), (LOGIN,))

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        names = map(self.to_venue, symbols)
        return [Request(self._request(1, name), (name,), str(self._numbers[name])) for name in names]

    def unsubscribe(self, symbols: Sequence[str]) -> list[Request]:
        return [Request(self._request(2, name)) for name in map(self.to_venue, symbols)]

    def _request(self, action: int, name: str) -> str:
        number = self._numbers.setdefault(name, len(self._numbers) + 1)
        found = parse(name, ())
        has_exchange = found is not None and found.kind is Kind.LISTED
        symbol, _, exchange = name.rpartition(".") if has_exchange else (name, "", "")
        of = {"RequestAction": action, "SymbolID": number, "Symbol": symbol, "Exchange": exchange}
        return json.dumps({"Type": messages.DATA_REQUEST, **of})

    def head(self, frame: bytes) -> tuple[bytes, bytes] | None:
        if messages.is_json(frame):
            return super().head(frame)
        symbol, _, message = messages.label_of(frame)
        known = len(message) >= 4 and _NAME.fullmatch(symbol)
        return (str(int.from_bytes(message[2:4], "little")).encode(), symbol.encode()) if known else None

    def control(self, message: _Other) -> Control | Head:
        """{"Type":103,"SymbolID":1,"RejectText":"Unknown symbol"}, {"Type":3,"NumDroppedMessages":0} etc."""
        m = message
        if m.type in DATA and m.symbol:
            return Head(str(m.type), m.symbol)
        match m.type:
            case messages.LOGON_RESPONSE:
                return _logon(m)
            case messages.HEARTBEAT if m.num_dropped_messages:
                return Control(
                    "notice", f"the server has dropped {m.num_dropped_messages} messages: we read too slowly"
                )
            case messages.HEARTBEAT:
                return Control("heartbeat")
            case messages.LOGOFF if m.do_not_reconnect:
                return Control("error", f"it logged us off, not to come back: {m.reason or 'no reason'}", (LOGIN,))
            case messages.LOGOFF:
                # No shutdown: a second connection beside this one would bring every trade again, with another id.
                return Control("notice", f"it logs us off, to come back: {m.reason or 'no reason'}")
            case messages.FEED_STATUS:
                told = "is lost, no data until it is back" if m.status == 1 else "is there"
                return Control("error" if m.status == 1 else "notice", f"the server's market data feed {told}")
            case messages.DATA_REJECT:
                return Control("error", m.reject_text or "no reason", (str(m.symbol_id),))
            case messages.SNAPSHOT:
                return Control("ack", "", (str(m.symbol_id),))
            case number if number in DATA or number <= 0:
                raise FrameError(f"a message {number} without the symbol that it is about")
        return Control("ignored", f"message {m.type}")


def _logon(m: _Other) -> Control:
    """{"Type":2,"ProtocolVersion":8,"Result":1,"ResultText":"","ServerName":"SC",..}"""
    text = m.result_text or "no reason"
    match m.result:
        case 1:
            return Control("ack", LOGIN, (LOGIN,))
        case 3:
            return Control("error", f"{text} (DTC_USERNAME, DTC_PASSWORD)", (LOGIN,))
        case 4:
            return Control("error", f"{text}, it is to be reached at {m.reconnect_address}", (LOGIN,))
    return Control("error", f"the logon failed, {text}: DTC_USERNAME and DTC_PASSWORD are what we log on with")
