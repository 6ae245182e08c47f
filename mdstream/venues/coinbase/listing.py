"""Coinbase Exchange: /products.

Source: docs.cdp.coinbase.com, Exchange REST API, products (unconfirmed).
Limits: 10 requests per second and address.
Quirks: volumes of 24 hours are given in units of base and without a price, so there are none in quote currency.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mdstream.venues.coinbase.history import CoinbaseApi
from mdstream.venues.feed import Name
from mdstream.venues.listing import Listing, Row, Step

TRADING = "online"


class _Product(msgspec.Struct):
    id: Name
    base_currency: str
    quote_currency: str
    base_increment: Step
    quote_increment: Step
    status: str
    trading_disabled: bool = False
    cancel_only: bool = False


class CoinbaseListing(CoinbaseApi, Listing):
    targets = ("/products",)
    answer = list[_Product]

    def rows(self, answer: list[_Product]) -> Iterable[Row]:
        """[{"id":"BTC-USD","base_currency":"BTC","quote_currency":"USD","quote_increment":"0.01","base_increment":"0.00000001","status":"online","trading_disabled":false,..},..]"""
        for p in answer:
            trading = p.status == TRADING and not p.trading_disabled and not p.cancel_only
            yield Row(p.id, p.base_currency, p.quote_currency, p.quote_increment, p.base_increment, trading)
