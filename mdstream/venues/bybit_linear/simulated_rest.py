"""Bybit V5 linear over REST: kline as of spot; instruments-info, in pages, and tickers.

Source: bybit-exchange/docs, docs/v5/market/kline (read 2026-11), docs/v5/market/instrument and docs/v5/market/tickers
(unconfirmed). Our choices where it is silent are those of spot.
"""

from __future__ import annotations

from typing import Any

from mdstream.simulator.listing import Listing
from mdstream.simulator.rest import step
from mdstream.venues.bybit.simulated_rest import BybitRest


class BybitLinearRest(BybitRest):
    name = "bybit_linear"
    category = "linear"
    paged = True

    def rules(self, listing: Listing) -> dict[str, Any]:
        base, quote = self._exchange.split(listing.symbol) or (listing.symbol, "")
        lot, perpetual = step(listing.instrument.size_decimals), listing.canonical.endswith("-PERP")
        return {
            "symbol": listing.symbol,
            "contractType": "LinearPerpetual" if perpetual else "LinearFutures",
            "status": "Trading",
            "baseCoin": base,
            "quoteCoin": quote,
            "settleCoin": quote,
            "deliveryTime": "0",
            "lotSizeFilter": {"qtyStep": lot, "minOrderQty": lot},
            "priceFilter": {"tickSize": step(listing.instrument.price_decimals)},
        }
