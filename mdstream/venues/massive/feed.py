"""Massive (until 2025 Polygon.io), US stocks: the trades and quotes of all exchanges.

Channels: T (trades), Q (quotes); ignored: aggregates, LULD and others. REST: aggregates and trades by time, as backfill
publishes them.
Source: massive.com/docs, websocket quickstart, stocks over websocket and REST (read 2026-09).
Quirks: every frame is an array that may mix messages of all instruments; numbers are JSON numbers, but for `ds`, the
size with fractions of a share; times are the consolidated tape's, in milliseconds. Each subscription is acknowledged by
a message of its own. A connection too many is told late: after login, acknowledgements, and perhaps data.
Ids: `i` is a trade's within exchange `x` (or trade reporting facility `trfi`) and day: all of them together are its id.
`q` rises per ticker, with gaps, and restarts daily. Trades have no side. REST answers have the same ids by longer
names, and the tape's time in nanoseconds: it is cut off, so that a trade's time is the live one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from mdstream.errors import FrameError
from mdstream.ticks import BarTick, Control, Number, QuoteTick, Size, TradeTick
from mdstream.venues import arrays
from mdstream.venues.feed import BAR, QUOTE, TRADE, Channel, Head, Id, Name, Parser, Provider, Request, RestAnswer
from mdstream.venues.parsing import priced, recovered
from mdstream.venues.symbols import tickers
from mdstream.venues.times import MS, Millis, new_york_day

LOGIN = "auth"
SYMBOLS_PER_REQUEST = 50
SUBSCRIBED = "subscribed to: "
IN_FORCE = frozenset({0, 1})
"""The tape's correction indicators of a trade that counts: never changed, or with the corrected values. With another
one it is cancelled or wrong, or says so of another trade."""

_HEAD = arrays.head(rb'"ev"\s*:\s*"(?P<channel>[A-Za-z]{1,20})"\s*,\s*"sym"', rb"[A-Za-z0-9.]")
_REST = (
    re.compile(rb'\{"request":"/v2/(?P<channel>aggs)/ticker/(?P<symbol>[A-Z0-9.]{1,30})/range/'),
    re.compile(rb'\{"request":"/v3/(?P<channel>trades)/(?P<symbol>[A-Z0-9.]{1,30})\?'),
)
Status = Literal["OK", "DELAYED"]

Text = Annotated[str, msgspec.Meta(max_length=40)]
Party = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
"""The number of an exchange or facility."""


class _Trade(msgspec.Struct, gc=False):
    sym: Name
    x: Party
    i: Text
    p: Number
    t: Millis
    s: Number
    ds: Number | msgspec.UnsetType = msgspec.UNSET
    trfi: Party | None = None
    c: Annotated[tuple[Party, ...], msgspec.Meta(max_length=16)] = ()


class _PastTrade(msgspec.Struct, gc=False):
    exchange: Party
    id: Text
    price: Number
    sip_timestamp: Id
    size: Number
    decimal_size: Number | msgspec.UnsetType = msgspec.UNSET
    trf_id: Party | None = None
    conditions: Annotated[tuple[Party, ...], msgspec.Meta(max_length=16)] = ()
    correction: int = 0


class _Bar(msgspec.Struct, gc=False):
    t: Millis
    o: Number
    h: Number
    l: Number  # noqa: E741  the venue's name
    c: Number
    v: Size
    n: Id | None = None


class _PastTrades(msgspec.Struct):
    status: Status
    results: list[_PastTrade] | None = None


class _Bars(msgspec.Struct):
    status: Status
    ticker: str
    results: list[_Bar] | None = None


class _Quote(msgspec.Struct, gc=False):
    sym: Name
    t: Millis
    bp: Number = 0.0
    bs: Size = 0.0
    ap: Number = 0.0
    as_: Size = msgspec.field(name="as", default=0.0)


class _Other(msgspec.Struct):
    """Answers, and data whose fields have another order; every field but the event may be missing."""

    ev: str
    sym: str = ""
    status: str = ""
    message: str = ""


def _trades(m: list[_Trade], symbol: str) -> Sequence[TradeTick]:
    """[{"ev":"T","sym":"AAPL","x":4,"i":"12345","z":3,"p":246.55,"s":100,"c":[12,37],"t":1767625200123,"q":3681328,"trfi":202,..},..]"""
    return [_trade(d, symbol, d.t * MS) for d in arrays.of_one(m, lambda d: d.sym)]


def _trade(d: _Trade, symbol: str, ts_ns: int) -> TradeTick:
    place = f"{d.x}.{d.trfi}" if d.trfi else f"{d.x}"
    trade_id = f"{place}-{d.i}-{new_york_day(ts_ns)}"
    size = d.s if d.ds is msgspec.UNSET else d.ds
    conditions = tuple(map(str, d.c)) or None
    return TradeTick(symbol, trade_id, d.p, size, None, ts_ns, venue=str(d.x), conditions=conditions)


def _past_trades(m: RestAnswer[_PastTrades], symbol: str) -> Sequence[TradeTick]:
    """{"results":[{"conditions":[12,37],"exchange":4,"id":"12345","price":246.55,"sip_timestamp":1767625200123456789,..},..],..}"""
    valid = [d for d in m.response.results or () if d.correction in IN_FORCE]
    return recovered(_trade(_as_sent(d, symbol), symbol, d.sip_timestamp // MS * MS) for d in valid)


def _as_sent(d: _PastTrade, symbol: str) -> _Trade:
    time, size = d.sip_timestamp // MS, d.decimal_size
    return _Trade(symbol, d.exchange, d.id, d.price, time, d.size, size, d.trf_id, d.conditions)


def _past_bars(m: RestAnswer[_Bars], symbol: str) -> Sequence[BarTick]:
    """{"ticker":"AAPL","results":[{"v":49378,"vw":246.32,"o":246.1,"c":246.55,"h":246.6,"l":246.0,"t":1767625140000,"n":461},..],..}"""
    if m.response.ticker != symbol:
        raise FrameError(f"an answer about {m.response.ticker[:40]}")
    return [
        BarTick(symbol, m.id_space, d.t * MS, d.o, d.h, d.l, d.c, d.v, None, d.n)
        for d in m.response.results or ()
        if d.v
    ]


def _quotes(m: list[_Quote], symbol: str) -> Sequence[QuoteTick]:
    """[{"ev":"Q","sym":"AAPL","bx":4,"bp":246.54,"bs":2,"ax":7,"ap":246.56,"as":4,"c":0,"t":1767625200123,"q":50385480,"z":3},..]"""
    return [
        QuoteTick(symbol, *priced(d.bp, d.bs), *priced(d.ap, d.as_), d.t * MS)
        for d in arrays.of_one(m, lambda d: d.sym)
    ]


class Massive(Provider):
    name = "massive"
    market = "equities"
    coverage = "consolidated"
    default_url = "wss://socket.massive.com/stocks"
    default_symbols = ("AAPL", "MSFT")
    symbols = tickers()
    max_symbols = 1_000  # the venue has no limit, but for one connection
    subscribe_interval_s = 0.1
    silence_s = 600.0  # nothing at all comes while the exchanges are closed
    shares_frames = True
    credentials = ("MASSIVE_API_KEY",)
    channels: ClassVar[Sequence[Channel]] = (
        Channel("T", TRADE, list[_Trade], _trades),
        Channel("Q", QUOTE, list[_Quote], _quotes),
        Channel("trades", TRADE, RestAnswer[_PastTrades], _past_trades),
        Channel("aggs", BAR, RestAnswer[_Bars], _past_bars),
    )
    live: ClassVar = ("T", "Q")
    """Of these, the ones that are subscribed to."""
    heads = (_HEAD, *_REST)
    other = list[_Other]

    def login(self, settings: Mapping[str, str]) -> Request | None:
        return Request(json.dumps({"action": "auth", "params": settings["MASSIVE_API_KEY"]}), (LOGIN,))

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        names = [self.to_venue(symbol) for symbol in symbols]
        shares = [names[i : i + SYMBOLS_PER_REQUEST] for i in range(0, len(names), SYMBOLS_PER_REQUEST)]
        topics = [tuple(f"{channel}.{name}" for channel in self.live for name in share) for share in shares]
        return [Request(json.dumps({"action": "subscribe", "params": ",".join(each)}), each) for each in topics]

    def split(self, frame: bytes) -> Sequence[bytes]:
        return arrays.split(frame, self.route)

    def parser(self, frame: bytes) -> Parser:
        start = arrays.start(frame, len(b'[{"ev":"T"'), b',"sym":"')
        return self._by_start[start] if start else self.by_pattern(frame)

    def control(self, message: Any) -> Control | Head:
        """[{"ev":"status","status":"auth_success","message":"authenticated"}],
        [{"ev":"status","status":"success","message":"subscribed to: T.AAPL"}],
        [{"ev":"status","status":"max_connections","message":"Maximum number of websocket connections exceeded."}]"""
        m: _Other = arrays.first(message, lambda m: m.sym)
        match m.status:
            case "connected":
                return Control("ignored", m.message)
            case "auth_success":
                return Control("ack", m.message, (LOGIN,))
            case "auth_failed":
                return Control("error", m.message, (LOGIN,))
            case "success":
                name = m.message.removeprefix(SUBSCRIBED)
                return Control("ack", m.message, () if name == m.message else (name,))
        if m.ev == "status":
            return Control("error", f"{m.status}: {m.message}")
        if not m.sym:
            raise FrameError("neither data nor the answer to a request")
        return Head(m.ev, m.sym)
