"""OKX v5, public channels: spot, swaps, dated futures and options.

Channels: trades, bbo-tbt, books5; also understood: trades-all, tickers, the snapshots of books. Updates of books are
ignored. trades-all is at another address (/ws/v5/business). REST: the answers of history-trades, as repair publishes
them.
Source: OKX API guide v5, public data (read 2026-08).
Quirks: all numbers and times are text, times are milliseconds, an empty side of a ticker is ""; bbo-tbt and books have
their symbol only in `arg`; `ping` and `pong` are not JSON. Sizes are passed on in the venue's unit: base units on spot,
but CONTRACTS on swaps, futures and options (multiply by the instrument's `ctVal`).
Ids: `tradeId` is contiguous per instrument. `trades` merges the fills of one taker order at one price: its id is the
last of `count`, so it covers tradeId-count+1 .. tradeId (older captures have no `count`: one each). trades-all and
history-trades give each fill separately, under the same ids.
`seqId` of the books rises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar

import msgspec

from mdstream import instruments
from mdstream.errors import FrameError, SymbolError
from mdstream.events import Level, Side
from mdstream.repairs import REST_MARK
from mdstream.ticks import BOOK_DEPTH, NO_ID, BookTick, Control, Number, QuoteTick, Size, Tick, TradeTick
from mdstream.venues.feed import (
    BOOK,
    MS,
    OTHER,
    QUOTE,
    TRADE,
    UNREADABLE,
    Id,
    Keepalive,
    Millis,
    Provider,
    Remembered,
    Request,
    Route,
    side_of_book,
)

QUOTES = (*instruments.QUOTES, "OKB", "AED", "USD_UM")
"""USD_UM: the linear contracts in USD, beside the inverse ones."""
CHANNELS = ("trades", "bbo-tbt", "books5")
CLOSING_SOON = "64008"
ARGS_PER_REQUEST = 300  # a request may have 64 KB; an argument here has less than 100 bytes
KINDS = {b"trades": TRADE, b"trades-all": TRADE, b"bbo-tbt": QUOTE, b"tickers": QUOTE, b"books5": BOOK, b"books": BOOK}

_HEAD = re.compile(
    rb'\{\s*"arg"\s*:\s*\{\s*"channel"\s*:\s*"([A-Za-z0-9-]{1,40})"\s*,\s*"instId"\s*:\s*"([A-Za-z0-9][A-Za-z0-9_-]{0,59})"'
)

_REST = re.compile(
    rb'\{"request":"/api/v5/market/history-trades\?instId=([A-Za-z0-9][A-Za-z0-9_-]{0,59})&[^"#]*(?:#([a-z-]{1,40}))?"'
)

_REJECTED = re.compile(r"channel:([^ ,]{1,40}),instId:([^ ,]{1,60})")


class _Trade(msgspec.Struct, gc=False):
    tradeId: Id  # noqa: N815  the venue's name
    px: Number
    sz: Number
    side: Side
    ts: Millis
    count: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1


class _Ticker(msgspec.Struct, gc=False):
    bidPx: str  # noqa: N815  the venue's name
    bidSz: str  # noqa: N815
    askPx: str  # noqa: N815
    askSz: str  # noqa: N815
    ts: Millis


class _Level(msgspec.Struct, gc=False, array_like=True):
    """Price and size; a dead field and the number of orders follow."""

    price: Number
    size: Size


class _Book(msgspec.Struct):
    bids: list[_Level]
    asks: list[_Level]
    ts: Millis
    seqId: Id = NO_ID  # noqa: N815  the venue's name


class _TradesMessage(msgspec.Struct, gc=False):
    data: list[_Trade]


class _RestTradesMessage(msgspec.Struct, gc=False):
    response: _TradesMessage


class _TickersMessage(msgspec.Struct, gc=False):
    data: list[_Ticker]


class _BooksMessage(msgspec.Struct):
    data: list[_Book]
    action: str = "snapshot"


class _Arg(msgspec.Struct):
    channel: str = ""
    instId: str = ""  # noqa: N815  the venue's name


class _Other(msgspec.Struct):
    """Acks, errors, notices, and data with its fields in an order that _HEAD does not match."""

    event: str = ""
    arg: _Arg | None = None
    code: str = ""
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw()


_decode_trades = msgspec.json.Decoder(_TradesMessage, strict=False).decode
_decode_tickers = msgspec.json.Decoder(_TickersMessage, strict=False).decode
_decode_books = msgspec.json.Decoder(_BooksMessage, strict=False).decode
_decode_rest_trades = msgspec.json.Decoder(_RestTradesMessage, strict=False).decode
_decode_other = msgspec.json.Decoder(_Other).decode

_NOT_DATA = Route(b"okx", OTHER)
_PONG = (Control("pong"),)
_BOOK_UPDATE = (Control("ignored", "an update of books"),)


class Okx(Provider):
    name = "okx"
    market = "crypto"
    default_url = "wss://ws.okx.com:8443/ws/v5/public"
    contiguous_ids = True
    max_symbols = 200
    subscribe_interval_s = 0.5
    keepalive: ClassVar[Keepalive | None] = Keepalive(20.0, "ping")  # the venue closes after 30 s without any message

    def __init__(self) -> None:
        self._routes = Remembered(self._route)
        self._symbols = Remembered(_symbol)

    def to_venue(self, symbol: str) -> str:
        venue_id = instruments.to_dashed(symbol, QUOTES)
        if venue_id is None:
            raise SymbolError(self.name, symbol, "a name like BTCUSDT-PERP, or the venue's own id like BTC-USDT-SWAP")
        return venue_id

    def from_venue(self, symbol: str) -> str:
        return instruments.from_dashed(symbol)

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        ids = [self.to_venue(symbol) for symbol in symbols]
        args = [{"channel": channel, "instId": venue_id} for venue_id in ids for channel in CHANNELS]
        chunks = [args[i : i + ARGS_PER_REQUEST] for i in range(0, len(args), ARGS_PER_REQUEST)]
        return [
            Request(
                json.dumps({"id": str(i), "op": "subscribe", "args": chunk}),
                tuple(f"{arg['channel']} {arg['instId']}" for arg in chunk),
            )
            for i, chunk in enumerate(chunks, 1)
        ]

    def route(self, frame: bytes) -> Route:
        match = _HEAD.match(frame)
        if match is None:
            rest = _REST.match(frame)
            return _NOT_DATA if rest is None else self._routes[b"trades", rest[1]]
        return self._routes[match.groups()]

    def _route(self, groups: tuple[bytes, ...]) -> Route:
        channel, venue_id = groups
        return Route(self.from_venue(venue_id.decode()).encode(), KINDS.get(channel, OTHER))

    def decode(self, frame: bytes) -> Sequence[Tick]:
        match = _HEAD.match(frame)
        try:
            if match is None:
                return self._decode_other(frame)
            parse = PARSERS.get(match[1])
            if parse is not None:
                return parse(self._symbols[match[2]], frame)
            return self._decode_other(frame)
        except UNREADABLE as error:
            raise FrameError(f"not JSON that can be read: {error}") from None

    def _decode_other(self, frame: bytes) -> Sequence[Tick]:
        if frame == b"pong":
            return _PONG
        if frame.startswith(REST_MARK):
            return self._decode_rest(frame)
        m = _decode_other(frame)
        if m.event:
            return (_control(m),)
        if m.arg is None or not bytes(m.data):
            raise FrameError("neither an event nor the data of a channel")
        parse = PARSERS.get(m.arg.channel.encode())
        if parse is None:
            return (Control("ignored", m.arg.channel),)
        return parse(self._symbols[m.arg.instId.encode()], frame)

    def _decode_rest(self, frame: bytes) -> Sequence[TradeTick]:
        """{"request":"/api/v5/market/history-trades?instId=BTC-USDT&..","response":{"code":"0","msg":"","data":[{..},..]}}

        The request may end in #trades-all: it was then made for that channel.
        """
        match = _REST.match(frame)
        if match is None:
            raise FrameError("the answer to a request that repair did not make")
        symbol, view = self._symbols[match[1]], (match[2] or b"trades").decode()
        return [
            TradeTick(
                symbol, str(d.tradeId), d.px, d.sz, d.side, d.ts * MS, d.tradeId, d.tradeId, 1, view, recovered=True
            )
            for d in _decode_rest_trades(frame).response.data
        ]


def _symbol(venue_id: bytes) -> str:
    symbol = instruments.from_dashed(venue_id.decode())
    if not symbol:
        raise FrameError(f"no instrument: {venue_id!r}")
    return symbol


def _parse_trades(symbol: str, frame: bytes, view: str = "trades") -> Sequence[TradeTick]:
    """{"arg":{..},"data":[{"tradeId":"884123456","px":"93741.2","sz":"0.0015","side":"sell","ts":"1767625200123","count":"3",..}]}"""
    return [
        TradeTick(
            symbol, str(d.tradeId), d.px, d.sz, d.side, d.ts * MS, d.tradeId - d.count + 1, d.tradeId, d.count, view
        )
        for d in _decode_trades(frame).data
    ]


def _parse_trades_all(symbol: str, frame: bytes) -> Sequence[TradeTick]:
    """As trades, but each fill separately. The ids are the same, so the two channels must not be mixed."""
    return _parse_trades(symbol, frame, "trades-all")


def _parse_tickers(symbol: str, frame: bytes) -> Sequence[QuoteTick]:
    """{"arg":{..},"data":[{"askPx":"93741.3","askSz":"0.5","bidPx":"93741.2","bidSz":"1.1","ts":"1767625200110",..}]}"""
    return [
        QuoteTick(symbol, *side_of_book(d.bidPx, d.bidSz), *side_of_book(d.askPx, d.askSz), d.ts * MS)
        for d in _decode_tickers(frame).data
    ]


def _parse_bbo(symbol: str, frame: bytes) -> Sequence[QuoteTick]:
    """{"arg":{..},"data":[{"asks":[["93741.3","0.5","0","2"]],"bids":[[..]],"ts":"1767625200120","seqId":363996337}]}"""
    return [_top(symbol, book) for book in _decode_books(frame).data]


def _top(symbol: str, book: _Book) -> QuoteTick:
    return QuoteTick(symbol, *_best(book.bids), *_best(book.asks), book.ts * MS, book.seqId)


def _best(levels: Sequence[_Level]) -> tuple[float | None, float | None]:
    return (levels[0].price, levels[0].size) if levels else (None, None)


def _parse_books(symbol: str, frame: bytes) -> Sequence[Tick]:
    """As bbo-tbt, five levels per side (books5), or up to 400 with "action":"snapshot" (books); updates are ignored."""
    if b'"action":"update"' in frame[:200]:
        return _BOOK_UPDATE
    message = _decode_books(frame)
    if message.action == "update":
        return _BOOK_UPDATE
    return [BookTick(symbol, _levels(b.bids), _levels(b.asks), b.ts * MS, b.seqId) for b in message.data]


def _levels(levels: Sequence[_Level]) -> list[Level]:
    return [(level.price, level.size) for level in levels[:BOOK_DEPTH]]


def _control(m: _Other) -> Control:
    """{"id":"1","event":"error","code":"60018","msg":"Wrong URL or channel:foo,.."} and similar."""
    if m.event.endswith("error"):
        rejected = _REJECTED.search(m.msg)
        return Control("error", f"code {m.code}: {m.msg}", (" ".join(rejected.groups()),) if rejected else ())
    if m.event in ("subscribe", "unsubscribe"):
        name = "" if m.arg is None else f"{m.arg.channel} {m.arg.instId}"
        return Control("ack", f"{m.event} {name}".rstrip(), (name,) if m.event == "subscribe" else ())
    return Control("shutdown" if m.code == CLOSING_SOON else "notice", f"{m.event} {m.code} {m.msg}".rstrip())


PARSERS: dict[bytes, Callable[[str, bytes], Sequence[Tick]]] = {
    b"trades": _parse_trades,
    b"trades-all": _parse_trades_all,
    b"tickers": _parse_tickers,
    b"bbo-tbt": _parse_bbo,
    b"books5": _parse_books,
    b"books": _parse_books,
}
