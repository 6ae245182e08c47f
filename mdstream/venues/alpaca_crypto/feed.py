"""Alpaca, crypto of its own US exchange: market data v1beta3.

Channels: trades, quotes, orderbooks; ignored: bars. REST: bars and trades by time, as backfill publishes them.
Source: docs.alpaca.markets, streaming market data, real-time and historical crypto data (read 2026-09).
Quirks: login, requests, answers and errors are those of the stocks (mdstream/venues/alpaca/feed.py); `tks` is the
taker's side, `-` if unknown; a small number may have an exponent. A past bar without trades is made of quotes, with a
volume of 0.
Ids: `i` is above 2**53, and nothing says that it rises.
Books: with `r` a whole one, as after each subscription, else changes: absolute sizes, 0 for a removed level. There is
no sequence number. Quotes are the book's top; without a book, those of the channel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Literal

import msgspec

from mdstream import instruments
from mdstream.events import Side
from mdstream.ticks import PRICE_DECIMALS, BookUpdate, LevelSize, Number, PriceLevel, TradeTick, number, price_units
from mdstream.venues import arrays
from mdstream.venues.alpaca.feed import HEAD, Alpaca, Bars, Quote, past_bars, quotes, rows_of
from mdstream.venues.feed import BAR, BOOK, QUOTE, TRADE, Channel, Id, Name, RestAnswer
from mdstream.venues.parsing import recovered
from mdstream.venues.symbols import separated
from mdstream.venues.times import rfc3339_ns

SIDES: dict[str, Side | None] = {"B": "buy", "S": "sell", "-": None}
_REST = re.compile(
    rb'\{"request":"/v1beta3/crypto/us/(?P<channel>bars|trades)\?symbols=(?P<symbol>[A-Z0-9]{1,20}/[A-Z0-9]{1,20})&'
)


class _PastTrade(msgspec.Struct, gc=False):
    p: Number
    s: Number
    t: str
    i: Id
    tks: Literal["B", "S", "-"]


class _Trade(_PastTrade, gc=False, kw_only=True):
    S: Name


class _PastTrades(msgspec.Struct):
    trades: dict[Name, list[_PastTrade]] | None


class _Level(msgspec.Struct, gc=False):
    p: msgspec.Raw
    s: LevelSize


class _Book(msgspec.Struct, gc=False):
    S: Name
    t: str
    b: list[_Level] = []
    a: list[_Level] = []
    r: bool = False


def _trades(m: list[_Trade], symbol: str) -> Sequence[TradeTick]:
    """[{"T":"t","S":"BTC/USD","p":93741.2,"s":0.0015,"t":"2026-01-05T15:00:00.123456Z","i":3447222699101865076,"tks":"S"},..]"""
    return [_trade(d, symbol) for d in arrays.of_one(m, lambda d: d.S)]


def _trade(d: _PastTrade, symbol: str) -> TradeTick:
    return TradeTick(symbol, str(d.i), d.p, d.s, SIDES[d.tks], rfc3339_ns(d.t))


def _past_trades(m: RestAnswer[_PastTrades], symbol: str) -> Sequence[TradeTick]:
    """{"trades":{"BTC/USD":[{"t":"2026-01-05T15:00:00.123456Z","p":93741.2,"s":0.0015,"i":3447222699101865076,"tks":"S"},..]},..}"""
    return recovered(_trade(d, symbol) for d in rows_of(m.response.trades, symbol))


def _books(m: list[_Book], symbol: str) -> Sequence[BookUpdate]:
    """[{"T":"o","S":"BTC/USD","t":"2026-01-05T15:00:00.123456Z","b":[{"p":93740.0,"s":0.5}],"a":[{"p":93745.0,"s":0}],"r":true},..]"""
    return [
        BookUpdate(symbol, _levels(d.b), _levels(d.a), rfc3339_ns(d.t), d.r) for d in arrays.of_one(m, lambda d: d.S)
    ]


def _levels(levels: list[_Level]) -> list[PriceLevel]:
    return [(price_units(_plain(str(level.p, "latin-1"))), level.s) for level in levels]


def _plain(text: str) -> str:
    return f"{number(text):.{PRICE_DECIMALS}f}" if "e" in text.lower() else text


class AlpacaCrypto(Alpaca):
    name = "alpaca_crypto"
    market = "crypto"
    coverage = "venue"
    default_url = "wss://stream.data.alpaca.markets/v1beta3/crypto/us"
    sandbox_url = "wss://stream.data.sandbox.alpaca.markets/v1beta3/crypto/us"
    default_symbols = ("BTCUSD", "ETHUSD")
    symbols = separated("a pair like BTCUSD, or the venue's own form, BTC/USD", instruments.QUOTES, "/")
    silence_s = 60.0
    channels = (
        Channel("t", TRADE, list[_Trade], _trades),
        Channel("q", QUOTE, list[Quote], quotes),
        Channel("o", BOOK, list[_Book], _books),
        Channel("trades", TRADE, RestAnswer[_PastTrades], _past_trades),
        Channel("bars", BAR, RestAnswer[Bars], past_bars),
    )
    heads: ClassVar = (HEAD, _REST)
    kinds = ("trades", "quotes", "orderbooks")
