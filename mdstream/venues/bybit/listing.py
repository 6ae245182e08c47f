"""Bybit V5 spot: instruments-info, and the volumes of tickers.

Source: bybit-exchange/docs, docs/v5/market/instrument and docs/v5/market/tickers (unconfirmed).
Limits and errors: those of timed.py.
Quirks: spot has its whole list in one answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

from mdstream.ticks import Number
from mdstream.venues.bybit.timed import BybitApi
from mdstream.venues.feed import Name
from mdstream.venues.listing import Listing, Row, Step

TRADING = "Trading"

T = TypeVar("T")


class _List(msgspec.Struct, Generic[T]):
    rows: list[T] = msgspec.field(name="list")
    nextPageCursor: str = ""  # noqa: N815  the venue's name


class Page(msgspec.Struct, Generic[T]):
    """An answer with a list."""

    result: _List[T]


class _Price(msgspec.Struct):
    tickSize: Step  # noqa: N815


class _Lot(msgspec.Struct):
    """`basePrecision` is the step of spot, `qtyStep` that of derivatives."""

    basePrecision: Step = ""  # noqa: N815
    qtyStep: Step = ""  # noqa: N815


class Instrument(msgspec.Struct):
    symbol: Name
    baseCoin: str  # noqa: N815
    quoteCoin: str  # noqa: N815
    status: str
    priceFilter: _Price  # noqa: N815
    lotSizeFilter: _Lot  # noqa: N815


class Ticker(msgspec.Struct):
    symbol: str
    turnover24h: Number


class BybitListing(BybitApi, Listing):
    targets = ("/v5/market/instruments-info?category=spot",)
    answer = Page[Instrument]
    volume_targets = ("/v5/market/tickers?category=spot",)
    volume_answer = Page[Ticker]

    def rows(self, answer: Page[Instrument]) -> Iterable[Row]:
        """{"retCode":0,..,"result":{"category":"spot","list":[{"symbol":"BTCUSDT","baseCoin":"BTC","quoteCoin":"USDT","status":"Trading","lotSizeFilter":{"basePrecision":"0.000001",..},"priceFilter":{"tickSize":"0.01"},..},..]},..}"""
        for i in answer.result.rows:
            lot = i.lotSizeFilter.basePrecision or i.lotSizeFilter.qtyStep
            yield Row(i.symbol, i.baseCoin, i.quoteCoin, i.priceFilter.tickSize, lot, i.status == TRADING)

    def volumes(self, answer: Page[Ticker]) -> Iterable[tuple[str, float]]:
        """{"retCode":0,..,"result":{"category":"spot","list":[{"symbol":"BTCUSDT","turnover24h":"1195234600.12",..},..]},..}"""
        return ((ticker.symbol, ticker.turnover24h) for ticker in answer.result.rows)
