"""Binance spot: historicalTrades for the id space `trade`, aggTrades for `aggTrade`, both upwards from an id.

Source: binance/binance-spot-api-docs, rest-api.md and errors.md (read 2026-07).
Limits: 6,000 units of weight per minute and address; aggTrades costs 4, historicalTrades 25. Each answer reports in
X-MBX-USED-WEIGHT-1M how much the address has used. 429 and 418 come with Retry-After; ignoring them leads to a ban.
Reach: from the first trade on. data-api.binance.vision has no historicalTrades.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from mdstream.venues.history import Endpoint, History
from mdstream.venues.past import Limits, Past
from mdstream.venues.rest import Api, Complaint

SITES = {
    **dict.fromkeys(("stream.binance.com", "data-stream.binance.vision", "data-api.binance.vision"), "Binance"),
    **dict.fromkeys((f"api{which}.binance.com" for which in ("", 1, 2, 3, 4, "-gcp")), "Binance"),
    **dict.fromkeys(("stream.binance.us", "api.binance.us"), "Binance.US"),
    **dict.fromkeys(("stream.testnet.binance.vision", "testnet.binance.vision"), "Binance's testnet"),
    **dict.fromkeys(("fstream.binance.com", "fapi.binance.com"), "Binance USD-M futures"),
    **dict.fromkeys(("dstream.binance.com", "dapi.binance.com"), "Binance COIN-M futures"),
}
REQUEST_IS_WRONG = range(-1199, -1099)
"""Codes for an error in the request (-1121: invalid symbol). Codes above describe the venue's own state."""


class _Error(msgspec.Struct):
    code: int
    msg: str = ""


class BinanceApi(Api):
    name = "binance"
    default_url = "https://api.binance.com"
    sandbox_url: ClassVar[str | None] = "https://testnet.binance.vision"
    error = _Error

    def complaint(self, status: int, error: _Error) -> Complaint | None:
        """{"code":-1121,"msg":"Invalid symbol."}"""
        return Complaint(f"{error.code} {error.msg}", status in (400, 404) and error.code in REQUEST_IS_WRONG)


class BinancePast(BinanceApi, Past):
    sites = SITES
    weight_per_minute: ClassVar[int] = 6_000
    limits = Limits(per_s=6_000 / 2 / 60, burst=300.0)  # half of it: others may use the same address

    def load(self, headers: Mapping[str, str]) -> float | None:
        used = headers.get("x-mbx-used-weight-1m", "")
        return float(used) / self.weight_per_minute if used.isascii() and used.isdigit() else None


class BinanceHistory(BinancePast, History):
    endpoints: ClassVar = {
        "trade": Endpoint("/api/v3/historicalTrades?symbol={symbol}&fromId={first}&limit={rows}", 25.0),
        "aggTrade": Endpoint("/api/v3/aggTrades?symbol={symbol}&fromId={first}&limit={rows}", 4.0),
    }
    newest_first = False
    most_rows = 1_000
