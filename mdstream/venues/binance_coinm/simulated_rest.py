"""Binance COIN-M futures over REST: aggTrades, as on spot, with a smaller budget and no `M`.

Source: developers.binance.com, derivatives, coin-margined-futures, Compressed-Aggregate-Trades-List (read 2026-11). Our
choices where it is silent are those of spot.
"""

from __future__ import annotations

from typing import ClassVar

from mdstream.simulator.rest import Budget
from mdstream.venues.binance.simulated_rest import BinanceRest


class BinanceCoinmRest(BinanceRest):
    name = "binance_coinm"
    venue_budget = Budget(2400, 60.0)
    endpoints: ClassVar = {"/dapi/v1/aggTrades": (20, {"symbol", "fromId", "startTime", "endTime", "limit"})}
    best_match: ClassVar = {}
