"""Binance COIN-M futures: aggTrades, upwards from an id.

Source: developers.binance.com, derivatives, coin-margined-futures, Compressed-Aggregate-Trades-List (read 2026-11).
Limits: 2,400 units of weight per minute and address, reported as on spot; aggTrades costs 20.
Reach: one year. Trades of the insurance fund and of ADL have no aggregates.
"""

from __future__ import annotations

from typing import ClassVar

from mdstream.venues.binance.history import BinanceHistory
from mdstream.venues.history import Endpoint
from mdstream.venues.past import Limits


class BinanceCoinmHistory(BinanceHistory):
    name = "binance_coinm"
    default_url = "https://dapi.binance.com"
    sandbox_url = None
    endpoints: ClassVar = {"aggTrade": Endpoint("/dapi/v1/aggTrades?symbol={symbol}&fromId={first}&limit={rows}", 20.0)}
    weight_per_minute = 2_400
    limits = Limits(per_s=2_400 / 2 / 60, burst=200.0)
