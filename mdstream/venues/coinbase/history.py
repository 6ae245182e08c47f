"""Coinbase Exchange: /products/{id}/trades, downwards from an id.

Source: docs.cdp.coinbase.com, Exchange REST API, products (read 2026).
Limits: 10 requests per second and address, 15 in a burst; 429 beyond.
Reach: from the first trade on.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from mdstream.venues.history import Endpoint, History
from mdstream.venues.past import Limits, Past
from mdstream.venues.rest import Api, Complaint

REQUESTS_PER_S = 10
SITES = {
    "ws-feed.exchange.coinbase.com": "Coinbase Exchange",
    "api.exchange.coinbase.com": "Coinbase Exchange",
    "ws-feed-public.sandbox.exchange.coinbase.com": "Coinbase's sandbox",
    "api-public.sandbox.exchange.coinbase.com": "Coinbase's sandbox",
}


class _Error(msgspec.Struct):
    message: str


class CoinbaseApi(Api):
    name = "coinbase"
    default_url = "https://api.exchange.coinbase.com"
    sandbox_url = "https://api-public.sandbox.exchange.coinbase.com"
    error = _Error

    def complaint(self, status: int, error: _Error) -> Complaint | None:
        """{"message":"NotFound"}; for an unknown path the message differs: "Route not found"."""
        return Complaint(error.message, status == 400 or (status == 404 and error.message == "NotFound"))


class CoinbasePast(CoinbaseApi, Past):
    sites = SITES
    limits = Limits(per_s=REQUESTS_PER_S / 2, burst=5.0)  # half of it: others may use the same address


class CoinbaseHistory(CoinbasePast, History):
    endpoints: ClassVar = {"": Endpoint("/products/{symbol}/trades?after={after}&limit={rows}")}
    newest_first = True
    most_rows = 1_000
