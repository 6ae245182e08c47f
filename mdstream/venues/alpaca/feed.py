"""Alpaca, US stocks: market data v2.

Channels: trades, quotes, statuses (halts), corrections and cancels (they come with trades); ignored: bars, LULD. REST:
bars and trades by time, as backfill publishes them.
Source: docs.alpaca.markets, streaming market data, real-time and historical stock data (read 2026-09).
Quirks: every frame is an array that may mix messages of all instruments; numbers are JSON numbers; times have up to
nanoseconds. ALPACA_FEED decides which exchanges there are: `iex` is one of them, with a small share of the trades;
`test` has the symbol FAKEPACA only, at any hour. A `subscription` states all there is after each change, also names
that do not exist. An error does not close the connection, and names no request.
Ids: `i` is a trade's within exchange, tape and day: all four together are its id. The time's last digits are the
venue's own. Trades have no side. A correction or cancel names the old trade by these, but for the day: its own time is
all there is, so it finds trades of the same day. Past trades name what became of them (`u`) instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeVar

import msgspec

from mdstream.errors import FrameError
from mdstream.ticks import BarTick, Control, HaltTick, Number, QuoteTick, Size, TradeTick
from mdstream.venues import arrays
from mdstream.venues.feed import (
    BAR,
    OTHER,
    QUOTE,
    TRADE,
    Channel,
    Head,
    Id,
    Name,
    Parser,
    Provider,
    Request,
    RestAnswer,
)
from mdstream.venues.parsing import priced, recovered
from mdstream.venues.symbols import tickers
from mdstream.venues.times import new_york_day, rfc3339_ns

LOGIN = "auth"
SYMBOLS_PER_REQUEST = 30
"""As many as the free plan has in all: a request beyond the plan's limit is refused as a whole."""
FEED, DRY_RUN = "ALPACA_FEED", "ALPACA_DRY_RUN"
REMEDIES = {
    405: "the plan has no more symbols at a time: ask for fewer",
    406: "another connection uses these keys, and may be held for minutes after its end",
    407: "we read too slowly",
    409: "the plan does not include this feed: ALPACA_FEED=iex is free",
}
FINAL = frozenset({401, 402, 409})
HALTS, RESUMPTIONS = frozenset("2HP"), frozenset("3T")
"""Codes of statuses: of the tapes A and B (2, 3), and of C (H, P for a pause, T)."""
VOID = frozenset({"canceled", "incorrect"})
"""What became of a past trade that is none: cancelled, or replaced by its correction, which comes as well."""

HEAD = arrays.head(rb'"T"\s*:\s*"(?P<channel>[a-z]{1,20})"\s*,\s*(?:"i"\s*:\s*\d{1,20}\s*,\s*)?"S"', rb"[A-Z0-9./]")
_REST = re.compile(rb'\{"request":"/v2/stocks/(?P<channel>bars|trades)\?symbols=(?P<symbol>[A-Z0-9.]{1,30})&')

Code = Annotated[str, msgspec.Meta(max_length=8)]
T = TypeVar("T")


class _Trade(msgspec.Struct, gc=False, tag_field="T", tag="t"):
    S: Name
    i: Id
    p: Number
    s: Number
    t: str
    x: Code = ""
    z: Code = ""
    c: Annotated[tuple[Code, ...], msgspec.Meta(max_length=16)] = ()


class _PastTrade(msgspec.Struct, gc=False):
    i: Id
    p: Number
    s: Number
    t: str
    x: Code = ""
    z: Code = ""
    c: Annotated[tuple[Code, ...], msgspec.Meta(max_length=16)] | None = None
    u: str = ""


class _PastTrades(msgspec.Struct):
    trades: dict[Name, list[_PastTrade]] | None


class _Bar(msgspec.Struct, gc=False):
    t: str
    o: Number
    h: Number
    l: Number  # noqa: E741  the venue's name
    c: Number
    v: Size
    n: Id | None = None


class Bars(msgspec.Struct):
    bars: dict[Name, list[_Bar]] | None


class Quote(msgspec.Struct, gc=False):
    S: Name
    bp: Number
    bs: Size
    ap: Number
    as_: Size = msgspec.field(name="as")
    t: str = ""


class _Correct(msgspec.Struct, gc=False, tag_field="T", tag="c"):
    S: Name
    oi: Id
    op: Number
    os: Size
    ci: Id
    cp: Number
    cs: Size
    t: str
    x: Code = ""
    z: Code = ""
    cc: Annotated[tuple[Code, ...], msgspec.Meta(max_length=16)] = ()


class _Cancel(msgspec.Struct, gc=False, tag_field="T", tag="x"):
    S: Name
    i: Id
    p: Number
    s: Size
    t: str
    x: Code = ""
    z: Code = ""


class _Status(msgspec.Struct, gc=False):
    S: Name
    sc: Code
    t: str
    sm: Annotated[str, msgspec.Meta(max_length=200)] = ""
    rm: Annotated[str, msgspec.Meta(max_length=200)] = ""


_Report = _Trade | _Correct | _Cancel
"""A frame may mix them."""


class _Other(msgspec.Struct):
    """Answers, and data whose fields have another order; every field but the type may be missing."""

    T: str
    S: str = ""
    msg: str = ""
    code: int = 0
    trades: list[str] = []
    quotes: list[str] = []
    statuses: list[str] = []
    orderbooks: list[str] = []


def _trades(m: list[_Report], symbol: str) -> Sequence[TradeTick]:
    """[{"T":"t","i":96921,"S":"AAPL","x":"D","p":246.55,"s":100,"t":"2026-01-05T15:00:00.123456789Z","c":["@","I"],"z":"C"},..],
    [{"T":"c","S":"AAPL","x":"M","oi":52983525033527,"op":246.10,"os":100,"oc":["@"],"ci":52983525034326,"cp":246.12,"cs":100,"cc":["@"],"z":"C","t":"2026-01-05T15:00:01.5Z"},..],
    [{"T":"x","S":"AAPL","i":96921,"x":"D","p":246.55,"s":100,"a":"C","z":"C","t":"2026-01-05T15:00:02.1Z"},..]"""
    return [_trade(d, symbol, rfc3339_ns(d.t)) for d in arrays.of_one(m, lambda d: d.S)]


def _trade(d: _Report, symbol: str, ts_ns: int) -> TradeTick:
    venue = d.x or None
    if isinstance(d, _Trade):
        return TradeTick(symbol, _id(d, d.i, ts_ns), d.p, d.s, None, ts_ns, venue=venue, conditions=d.c or None)
    if isinstance(d, _Correct):
        return TradeTick(
            symbol, _id(d, d.ci, ts_ns), d.cp, d.cs, None, ts_ns, venue=venue, conditions=d.cc or None,
            correction="correct", corrects=_id(d, d.oi, ts_ns), corrects_price=d.op, corrects_size=d.os,
        )  # fmt: skip
    cancelled = _id(d, d.i, ts_ns)
    return TradeTick(
        symbol, f"{cancelled}-cancel", d.p, 0.0, None, ts_ns, venue=venue,
        correction="cancel", corrects=cancelled, corrects_price=d.p, corrects_size=d.s,
    )  # fmt: skip


def _id(d: _Report | _PastTrade, number: int, ts_ns: int) -> str:
    return f"{d.x}{d.z}-{number}-{new_york_day(ts_ns)}"


def _past_trades(m: RestAnswer[_PastTrades], symbol: str) -> Sequence[TradeTick]:
    """{"trades":{"AAPL":[{"t":"2026-01-05T15:00:00.123456789Z","x":"D","p":246.55,"s":100,"c":["@","I"],"i":96921,"z":"C"},..]},..}"""
    valid = [d for d in rows_of(m.response.trades, symbol) if d.u not in VOID]
    return recovered(_past_trade(d, symbol, rfc3339_ns(d.t)) for d in valid)


def _past_trade(d: _PastTrade, symbol: str, ts_ns: int) -> TradeTick:
    trade_id, conditions = _id(d, d.i, ts_ns), d.c or None
    return TradeTick(symbol, trade_id, d.p, d.s, None, ts_ns, venue=d.x or None, conditions=conditions)


def past_bars(m: RestAnswer[Bars], symbol: str) -> Sequence[BarTick]:
    """{"bars":{"AAPL":[{"t":"2026-01-05T14:59:00Z","o":246.1,"h":246.6,"l":246.0,"c":246.55,"v":49378,"n":461,"vw":246.32},..]},..}"""
    return [
        BarTick(symbol, m.id_space, rfc3339_ns(d.t), d.o, d.h, d.l, d.c, d.v, None, d.n)
        for d in rows_of(m.response.bars, symbol)
        if d.v  # else it is made of quotes
    ]


def rows_of(answer: Mapping[str, Sequence[T]] | None, symbol: str) -> Sequence[T]:
    """The rows of the canonical symbol that was asked for; none if the answer names no symbol. Raises FrameError."""
    if not answer:
        return ()
    ((name, rows), *others) = answer.items()
    if others or name.replace("/", "") != symbol:
        raise FrameError(f"an answer about {', '.join(answer)[:40]}")
    return rows


def quotes(m: list[Quote], symbol: str) -> Sequence[QuoteTick]:
    """[{"T":"q","S":"AAPL","bx":"U","bp":246.54,"bs":1,"ax":"Q","ap":246.56,"as":4,"t":"2026-01-05T15:00:00.123456789Z","c":["R"],"z":"C"},..]"""
    return [
        QuoteTick(symbol, *priced(d.bp, d.bs), *priced(d.ap, d.as_), rfc3339_ns(d.t))
        for d in arrays.of_one(m, lambda d: d.S)
    ]


def _statuses(m: list[_Status], symbol: str) -> Sequence[HaltTick | Control]:
    """[{"T":"s","S":"AAPL","sc":"H","sm":"Trading Halt","rc":"T12","rm":"..","t":"2026-01-05T15:00:00.1Z",..},..]"""
    return [_status(d, symbol) for d in arrays.of_one(m, lambda d: d.S)]


def _status(d: _Status, symbol: str) -> HaltTick | Control:
    if d.sc not in HALTS | RESUMPTIONS:
        return Control("ignored", f"a status {d.sc}")
    return HaltTick(symbol, d.sc in HALTS, d.rm or d.sm, rfc3339_ns(d.t))


class Alpaca(Provider):
    name = "alpaca"
    market = "equities"
    coverage = "iex"
    default_url = "wss://stream.data.alpaca.markets/v2/iex"
    sandbox_url = "wss://stream.data.sandbox.alpaca.markets/v2/iex"
    default_symbols = ("AAPL", "MSFT")
    symbols = tickers("FAKEPACA")
    max_symbols = 1_000  # the plan decides: 30 are free; a second connection is refused in any case
    subscribe_interval_s = 0.1
    silence_s = 600.0  # nothing at all comes while the exchanges are closed
    shares_frames = True
    credentials = ("ALPACA_KEY", "ALPACA_SECRET")
    channels: ClassVar[Sequence[Channel]] = (
        Channel("t", TRADE, list[_Report], _trades),
        Channel("c", TRADE, list[_Report], _trades),
        Channel("x", TRADE, list[_Report], _trades),
        Channel("q", QUOTE, list[Quote], quotes),
        Channel("s", OTHER, list[_Status], _statuses),
        Channel("trades", TRADE, RestAnswer[_PastTrades], _past_trades),
        Channel("bars", BAR, RestAnswer[Bars], past_bars),
    )
    heads = (HEAD, _REST)
    other = list[_Other]
    kinds: ClassVar[Sequence[str]] = ("trades", "quotes", "statuses")
    """The names of its channels in requests and in their answers."""

    def url(self, addresses: Mapping[str, str]) -> str:
        url = super().url(addresses)
        is_own = url in (self.default_url, self.sandbox_url)
        return url.replace("/v2/iex", f"/v2/{addresses.get(FEED, 'iex')}") if is_own else url

    def dry(self, settings: Mapping[str, str]) -> str | None:
        return f"unset {DRY_RUN}" if settings.get(DRY_RUN) else super().dry(settings)

    def login(self, settings: Mapping[str, str]) -> Request | None:
        key, secret = (settings[name] for name in self.credentials)
        return Request(json.dumps({"action": "auth", "key": key, "secret": secret}), (LOGIN,))

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        names = [self.to_venue(symbol) for symbol in symbols]
        shares = [names[i : i + SYMBOLS_PER_REQUEST] for i in range(0, len(names), SYMBOLS_PER_REQUEST)]
        return [
            Request(
                json.dumps({"action": "subscribe"} | dict.fromkeys(self.kinds, share)),
                tuple(f"{kind} {name}" for kind in self.kinds for name in share),
            )
            for share in shares
        ]

    def split(self, frame: bytes) -> Sequence[bytes]:
        return arrays.split(frame, self.route)

    def parser(self, frame: bytes) -> Parser:
        start = arrays.start(frame, len(b'[{"T":"t"'), b',"S":"')
        return self._by_start[start] if start else self.by_pattern(frame)

    def control(self, message: Any) -> Control | Head:
        """[{"T":"success","msg":"authenticated"}], [{"T":"subscription","trades":["AAPL"],"quotes":["AAPL"],..}],
        [{"T":"error","code":402,"msg":"auth failed"}] etc."""
        m: _Other = arrays.first(message, lambda m: m.S)
        match m.T:
            case "success":
                authenticated = m.msg == "authenticated"
                return Control("ack", m.msg, (LOGIN,)) if authenticated else Control("ignored", m.msg)
            case "error":
                text = f"{m.msg} ({m.code})"
                remedy = REMEDIES.get(m.code)
                names = (LOGIN,) if m.code in FINAL else ()
                return Control("error", f"{text}: {remedy}" if remedy else text, names)
            case "subscription":
                return Control("ack", m.T, tuple(f"{kind} {s}" for kind in self.kinds for s in getattr(m, kind)))
        if not m.S:
            raise FrameError("neither data nor the answer to a request")
        return Head(m.T, m.S)
