"""Binance USD-M futures: klines, in the form of spot's.

Source: developers.binance.com, derivatives, usds-margined-futures, Kline-Candlestick-Data (unconfirmed).
Limits: 2,400 units of weight per minute and address, reported as on spot; more than 1,000 klines cost 10, 500 to 1,000
cost 5, and 499 cost 2, the least for each of them.
Reach: from the first trade on. An interval without trades has a kline, too.
"""

from __future__ import annotations

from typing import ClassVar

from mdstream.venues.binance.timed import BinanceTimed
from mdstream.venues.past import Limits
from mdstream.venues.timed import Endpoint


class BinanceUsdmTimed(BinanceTimed):
    name = "binance_usdm"
    default_url = "https://fapi.binance.com"
    sandbox_url: ClassVar[str | None] = None
    intervals: ClassVar = {
        each: each for each in ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")
    }
    bars = Endpoint(
        "/fapi/v1/klines?symbol={symbol}&interval={interval}&startTime={begin_ms}&endTime={last_ms}&limit={rows}",
        499,
        2.0,
    )
    weight_per_minute = 2_400
    limits = Limits(per_s=2_400 / 2 / 60, burst=200.0)
