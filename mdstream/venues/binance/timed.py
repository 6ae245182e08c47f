"""Binance spot: klines.

Source: binance/binance-spot-api-docs, rest-api.md (read 2026-07).
Limits: a request costs 2 units of weight (history.py).
Reach: from the first trade on. An interval without trades has a kline, too.
"""

from __future__ import annotations

from typing import ClassVar

from mdstream.venues.binance.history import BinancePast
from mdstream.venues.timed import Endpoint, Timed


class BinanceTimed(BinancePast, Timed):
    intervals: ClassVar = {
        each: each for each in ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")
    }
    bars = Endpoint(
        "/api/v3/klines?symbol={symbol}&interval={interval}&startTime={begin_ms}&endTime={last_ms}&limit={rows}",
        1_000,
        2.0,
    )
