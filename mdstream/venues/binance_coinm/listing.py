"""Binance COIN-M futures: exchangeInfo, and the volumes of ticker/24hr.

Source: developers.binance.com, derivatives, coin-margined-futures: Exchange-Information and
24hr-Ticker-Price-Change-Statistics (unconfirmed).
Limits: exchangeInfo costs a weight of 1, ticker/24hr of all symbols 40, of 2,400 a minute.
Quirks: the status is `contractStatus`; a contract is worth `contractSize` of the quote currency; `volume` counts
contracts, and there is no quoteVolume.
"""

from __future__ import annotations

from typing import ClassVar

from mdstream.venues.binance.listing import BinanceListing


class BinanceCoinmListing(BinanceListing):
    name = "binance_coinm"
    default_url = "https://dapi.binance.com"
    sandbox_url: ClassVar[str | None] = None
    targets = ("/dapi/v1/exchangeInfo",)
    volume_targets = ("/dapi/v1/ticker/24hr",)
    volumes_in_contracts = True
