"""OKX v5, public channels: spot, swaps, dated futures and options.

Channels: trades, bbo-tbt, books; also understood: trades-all, tickers, books5. trades-all is at another address
(/ws/v5/business). REST: the answers of history-trades and history-candles, as repair and backfill publish them.
Source: OKX API guide v5, public data (read 2026-08).
Quirks: all numbers and times are text, times are milliseconds, an empty side of a ticker is ""; bbo-tbt and books have
their symbol only in `arg`; `ping` and `pong` are not JSON. Sizes are base units on spot, but CONTRACTS on swaps,
futures and options. Those of linear ones are multiplied by what one is worth (`ctVal` times `ctMult`) if that is known.
Ids: `tradeId` is contiguous per instrument. `trades` merges the fills of one taker order at one price: its id is the
last of `count`, so it covers tradeId-count+1 .. tradeId (older captures have no `count`: one each). trades-all and
history-trades give each fill separately, under the same ids, so the two channels must not be mixed.
Books: `books` sends 400 levels, then the changes each 100 ms: absolute sizes, "0" for a removed level. Each one's
`prevSeqId` is the `seqId` before it, also when numbers begin again; without a change one comes each minute. `checksum`
is always 0 since the venue gave it up. Quotes are those of bbo-tbt, which is ten times as fast.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar, Generic, Literal, TypeVar

import msgspec

from mdstream import instruments
from mdstream.errors import FrameError
from mdstream.events import Level, Side
from mdstream.ticks import (
    BOOK_DEPTH,
    NO_ID,
    BarTick,
    BookTick,
    BookUpdate,
    Control,
    LevelSize,
    Number,
    QuoteTick,
    Size,
    TradeTick,
)
from mdstream.venues.feed import (
    BAR,
    BOOK,
    QUOTE,
    TRADE,
    Channel,
    Head,
    Id,
    Keepalive,
    Name,
    Provider,
    Request,
    RestAnswer,
)
from mdstream.venues.parsing import price_levels, recovered, side_of_book
from mdstream.venues.symbols import separated
from mdstream.venues.times import MS, Millis

QUOTES = (*instruments.QUOTES, "OKB", "AED", "USD_UM")
"""USD_UM: the linear contracts in USD, beside the inverse ones."""
CHANNELS = ("trades", "bbo-tbt", "books")
CLOSING_SOON = "64008"
CLOSED = "1"
CONTRACT = "a pair: a past candle does not say what its contract was worth"
ARGS_PER_REQUEST = 300  # a request may have 64 KB; an argument here has less than 100 bytes

_INSTRUMENT = rb"(?P<symbol>[A-Za-z0-9][A-Za-z0-9_-]{0,59})"
_ARG = re.compile(
    rb'\{\s*"arg"\s*:\s*\{\s*"channel"\s*:\s*"(?P<channel>[A-Za-z0-9-]{1,40})"\s*,\s*"instId"\s*:\s*"%s"' % _INSTRUMENT
)
_REST = re.compile(rb'\{"request":"/api/v5/market/(?P<channel>history-(?:trades|candles))\?instId=%s&' % _INSTRUMENT)
_REJECTED = re.compile(r"channel:([^ ,]{1,40}),instId:([^ ,]{1,60})")

T = TypeVar("T")


class _Data(msgspec.Struct, Generic[T], gc=False):
    data: list[T]


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


class _Row(msgspec.Struct, gc=False, array_like=True):
    """As _Level, with the price as it is written."""

    price: str
    size: LevelSize


class _Rows(msgspec.Struct, gc=False):
    bids: list[_Row]
    asks: list[_Row]
    ts: Millis
    seqId: Id = NO_ID  # noqa: N815  the venue's name
    prevSeqId: Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)] | None = None  # noqa: N815


class _Changes(msgspec.Struct, gc=False):
    action: Literal["snapshot", "update"]
    data: list[_Rows]


class _HistoryTrades(msgspec.Struct, gc=False):
    response: _Data[_Trade]
    id_space: Literal["trades", "trades-all"] = msgspec.field(name="view", default="trades")


_Candle = tuple[Millis, Number, Number, Number, Number, Size, Size, Size, str]


class _Arg(msgspec.Struct):
    channel: str = ""
    instId: Name = ""  # noqa: N815  the venue's name


class _Other(msgspec.Struct):
    """Acks, errors, notices, and data whose fields have another order; every field may be missing."""

    event: str = ""
    arg: _Arg | None = None
    code: str = ""
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw()


def _trades(m: _Data[_Trade], symbol: str, id_space: str = "trades") -> Sequence[TradeTick]:
    """{"arg":{..},"data":[{"tradeId":"884123456","px":"93741.2","sz":"0.0015","side":"sell","ts":"1767625200123","count":"3",..}]}"""
    return [
        TradeTick(
            symbol, str(d.tradeId), d.px, d.sz, d.side, d.ts * MS, d.tradeId - d.count + 1, d.tradeId, d.count, id_space
        )
        for d in m.data
    ]


def _tickers(m: _Data[_Ticker], symbol: str) -> Sequence[QuoteTick]:
    """{"arg":{..},"data":[{"askPx":"93741.3","askSz":"0.5","bidPx":"93741.2","bidSz":"1.1","ts":"1767625200110",..}]}"""
    return [
        QuoteTick(symbol, *side_of_book(d.bidPx, d.bidSz), *side_of_book(d.askPx, d.askSz), d.ts * MS) for d in m.data
    ]


def _bbo(m: _Data[_Book], symbol: str) -> Sequence[QuoteTick]:
    """{"arg":{..},"data":[{"asks":[["93741.3","0.5","0","2"]],"bids":[[..]],"ts":"1767625200120","seqId":363996337}]}"""
    return [QuoteTick(symbol, *_best(d.bids), *_best(d.asks), d.ts * MS, d.seqId) for d in m.data]


def _best(levels: Sequence[_Level]) -> tuple[float | None, float | None]:
    return (levels[0].price, levels[0].size) if levels else (None, None)


def _books5(m: _Data[_Book], symbol: str) -> Sequence[BookTick]:
    """As bbo-tbt, with five levels per side."""
    return [BookTick(symbol, _levels(d.bids), _levels(d.asks), d.ts * MS, d.seqId) for d in m.data]


def _levels(levels: Sequence[_Level]) -> list[Level]:
    return [(level.price, level.size) for level in levels[:BOOK_DEPTH]]


def _books(m: _Changes, symbol: str) -> Sequence[BookUpdate]:
    """{"arg":{..},"action":"update","data":[{"asks":[],"bids":[["93740","0","0","0"]],"ts":"1767625200130","checksum":0,"seqId":363996340,"prevSeqId":363996337}]}"""
    return [_update(d, symbol, whole=m.action == "snapshot") for d in m.data]


def _update(d: _Rows, symbol: str, *, whole: bool) -> BookUpdate:
    bids, asks = (price_levels([(row.price, row.size) for row in side]) for side in (d.bids, d.asks))
    return BookUpdate(symbol, bids, asks, d.ts * MS, whole, None, d.seqId, d.prevSeqId)


def _history_trades(m: _HistoryTrades, symbol: str) -> Sequence[TradeTick]:
    """{"code":"0","msg":"","data":[{"tradeId":"884123456","px":"93741.2","sz":"0.0005","side":"sell","ts":"1767625200123"},..]}"""
    return recovered(_trades(m.response, symbol, m.id_space))


def _history_candles(m: RestAnswer[_Data[_Candle]], symbol: str) -> Sequence[BarTick]:
    """{"code":"0","msg":"","data":[["1767625140000","93700","93750","93690","93741.2","12.5","1171000","1171000","1"],..]}"""
    if "-" in symbol:
        raise FrameError(f"expected {CONTRACT}")
    return [
        BarTick(symbol, m.id_space, ms * MS, opened, high, low, close, volume, turnover)
        for ms, opened, high, low, close, volume, _, turnover, state in m.response.data
        if volume and state == CLOSED
    ]


class Okx(Provider):
    name = "okx"
    market = "crypto"
    default_url = "wss://ws.okx.com:8443/ws/v5/public"
    sandbox_url = "wss://wspap.okx.com:8443/ws/v5/public"
    symbols = separated("a name like BTCUSDT-PERP, or the venue's own id like BTC-USDT-SWAP", QUOTES, contracts=True)
    contiguous_ids = True
    sizes_in_contracts = True
    quotes_from_books = False
    max_symbols = 200
    subscribe_interval_s = 0.5
    keepalive: ClassVar[Keepalive | None] = Keepalive(20.0, "ping")  # the venue closes after 30 s without any message
    channels = (
        Channel("trades", TRADE, _Data[_Trade], _trades),
        Channel("trades-all", TRADE, _Data[_Trade], partial(_trades, id_space="trades-all")),
        Channel("tickers", QUOTE, _Data[_Ticker], _tickers),
        Channel("bbo-tbt", QUOTE, _Data[_Book], _bbo),
        Channel("books5", BOOK, _Data[_Book], _books5),
        Channel("books", BOOK, _Changes, _books),
        Channel("history-trades", TRADE, _HistoryTrades, _history_trades),
        Channel("history-candles", BAR, RestAnswer[_Data[_Candle]], _history_candles),
    )
    heads = (_ARG, _REST)
    head_end = b"}"
    texts: ClassVar = {b"pong": Control("pong")}
    other = _Other

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

    def control(self, message: _Other) -> Control | Head:
        """{"id":"1","event":"error","code":"60018","msg":"Wrong URL or channel:foo,.."} and similar."""
        m = message
        if m.event.endswith("error"):
            rejected = _REJECTED.search(m.msg)
            return Control("error", f"code {m.code}: {m.msg}", (" ".join(rejected.groups()),) if rejected else ())
        if m.event in ("subscribe", "unsubscribe"):
            name = "" if m.arg is None else f"{m.arg.channel} {m.arg.instId}"
            return Control("ack", f"{m.event} {name}".rstrip(), (name,) if m.event == "subscribe" else ())
        if m.event:
            return Control("shutdown" if m.code == CLOSING_SOON else "notice", f"{m.event} {m.code} {m.msg}".rstrip())
        if m.arg is None or not bytes(m.data):
            raise FrameError("neither an event nor the data of a channel")
        return Head(m.arg.channel, m.arg.instId)
