"""Bybit V5 linear: kline, as of spot; volumes are in units of base, turnovers in quote currency.

Source: bybit-exchange/docs, docs/v5/market/kline (read 2026-11).
"""

from __future__ import annotations

from mdstream.venues.bybit.timed import QUERY, BybitTimed
from mdstream.venues.timed import Endpoint


class BybitLinearTimed(BybitTimed):
    name = "bybit_linear"
    bars = Endpoint(f"/v5/market/kline?category=linear&{QUERY}", 1_000)
