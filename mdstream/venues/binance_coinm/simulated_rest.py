"""Binance COIN-M futures over REST: aggTrades, as on spot, with a smaller budget and no `M`, exchangeInfo, ticker/24hr.

Source: developers.binance.com, derivatives, coin-margined-futures: Compressed-Aggregate-Trades-List,
Exchange-Information and 24hr-Ticker-Price-Change-Statistics (unconfirmed). Our choices where it is silent are those of
spot.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mdstream.simulator.listing import Listing
from mdstream.simulator.rest import Budget
from mdstream.venues.binance_usdm.simulated_rest import BinanceUsdmRest


class BinanceCoinmRest(BinanceUsdmRest):
    name = "binance_coinm"
    venue_budget = Budget(2400, 60.0)
    endpoints: ClassVar = {
        "/dapi/v1/aggTrades": (20, {"symbol", "fromId", "startTime", "endTime", "limit"}),
        "/dapi/v1/exchangeInfo": (1, set()),
        "/dapi/v1/ticker/24hr": (40, {"symbol"}),
    }
    best_match: ClassVar = {}

    def rules(self, listing: Listing) -> dict[str, Any]:
        rules = super().rules(listing)
        size = 100 if rules["baseAsset"] == "BTC" else 10
        status = rules.pop("status")
        return rules | {"contractStatus": status, "contractSize": size, "marginAsset": rules["baseAsset"]}

    def ticker(self, listing: Listing) -> dict[str, Any]:
        ticker = super().ticker(listing)
        del ticker["quoteVolume"]
        return ticker | {"pair": listing.symbol.partition("_")[0], "baseVolume": "0"}
