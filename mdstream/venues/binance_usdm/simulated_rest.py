"""Binance USD-M futures over REST: klines, exchangeInfo and ticker/24hr, in the forms of spot, with a smaller budget.

Source: developers.binance.com, derivatives, usds-margined-futures: Kline-Candlestick-Data, Exchange-Information and
24hr-Ticker-Price-Change-Statistics (unconfirmed). Our choices where it is silent are those of spot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mdstream.simulator.listing import Listing
from mdstream.simulator.rest import Budget, is_number
from mdstream.venues.binance.simulated_rest import DEFAULT_LIMIT, KLINES, BinanceRest, filters

KLINE_WEIGHTS = ((100, 1), (500, 2), (1_001, 5))
"""Below this limit klines cost this."""


class BinanceUsdmRest(BinanceRest):
    name = "binance_usdm"
    venue_budget = Budget(2400, 60.0)
    intervals = KLINES[1:]
    max_limit = 1_500
    endpoints: ClassVar = {
        "/fapi/v1/klines": (0, {"symbol", "interval", "startTime", "endTime", "limit"}),
        "/fapi/v1/exchangeInfo": (1, set()),
        "/fapi/v1/ticker/24hr": (40, {"symbol"}),
    }

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        if not path.endswith("klines"):
            return super().weight(path, query)
        limit = int(query["limit"]) if is_number(query.get("limit", "")) else DEFAULT_LIMIT
        return next((weight for below, weight in KLINE_WEIGHTS if limit < below), 10)

    def rules(self, listing: Listing) -> dict[str, Any]:
        base, quote = self._exchange.split(listing.symbol) or (listing.symbol, "")
        perpetual, i = listing.canonical.endswith("-PERP"), listing.instrument
        return {
            "symbol": listing.symbol,
            "pair": f"{base}{quote}",
            "contractType": "PERPETUAL" if perpetual else "CURRENT_QUARTER",
            "status": "TRADING",
            "baseAsset": base,
            "quoteAsset": quote,
            "marginAsset": quote,
            "pricePrecision": i.price_decimals,
            "quantityPrecision": i.size_decimals,
            "filters": filters(listing),
        }
