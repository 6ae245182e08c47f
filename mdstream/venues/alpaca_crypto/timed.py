"""Alpaca's crypto: bars and trades of its own exchange.

Source: docs.alpaca.markets, historical crypto data (read 2026-09); alpacahq/alpaca-py, whose client needs no keys here.
Limits: as for the stocks (mdstream/venues/alpaca/timed.py).
Reach: from 2021 on; what is older than its exchange is another venue's. A bar of a day begins at midnight in Chicago.
"""

from __future__ import annotations

from collections.abc import Mapping

from mdstream.venues.alpaca.timed import AlpacaTimed
from mdstream.venues.timed import Endpoint


class AlpacaCryptoTimed(AlpacaTimed):
    name = "alpaca_crypto"
    bars = Endpoint(
        "/v1beta3/crypto/us/bars?symbols={symbol}&timeframe={interval}&start={begin_iso}&end={last_iso}&limit={rows}"
        "&sort=asc",
        10_000,
    )
    trades = Endpoint(
        "/v1beta3/crypto/us/trades?symbols={symbol}&start={begin_iso}&end={last_iso}&limit={rows}&sort=asc", 5_000
    )

    def headers(self, settings: Mapping[str, str]) -> Mapping[str, str]:  # noqa: ARG002
        return {}
