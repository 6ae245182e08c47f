"""TradingView's alerts: it calls us, `mdstream api` writes what it sends, and nothing is subscribed to.

Channel: an alert, a JSON object whose text the user writes (docs/api.md). There are no quotes, no books, no history.
Source: TradingView's help pages on webhooks and on the placeholders of alerts (read 2026-11).
Quirks: placeholders are replaced as text, so numbers may be within quotes. A bar's time, {{time}}, is when it opened,
maybe hours ago: {{timenow}} goes before it.
Symbols: an alert is one person's view of a market, no feed of its trades. So its instruments are its own, with the
market TV, and it never stands in for a venue.
Ids: the user's `id`; without one a digest of what the alert says, so that the same alert is one trade however often it
comes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated

import msgspec

from mdstream.errors import FrameError
from mdstream.events import Side
from mdstream.ticks import Control, Number, Size, TradeTick
from mdstream.venues.feed import TRADE, Channel, Head, Provider, Request
from mdstream.venues.symbols import Symbols
from mdstream.venues.times import Epoch, epoch_ns, rfc3339_ns

MARKET = ".TV"
ALERT = "alert"

_SYMBOL = r"(?:[A-Z0-9_]{1,20}:)?[A-Z0-9]{1,28}(?:[&._-][A-Z0-9]{1,28}){0,3}!?"
_NAME = re.compile(rf"(?=.{{1,30}}\Z){_SYMBOL}")
_HEAD = re.compile(rf'\{{\s*"symbol"\s*:\s*"(?P<symbol>(?=[^"]{{1,30}}"){_SYMBOL})"\s*,'.encode())

AlertId = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[^\0]*\Z")]
"""No database has text with a NUL."""


class _Alert(msgspec.Struct, gc=False):
    price: Number | None = None
    close: Number | None = None
    size: Size = 0.0
    side: Side | None = None
    timenow: str | Epoch = ""
    time: str | Epoch = ""
    id: AlertId = ""


class _Named(msgspec.Struct):
    """What any alert says of its instrument: `symbol`, or `ticker` with or without `exchange`."""

    symbol: str = ""
    ticker: str = ""
    exchange: str = ""


def _alert(m: _Alert, symbol: str) -> Sequence[TradeTick]:
    """{"symbol":"BINANCE:BTCUSDT","price":93741.2,"size":0.5,"side":"buy","timenow":"2026-01-05T15:00:00Z","id":"a1"}"""
    price = m.close if m.price is None else m.price
    if price is None:
        raise FrameError("an alert without a price: give it as price or close")
    time = m.timenow or m.time
    if not time:
        raise FrameError("an alert without a time: give it as timenow or time")
    ts_exchange = rfc3339_ns(time) if isinstance(time, str) else epoch_ns(time)
    exchange, colon, _ = symbol.partition(":")
    trade_id = m.id or blake2b(msgspec.json.encode(m), digest_size=16).hexdigest()
    return (TradeTick(symbol, trade_id, price, m.size, m.side, ts_exchange, venue=exchange if colon else None),)


def _to_venue(symbol: str) -> str | None:
    name = symbol.upper().removesuffix(MARKET)
    return name if _NAME.fullmatch(name) else None


def _from_venue(name: str) -> str:
    upper = name.upper()
    return upper + MARKET if _NAME.fullmatch(upper) else ""


class TradingView(Provider):
    name = "tradingview"
    market = "crypto"  # one for all: alerts come at any hour
    coverage = "tradingview"
    has_feed = False
    default_url = ""
    symbols = Symbols("a name at TradingView, like BTCUSDT or BINANCE:BTCUSDT", _to_venue, _from_venue)
    default_symbols = ("BTCUSDT.TV", "ETHUSDT.TV")
    max_symbols = 1
    channels = (Channel(ALERT, TRADE, _Alert, _alert),)
    heads = (_HEAD,)
    other = _Named

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:  # noqa: ARG002  there is nobody to ask
        return []

    def head(self, frame: bytes) -> tuple[bytes, bytes] | None:
        match = _HEAD.match(frame)
        return (ALERT.encode(), match["symbol"]) if match else None

    def control(self, message: _Named) -> Control | Head:
        """{"ticker":"BTCUSDT","exchange":"BINANCE","close":93741.2,"time":"2026-01-05T15:00:00Z"}"""
        name = message.symbol or ":".join(filter(None, (message.exchange, message.ticker)))
        if not (message.symbol or message.ticker):
            raise FrameError("an alert without an instrument: give it as symbol, or as ticker and exchange")
        return Head(ALERT, name)
