"""Kraken spot: AssetPairs, and the volumes of Ticker.

Source: docs.kraken.com, spot REST, get-tradable-asset-pairs and get-ticker-information (unconfirmed).
Limits and errors: those of timed.py.
Quirks: `wsname` is the name of WebSocket v1, which says XBT and XDG where v2, and we, have BTC and DOGE. The lot is
the last of `lot_decimals`. Volumes are in units of base, with their average price, each today's and that of 24 hours.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Generic, TypeVar

import msgspec

from mdstream.ticks import Number
from mdstream.venues.kraken.feed import OLD_NAMES
from mdstream.venues.kraken.timed import KrakenApi
from mdstream.venues.listing import Listing, Row, Step

TRADING = ("online", "limit_only", "reduce_only")
NAMES = {old: new for new, old in OLD_NAMES.items()}

T = TypeVar("T")


class _Result(msgspec.Struct, Generic[T]):
    result: dict[str, T]


class _Pair(msgspec.Struct):
    lot_decimals: Annotated[int, msgspec.Meta(ge=0, le=20)]
    wsname: str = ""
    tick_size: Step = ""
    status: str = "online"


class _Ticker(msgspec.Struct):
    v: tuple[Number, Number]
    p: tuple[Number, Number]


class KrakenListing(KrakenApi, Listing):
    targets = ("/0/public/AssetPairs",)
    answer = _Result[_Pair]
    volume_targets = ("/0/public/Ticker",)
    volume_answer = _Result[_Ticker]

    def rows(self, answer: _Result[_Pair]) -> Iterable[Row]:
        """{"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","lot_decimals":8,"tick_size":"0.1","status":"online",..},..}}"""
        for key, pair in answer.result.items():
            base, _, quote = (NAMES.get(name, name) for name in pair.wsname.partition("/"))
            lot, trading = f"1e-{pair.lot_decimals}", pair.status in TRADING
            yield Row(f"{base}/{quote}", base, quote, pair.tick_size, lot, trading, key=key)

    def volumes(self, answer: _Result[_Ticker]) -> Iterable[tuple[str, float]]:
        """{"error":[],"result":{"XXBTZUSD":{"v":["411.2","1875.03"],"p":["93750.1","93612.4"],..},..}}"""
        return ((key, ticker.v[1] * ticker.p[1]) for key, ticker in answer.result.items())
