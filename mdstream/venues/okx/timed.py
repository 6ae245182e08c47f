"""OKX: history-candles, of spot.

Source: OKX API guide v5, REST, market data (read 2026-11).
Limits: those of history.py, for itself.
Reach: years; three months of seconds. An interval without trades has a candle, too.
Quirks: `after` means older and `before` newer, neither included; candles of six hours and more begin at midnight in
Hong Kong unless their name ends in utc.
Contracts have none here (feed.py).
"""

from __future__ import annotations

from typing import ClassVar

from mdstream.errors import SymbolError
from mdstream.venues.okx.feed import CONTRACT
from mdstream.venues.okx.history import OkxPast
from mdstream.venues.timed import Endpoint, Timed
from mdstream.venues.times import SECOND_NS

HOURS = {"6h": "6Hutc", "12h": "12Hutc", "1d": "1Dutc"} | {f"{hours}h": f"{hours}H" for hours in (1, 2, 4)}


class OkxTimed(OkxPast, Timed):
    intervals: ClassVar = {each: each for each in ("1s", "1m", "3m", "5m", "15m", "30m")} | HOURS
    bars = Endpoint(
        "/api/v5/market/history-candles?instId={symbol}&bar={interval}&after={end_ms}&before={before_ms}&limit={rows}",
        300,
    )
    reach_ns = 90 * 86_400 * SECOND_NS
    near = ("1s",)

    def name_of(self, symbol: str) -> str:
        if "-" in symbol:
            raise SymbolError(self.name, symbol, CONTRACT)
        return super().name_of(symbol)
