"""IQFeed (DTN), through IQConnect, which holds the login: Level 1.

Lines: summary (P), update (Q); not used: fundamentals (F) but as the ack of a watch, regional quotes, news. Corrections
(C) are not applied yet. There is no history: trades have no ids that count.
Source: DTN's streaming client protocol 6.2, its public clients (read 2026-11).
Quirks: a line is a command's answer or a state of the instrument: we select its fields, and the answer has to name the
same ones. An update repeats the last trade with each change of a quote; its contents say what is new, by letters:

    C last qualified trade   E extended hours' trade   O other trade   b bid   a ask   v volume   o h l c   s settlement

A line with both is split: one of each, with its own letters. The summary is the state before the watch: its trade is
none. Times are New York's. A trade has its day; a quote has none, and the last trade's may be another, so a quote is
published without time. Hours that the clock repeats in autumn are taken as the first.
Ids: TickID is a trade's within symbol and day, and rises with holes. When a day begins for it is not documented, so the
id is TickID with the time, in microseconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, ClassVar
from zoneinfo import ZoneInfo

import msgspec

from mdstream.errors import FrameError
from mdstream.events import Side
from mdstream.ticks import Control, Number, QuoteTick, Size, TradeTick
from mdstream.venues.feed import (
    MAX_HEAD_BYTES,
    OTHER,
    QUOTE,
    TRADE,
    Channel,
    Head,
    Id,
    Parser,
    Provider,
    Remembered,
    Request,
)
from mdstream.venues.framer import Lines
from mdstream.venues.symbols import listed
from mdstream.venues.times import SECOND_NS

PROTOCOL = "6.2"
FIELDS = (
    "Symbol",  # the first in any case
    "Message Contents",
    "Most Recent Trade",
    "Most Recent Trade Size",
    "Most Recent Trade Date",
    "Most Recent Trade Time",
    "TickID",
    "Most Recent Trade Aggressor",
    "Bid",
    "Bid Size",
    "Ask",
    "Ask Size",
    "Most Recent Trade Conditions",
    "Most Recent Trade Market Center",
    "Bid Time",
    "Ask Time",
    "Total Volume",
)
"""The contents first, as they decide the route; the last three are for readers of the raw topic alone."""
LOGIN = "update fields"
ADDRESS = "IQFEED_WS_URL"
MARKET = ".IQFEED"
SIDES: dict[str | None, Side] = {"1": "buy", "2": "sell"}
NEW_YORK = ZoneInfo("America/New_York")
REMEDIES = {
    "SERVER DISCONNECTED": "IQConnect has lost its servers, no data until it is back",
    "SERVER RECONNECT FAILED": "IQConnect cannot reach its servers: check its network, and its login",
    "SYMBOL LIMIT REACHED": "the plan has no more symbols, in all clients together: ask for fewer",
    "KEY EXPIRED": "the key has expired: restart IQConnect, so that it logs in again",
}
UNTOLD = frozenset(
    {"KEY", "KEYOK", "CUST", "IP", "WATCHES", "STATS", "CURRENT LOG LEVELS", "FUNDAMENTAL FIELDNAMES"}
    | {"UPDATE FIELDNAMES", "CURRENT CLIENT NAME"}
)
PASSWORD = 5
"""Its place in S,CUST."""

_SYMBOL = "[A-Z0-9@#$&*+./^!_=-]{1,30}"
_NAME = re.compile(_SYMBOL)
_OWN = re.compile(r"[@#+]")
_START = rb"(?P<symbol>%s)," % _SYMBOL.encode()
_CONTENTS = re.compile(rb"(?P<start>Q,[^,]{1,30},)(?P<contents>[A-Za-z]{1,30}),")
_SECOND = re.compile(r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d", re.ASCII)


class _Trade(msgspec.Struct, array_like=True, gc=False):
    part: ClassVar[slice] = slice(3, 15)
    price: Number
    size: Size
    date: str
    time: str
    tick_id: Id
    aggressor: str | None
    bid: str | None
    bid_size: str | None
    ask: str | None
    ask_size: str | None
    conditions: Annotated[str, msgspec.Meta(max_length=32)] | None
    market_center: Annotated[str, msgspec.Meta(max_length=8)] | None


class _Quote(msgspec.Struct, array_like=True, gc=False):
    part: ClassVar[slice] = slice(9, 13)
    bid: Number | None
    bid_size: Size | None
    ask: Number | None
    ask_size: Size | None


def _fields(line: bytes) -> list[str]:
    return line.decode("latin-1").split(",")


def _part(message: type[_Trade | _Quote], line: bytes) -> Any:
    fields = _fields(line)
    _check_count(fields)
    return msgspec.convert([field or None for field in fields[message.part]], message, strict=False)


def _check_count(fields: Sequence[str]) -> None:
    if len(fields) != len(FIELDS) + 2 or fields[-1]:  # the kind before them, and a comma behind
        raise FrameError(f"not the {len(FIELDS)} fields that were selected, each with a comma behind it")


def _trade(m: _Trade, symbol: str) -> Sequence[TradeTick]:
    """Q,AAPL,Cv,246.5500,100,01/05/2026,10:00:00.123456,3681,1,246.5400,200,246.5600,400,01,5,10:00:00.123001,10:00:00.122900,8642007,"""
    ts_ns, codes = new_york_ns(m.date, m.time), m.conditions or ""
    conditions = tuple(codes[i : i + 2] for i in range(0, len(codes), 2)) or None
    trade_id, side = f"{m.tick_id}-{ts_ns // 1_000}", SIDES.get(m.aggressor)
    tick = TradeTick(symbol, trade_id, m.price, m.size, side, ts_ns, venue=m.market_center, conditions=conditions)
    return (tick,)


def _quote(m: _Quote, symbol: str) -> Sequence[QuoteTick]:
    """Q,AAPL,ba,246.5500,100,01/05/2026,10:00:00.123456,3681,1,246.5400,200,246.5600,400,01,5,10:00:00.140000,10:00:00.140000,8642007,"""
    bid, ask = m.bid or None, m.ask or None
    return (QuoteTick(symbol, bid, m.bid_size if bid else None, ask, m.ask_size if ask else None, None),)


def _correction(_fields: list[str], _symbol: str) -> Sequence[Control]:
    """C,AAPL,X,01/05/2026,10:00:00.503633,246.5500,13,101123,8801,17"""
    return (Control("ignored", "a correction: not applied"),)


def new_york_ns(date: str, time: str) -> int:
    """Nanoseconds since 1970 of a date like 01/05/2026 and a time like 10:00:00.123456 in New York.

    Raises FrameError for anything else.
    """
    whole, _, fraction = time.partition(".")
    if fraction and not (fraction.isascii() and fraction.isdecimal() and len(fraction) <= 9):
        raise FrameError(f"not a time: {time[:40]!r}")
    return _seconds_ns[f"{date} {whole}"] + int(fraction.ljust(9, "0"))


def _whole_seconds_ns(text: str) -> int:
    try:
        second = datetime.strptime(text, "%m/%d/%Y %H:%M:%S") if _SECOND.fullmatch(text) else None
    except ValueError:
        second = None
    if second is None:
        raise FrameError(f"not a date and a time: {text[:40]!r}")
    return int(second.replace(tzinfo=NEW_YORK).timestamp()) * SECOND_NS


_seconds_ns = Remembered(_whole_seconds_ns, max_size=1_000)


class Iqfeed(Provider):
    name = "iqfeed"
    market = "equities"
    coverage = "consolidated"
    default_url = "tcp://127.0.0.1:5009"
    framer = Lines(b"\r\n")
    symbols = listed(
        "a US ticker like AAPL, a name with its market like EURUSD.FXCM, or the venue's own form like @ESH26",
        _NAME,
        _OWN,
        MARKET,
    )
    default_symbols = ("AAPL", "MSFT")
    max_symbols = 500  # the usual plan's, in all connections together
    subscribe_interval_s = 0.02
    silence_s = 10.0  # the time comes each second
    shares_frames = True
    channels = (
        Channel("Q", TRADE, _Trade, _trade),
        Channel("b", QUOTE, _Quote, _quote),
        Channel("a", QUOTE, _Quote, _quote),
        Channel("P", QUOTE, _Quote, _quote),
        Channel("C", OTHER, list[str], _correction),
    )
    heads = (
        re.compile(rb"(?P<channel>Q),%s[^,CEO]*[CEO]" % _START),
        re.compile(rb"Q,%s[^,ab]*(?P<channel>[ab])" % _START),
        re.compile(rb"(?P<channel>[PC]),%s" % _START),
    )
    other = list[str]

    def decoder(self, message: Any, *, strict: bool) -> Callable[[bytes], Any]:  # noqa: ARG002  lines hold text alone
        return _fields if message == list[str] else partial(_part, message)

    def check_text(self, frame: bytes) -> None:
        """Lines are Latin-1: any bytes are text."""

    def dry(self, settings: Mapping[str, str]) -> str | None:
        if settings.get(ADDRESS):
            return None
        return f"run IQConnect, and set {ADDRESS} to its address: {self.default_url} on the same machine"

    def login(self, settings: Mapping[str, str]) -> Request | None:  # noqa: ARG002  IQConnect has the credentials
        commands = (f"SET PROTOCOL,{PROTOCOL}", "SET CLIENT NAME,mdstream", "CONNECT")
        selection = f"SELECT UPDATE FIELDS,{','.join(FIELDS)}"
        return Request("".join(f"S,{command}\r\n" for command in (*commands, selection)), (LOGIN,))

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        return [Request(f"w{name}\r\n", (name,)) for name in map(self.to_venue, symbols)]

    def unsubscribe(self, symbols: Sequence[str]) -> list[Request]:
        return [Request(f"r{name}\r\n") for name in map(self.to_venue, symbols)]

    def split(self, frame: bytes) -> Sequence[bytes]:
        if frame.startswith(b"S,CUST,"):  # a password is nothing for the raw topic
            fields = frame.split(b",")
            return (b",".join([*fields[:PASSWORD], b"***", *fields[PASSWORD + 1 :]]),)
        found = _CONTENTS.match(frame)
        if found is None:
            return (frame,)
        start, contents, rest = found["start"], found["contents"], frame[found.end("contents") :]
        of_trade, of_quote = contents.translate(None, b"ab"), contents.translate(None, b"CEO")
        if contents in (of_trade, of_quote):
            return (frame,)
        return (start + of_trade + rest, start + of_quote + rest)

    def parser(self, frame: bytes) -> Parser:
        end = frame.find(b",", frame.find(b",", 2) + 1)  # behind the contents
        return self._by_start[frame[:end]] if 0 < end < MAX_HEAD_BYTES else self.by_pattern(frame)

    def control(self, message: list[str]) -> Control | Head:
        """S,SERVER DISCONNECTED, T,20260105 10:00:00, F,AAPL,5,36.1,.., n,NOSUCH, E,Not connected. etc."""
        match message:
            case ["T", _]:
                return Control("heartbeat")
            case ["F", name, _, *_]:
                return Control("ack", name, (name,))
            case ["n", name, *_]:
                return Control("error", f"{name}: no such symbol", (name,))
            case ["E", *text]:
                return Control("error", ",".join(text).rstrip(",."))
            case ["S", what, *values]:
                return _system(what, values)
            case ["R" | "N", _, *_]:
                return Control("ignored", "regional quotes or news")
            case ["Q", *_]:
                _check_count(message)
                return Control("ignored", "neither a trade nor a quote")
        raise FrameError("not a line of this protocol")


def _system(what: str, values: Sequence[str]) -> Control:
    match what:
        case "CURRENT UPDATE FIELDNAMES":
            if tuple(filter(None, values)) == FIELDS:
                return Control("ack", what, (LOGIN,))
            return Control("error", f"other fields than those that were selected: {', '.join(values)}")
        case "CURRENT PROTOCOL":
            if values[:1] == [PROTOCOL]:
                return Control("ignored", what)
            return Control("error", f"protocol {', '.join(values)}, not {PROTOCOL}: update IQConnect")
    if what in REMEDIES:
        return Control("error", f"{', '.join((what, *filter(None, values)))}: {REMEDIES[what]}", tuple(values[:1]))
    if what in UNTOLD:
        return Control("ignored", what)
    return Control("notice", ", ".join((what, *filter(None, values))))
