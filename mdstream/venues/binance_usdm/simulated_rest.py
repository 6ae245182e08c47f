"""Binance USD-M futures over REST: exchangeInfo and ticker/24hr, in the forms of spot, with a smaller budget.

Source: developers.binance.com, derivatives, usds-margined-futures: Exchange-Information and
24hr-Ticker-Price-Change-Statistics (unconfirmed). Our choices where it is silent are those of spot.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mdstream.simulator.listing import Listing
from mdstream.simulator.rest import Budget
from mdstream.venues.binance.simulated_rest import BinanceRest, filters


class BinanceUsdmRest(BinanceRest):
    name = "binance_usdm"
    venue_budget = Budget(2400, 60.0)
    endpoints: ClassVar = {
        "/fapi/v1/exchangeInfo": (1, set()),
        "/fapi/v1/ticker/24hr": (40, {"symbol"}),
    }

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
