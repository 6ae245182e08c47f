"""Coinbase Exchange: candles.

Source: docs.cdp.coinbase.com, Exchange REST API, get-product-candles (read 2026-11).
Limits: those of history.py; more than 300 candles in a request are refused.
Reach: from the first trade on. An interval without trades has no candle.
Quirks: `start` and `end` are both included; candles from before `start` may come, too.
"""

from __future__ import annotations

from typing import ClassVar

from mdstream.venues.coinbase.history import CoinbasePast
from mdstream.venues.timed import Endpoint, Timed


class CoinbaseTimed(CoinbasePast, Timed):
    intervals: ClassVar = {"1m": "60", "5m": "300", "15m": "900", "1h": "3600", "6h": "21600", "1d": "86400"}
    bars = Endpoint("/products/{symbol}/candles?granularity={interval}&start={begin_s}&end={last_s}", 300)
