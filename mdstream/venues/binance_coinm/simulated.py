"""Binance COIN-M futures as the simulator serves them: the streams of USD-M at one address, sizes in contracts.

Source: developers.binance.com, derivatives, coin-margined-futures, websocket-market-streams (read 2026-11). Our choices
where it is silent are those of USD-M.
"""

from __future__ import annotations

from typing import ClassVar

from mdstream.venues.binance.simulated import entry
from mdstream.venues.binance_coinm import feed
from mdstream.venues.binance_usdm import simulated as usdm

ROOT = entry(usdm.PUBLIC | usdm.MARKET)


class BinanceCoinm(usdm.BinanceUsdm):
    name = "binance_coinm"
    path = "/stream"
    entries: ClassVar = {"": ROOT}
    channels = ROOT.combined
    quotes = feed.QUOTES
    contracts = feed.BinanceCoinm.symbols
    whole_sizes = True
