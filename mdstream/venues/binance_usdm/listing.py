"""Binance USD-M futures: exchangeInfo, and the volumes of ticker/24hr, in the forms of spot.

Source: developers.binance.com, derivatives, usds-margined-futures: Exchange-Information and
24hr-Ticker-Price-Change-Statistics (unconfirmed).
Limits: exchangeInfo costs a weight of 1, ticker/24hr of all symbols 40, of 2,400 a minute.
Quirks: sizes are units of base, so a contract is one.
"""

from __future__ import annotations

from typing import ClassVar

from mdstream.venues.binance.listing import BinanceListing


class BinanceUsdmListing(BinanceListing):
    name = "binance_usdm"
    default_url = "https://fapi.binance.com"
    sandbox_url: ClassVar[str | None] = None
    targets = ("/fapi/v1/exchangeInfo",)
    volume_targets = ("/fapi/v1/ticker/24hr",)
