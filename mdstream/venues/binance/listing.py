"""Binance spot: exchangeInfo, and the volumes of ticker/24hr.

Source: binance/binance-spot-api-docs, rest-api.md and filters.md (paths and parameters read 2026-11).
Limits: exchangeInfo costs a weight of 20, ticker/24hr of all symbols 80, of 6,000 a minute.
Quirks: the tick is in the filter PRICE_FILTER, the lot in LOT_SIZE; zero means that there is none. Without
showPermissionSets=false the answer is several times as long.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from mdstream.ticks import Number
from mdstream.venues.binance.history import BinanceApi
from mdstream.venues.feed import Name
from mdstream.venues.listing import Listing, Row, Step

TRADING = "TRADING"


class _Filter(msgspec.Struct):
    filterType: str  # noqa: N815  the venue's name
    tickSize: Step = ""  # noqa: N815
    stepSize: Step = ""  # noqa: N815


class _Symbol(msgspec.Struct):
    """An instrument; `contractStatus` and `contractSize` are those of COIN-M futures."""

    symbol: Name
    baseAsset: str  # noqa: N815
    quoteAsset: str  # noqa: N815
    filters: list[_Filter]
    status: str = ""
    contractStatus: str = ""  # noqa: N815
    contractSize: Annotated[int, msgspec.Meta(ge=0)] = 0  # noqa: N815

    def row(self) -> Row:
        by_type = {each.filterType: each for each in self.filters}
        price, lot = by_type.get("PRICE_FILTER"), by_type.get("LOT_SIZE")
        return Row(
            self.symbol,
            self.baseAsset,
            self.quoteAsset,
            price.tickSize if price else "",
            lot.stepSize if lot else "",
            TRADING in (self.status, self.contractStatus),
            str(self.contractSize or 1),
            self.quoteAsset if self.contractSize else "",
        )


class _Info(msgspec.Struct):
    symbols: list[_Symbol]


class _Ticker(msgspec.Struct):
    """`volume` is in units of base, that of COIN-M futures in contracts; these have no `quoteVolume`."""

    symbol: str
    volume: Number
    quoteVolume: Number | None = None  # noqa: N815


class BinanceListing(BinanceApi, Listing):
    targets = ("/api/v3/exchangeInfo?showPermissionSets=false",)
    answer = _Info
    volume_targets = ("/api/v3/ticker/24hr?type=MINI",)
    volume_answer = list[_Ticker]

    def rows(self, answer: _Info) -> Iterable[Row]:
        """{"symbols":[{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","filters":[{"filterType":"PRICE_FILTER","tickSize":"0.01000000",..},..],..},..],..}"""
        return (symbol.row() for symbol in answer.symbols)

    def volumes(self, answer: list[_Ticker]) -> Iterable[tuple[str, float]]:
        """[{"symbol":"BTCUSDT","volume":"12750.11","quoteVolume":"1195234600.12",..},..]"""
        return ((t.symbol, t.volume if t.quoteVolume is None else t.quoteVolume) for t in answer)
